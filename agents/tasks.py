from celery import shared_task

from agents.services import credentials


@shared_task(name="agents.prune_assertions")
def prune_assertions() -> int:
    return credentials.prune_assertions()
