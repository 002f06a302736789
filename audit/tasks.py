from celery import shared_task

from audit.services import sealing, witnessing


@shared_task(name="audit.seal")
def seal() -> int:
    return sealing.seal()


@shared_task(name="audit.witness")
def witness() -> int:
    return witnessing.ask_all()
