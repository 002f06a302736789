from celery import shared_task

from audit import verifying
from audit.services import (
    change_reconciliation,
    delivery,
    retention,
    sealer,
    search_index,
    witness_client,
)


@shared_task(name="audit.seal")
def seal() -> int:
    return sealer.seal()


@shared_task(name="audit.index_events")
def index() -> int:
    return search_index.index()


@shared_task(name="audit.forward_events")
def forward() -> int:
    return delivery.forward_all()


@shared_task(name="audit.verify")
def verify() -> int:
    return verifying.verify_and_note().found


@shared_task(name="audit.request_cosignatures")
def witness() -> int:
    return witness_client.request_cosignatures()


@shared_task(name="audit.reconcile")
def reconcile() -> int:
    return change_reconciliation.reconcile()


@shared_task(name="audit.apply_retention")
def retain() -> int:
    return retention.retain()
