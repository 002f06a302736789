"""Counting requests per minute in the shared cache."""

import time

from django.core.cache import caches
from redis.exceptions import RedisError

from common.errors import GovernanceError


class CacheAway(Exception):
    """The shared cache cannot be reached, so that nothing can be counted."""


class TooManyRequests(GovernanceError):
    code = "too_many_requests"
    sentence = "Too many requests: wait a minute and try again."


def enforce_limit(name: str, *, per_minute: int) -> None:
    """Count one request under `name`; raises TooManyRequests beyond the limit.

    The window is the wall-clock minute: a counter in the cache that all processes share. Raises
    CacheAway if it cannot be reached: what cannot be counted is not served.
    """
    if count_in_minute(name) > per_minute:
        raise TooManyRequests


def count_in_minute(name: str) -> int:
    """Count one more under `name` and return the count of this minute of the wall clock. Raises
    CacheAway.
    """
    window = int(time.time() // 60)
    return counted(f"rate:{name}:{window}", seconds=90)


def counted(key: str, *, seconds: int) -> int:
    """Count one more under the key, which is forgotten after `seconds`. Raises CacheAway."""
    cache = caches["counters"]
    try:
        try:
            return int(cache.incr(key))
        except ValueError:  # nothing is counted under the key yet
            return 1 if cache.add(key, 1, timeout=seconds) else int(cache.incr(key))
    except ValueError:  # the key expired between the two calls: a new window has begun
        return 1
    except (RedisError, OSError) as error:
        raise CacheAway from error
