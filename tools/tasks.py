from celery import shared_task

from tools.services import leasing


@shared_task(name="tools.prune_leases")
def prune_leases() -> int:
    return leasing.prune()
