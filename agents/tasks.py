from celery import shared_task

from agents.services import (
    assertions,
    enrolment,
    issuer_keys,
    recertification,
    signing_keys,
    sponsors,
    token_service,
)


@shared_task(name="agents.prune_assertions")
def prune_assertions() -> int:
    return assertions.prune() + token_service.prune_revoked()


@shared_task(name="agents.rotate_keys")
def rotate_keys() -> int:
    """The portal's signing keys, and what is over of the agents' own."""
    return signing_keys.rotate_due() + enrolment.supersede_due()


@shared_task(name="agents.refresh_issuer_keys")
def refresh_issuer_keys() -> int:
    return issuer_keys.refresh_due()


@shared_task(name="agents.recertify")
def recertify() -> int:
    """Sponsors who have left, and agents that nobody has confirmed."""
    return sponsors.suspend_unsponsored() + recertification.run_recertification()
