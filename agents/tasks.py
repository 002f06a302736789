from celery import shared_task

from agents.services import (
    assertions,
    certifying,
    enrolment,
    issuer_keys,
    issuing,
    signing,
    sponsors,
)


@shared_task(name="agents.prune_assertions")
def prune_assertions() -> int:
    return assertions.prune() + issuing.prune_revoked()


@shared_task(name="agents.rotate_keys")
def rotate_keys() -> int:
    """The portal's signing keys, and what is over of the agents' own."""
    return signing.rotate_due() + enrolment.supersede_due()


@shared_task(name="agents.refresh_issuer_keys")
def refresh_issuer_keys() -> int:
    return issuer_keys.refresh_due()


@shared_task(name="agents.look_after_people")
def look_after_people() -> int:
    """Sponsors who have left, and agents that nobody has confirmed."""
    return sponsors.suspend_unsponsored() + certifying.look_after()
