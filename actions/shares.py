"""What one identity may take of the workers: the slow calls of one agent leave room for others."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from django.conf import settings
from django.core.cache import caches
from redis.exceptions import RedisError

from actions.models import Action

# Beyond the longest call: a worker that was killed gives its share back by then.
_FORGOTTEN_SECONDS = 420
_AGAIN_SECONDS = 10


class ShareTaken(Exception):
    """Workers carry out as many calls of this identity as its share admits."""


@contextmanager
def share_of_workers(action_id: str) -> Iterator[None]:
    """Raises ShareTaken. Without the shared cache nothing is counted, and nothing kept back."""
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
        cache.add(key, 0, timeout=_FORGOTTEN_SECONDS)
        if cache.incr(key) <= settings.WORKER_SHARE:
            return True
        cache.decr(key)
    except ValueError:  # it was forgotten between the two calls
        return False
    except (RedisError, OSError):
        return False
    raise ShareTaken


def note_again(action_id: str) -> bool:
    """Whether nothing is on its way yet that will try this action again."""
    try:
        return bool(caches["counters"].add(f"again:{action_id}", 1, timeout=_AGAIN_SECONDS))
    except (RedisError, OSError):
        return False  # the sweeper finds it


def forget_again(action_id: str) -> None:
    with suppress(RedisError, OSError):
        caches["counters"].delete(f"again:{action_id}")
