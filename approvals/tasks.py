from celery import shared_task

from approvals import services


@shared_task(name="approvals.expire_overdue")
def expire_overdue() -> int:
    return services.expire_overdue()


@shared_task(name="approvals.flag_undecidable")
def flag_undecidable() -> int:
    return services.flag_undecidable()
