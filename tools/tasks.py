from celery import shared_task

from tools.services import secret_leases


@shared_task(name="tools.prune_leases")
def prune_leases() -> int:
    return secret_leases.prune()
