"""Counting requests per minute in the shared cache."""

import time

from django.core.cache import cache

from common.errors import GovernanceError


class TooManyRequests(GovernanceError):
    code = "too_many_requests"
    sentence = "Too many requests: wait a minute and try again."


def ensure_within(name: str, *, per_minute: int) -> None:
    """Count one request under `name`; raises TooManyRequests beyond the limit.

    The window is the wall-clock minute: a counter in the cache that all processes share.
    """
    window = int(time.time() // 60)
    key = f"rate:{name}:{window}"
    if cache.add(key, 1, timeout=90):
        return
    try:
        count = cache.incr(key)
    except ValueError:  # the key expired between the two calls: a new window has begun
        return
    if count > per_minute:
        raise TooManyRequests
