"""How many calls of one identity workers carry out at a time: slow ones leave room for others."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from django.conf import settings
from django.core.cache import caches
from redis.exceptions import RedisError

from actions.models import Action

# Beyond the longest call: the count of a worker that was killed is forgotten by then.
_COUNT_SECONDS = 420
_RETRY_SECONDS = 10


class ShareTaken(Exception):
    """Workers carry out as many calls of this identity as `WORKER_SHARE` admits."""


@contextmanager
def share_of_workers(action_id: str) -> Iterator[None]:
    """Count a call for as long as it lasts. Raises ShareTaken.

    Without the shared cache nothing is counted and nothing is refused.
    """
    rows = Action.objects.filter(pk=action_id)
    identity = rows.values_list("run__identity_id", flat=True).first()
    key = f"workers:{identity}"
    is_counted = identity is not None and _count(key)
    try:
        yield
    finally:
        if is_counted:
            with suppress(ValueError, RedisError, OSError):
                caches["counters"].decr(key)


def _count(key: str) -> bool:
    """Count one more. Raises ShareTaken."""
    cache = caches["counters"]
    try:
        cache.add(key, 0, timeout=_COUNT_SECONDS)
        if cache.incr(key) <= settings.WORKER_SHARE:
            return True
        cache.decr(key)
    except ValueError:  # it expired between the two calls
        return False
    except (RedisError, OSError):
        return False
    raise ShareTaken


def reserve_retry(action_id: str) -> bool:
    """Return whether the caller shall send the retry of this action: nobody else has yet."""
    try:
        return bool(caches["counters"].add(f"retry:{action_id}", 1, timeout=_RETRY_SECONDS))
    except (RedisError, OSError):
        return False  # the sweeper finds it


def release_retry(action_id: str) -> None:
    with suppress(RedisError, OSError):
        caches["counters"].delete(f"retry:{action_id}")
