"""A limit of the calls of one identity that workers carry out at a time, so that slow ones leave
room for others.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from secrets import token_hex

from django.conf import settings
from django.core.cache import caches
from redis.exceptions import RedisError

from actions.models import Action

# Beyond the longest call, after which a worker is ended (CELERY_TASK_TIME_LIMIT): the share of one
# that was killed is free again by then.
_LEASE_SECONDS = 480
_RETRY_SECONDS = 10


class ShareTaken(Exception):
    """Workers carry out as many calls of this identity as `WORKER_SHARE` admits."""


@contextmanager
def share_of_workers(action_id: str) -> Iterator[None]:
    """Take one of the identity's shares for as long as the call lasts. Raises ShareTaken.

    Without the shared cache nothing is counted and nothing is refused.
    """
    rows = Action.objects.filter(pk=action_id)
    identity = rows.values_list("run__identity_id", flat=True).first()
    taken = _take(f"workers:{identity}") if identity is not None else None
    try:
        yield
    finally:
        if taken is not None:
            _give_back(*taken)


def _take(name: str) -> tuple[str, str] | None:
    """Return the key and the mark of a share that was free; None without the cache.

    Raises ShareTaken.

    Each share is a key of its own, which expires by itself: a number that expired while calls were
    on their way would be counted down by calls that it did not count.
    """
    mark = token_hex(8)
    try:
        for number in range(settings.WORKER_SHARE):
            if caches["counters"].add(f"{name}:{number}", mark, timeout=_LEASE_SECONDS):
                return f"{name}:{number}", mark
    except (RedisError, OSError):
        return None
    raise ShareTaken


def _give_back(key: str, mark: str) -> None:
    # Not that of somebody who took it when it had expired.
    with suppress(RedisError, OSError):
        if caches["counters"].get(key) == mark:
            caches["counters"].delete(key)


def reserve_retry(action_id: str) -> bool:
    """Return whether the caller shall send the retry of this action: nobody else has yet."""
    try:
        return bool(caches["counters"].add(f"retry:{action_id}", 1, timeout=_RETRY_SECONDS))
    except (RedisError, OSError):
        return False  # the sweeper finds it


def release_retry(action_id: str) -> None:
    with suppress(RedisError, OSError):
        caches["counters"].delete(f"retry:{action_id}")
