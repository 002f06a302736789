from celery import shared_task

from audit import verifying
from audit.services import forwarding, indexing, reconciling, retaining, sealing, witnessing


@shared_task(name="audit.seal")
def seal() -> int:
    return sealing.seal()


@shared_task(name="audit.index")
def index() -> int:
    return indexing.index()


@shared_task(name="audit.forward")
def forward() -> int:
    return forwarding.forward_all()


@shared_task(name="audit.verify")
def verify() -> int:
    return verifying.verify_and_note().found


@shared_task(name="audit.witness")
def witness() -> int:
    return witnessing.ask_all()


@shared_task(name="audit.reconcile")
def reconcile() -> int:
    return reconciling.reconcile()


@shared_task(name="audit.retain")
def retain() -> int:
    return retaining.retain()
