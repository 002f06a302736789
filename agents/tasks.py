from celery import shared_task

from agents.services import assertions, enrolment, issuing, signing


@shared_task(name="agents.prune_assertions")
def prune_assertions() -> int:
    return assertions.prune() + issuing.prune_revoked()


@shared_task(name="agents.rotate_keys")
def rotate_keys() -> int:
    """The portal's signing keys, and what is over of the agents' own."""
    return signing.rotate_due() + enrolment.supersede_due()
