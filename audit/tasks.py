from celery import shared_task

from audit.services import sealing


@shared_task(name="audit.seal")
def seal() -> int:
    return sealing.seal()
