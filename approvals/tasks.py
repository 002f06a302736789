from celery import shared_task

from approvals import services


@shared_task(name="approvals.settle_due")
def settle_due() -> int:
    return services.settle_due()


@shared_task(name="approvals.note_undecidable")
def note_undecidable() -> int:
    return services.note_undecidable()
