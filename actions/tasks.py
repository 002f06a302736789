import random
from contextlib import suppress
from uuid import UUID

from celery import shared_task

from actions import worker_shares
from actions.errors import CallInFlight
from actions.services import recovery, redecision, run_elevations, usage_monitor
from actions.worker_shares import ShareTaken, share_of_workers

# Beyond its identity's share of the workers: soon again, and not all at the same moment.
RETRY_SECONDS = (0.2, 1.0)
_jitter = random.SystemRandom()


# Acknowledged early: the message is a hint, the database holds the work, the sweeper finds it.
@shared_task(name="actions.execute")
def execute(action_id: str, *, is_retry: bool = False) -> None:
    if is_retry:
        worker_shares.release_retry(action_id)
    try:
        # Behind another call: it stays ready, and is hinted at again.
        with suppress(CallInFlight), share_of_workers(action_id):
            redecision.resume(UUID(action_id))
    except ShareTaken:
        # One retry for each action, however many hints of it there are.
        if worker_shares.reserve_retry(action_id):
            wait = _jitter.uniform(*RETRY_SECONDS)
            execute.apply_async((action_id,), {"is_retry": True}, countdown=wait)


@shared_task(name="actions.reap_abandoned")
def reap_abandoned() -> int:
    return recovery.reap_abandoned()


@shared_task(name="actions.discard_encrypted_arguments")
def discard_encrypted_arguments() -> int:
    return recovery.discard_encrypted_arguments()


@shared_task(name="actions.hint_overdue")
def hint_overdue() -> int:
    return recovery.hint_overdue()


@shared_task(name="actions.end_elevations")
def end_elevations() -> int:
    return run_elevations.end_due()


@shared_task(name="actions.watch_usage")
def watch_usage() -> int:
    return usage_monitor.watch()


@shared_task(name="actions.prune_usage")
def prune_usage() -> int:
    return usage_monitor.prune()
