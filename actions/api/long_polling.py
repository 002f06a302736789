"""Answering when something is over, or the caller's time is, or the caller's right to ask."""

import re
import time
from collections.abc import Callable
from threading import BoundedSemaphore
from typing import Any, Protocol, TypeVar

from django.db import connection
from rest_framework.request import Request

from actions.in_flight import watcher
from agents.directory import directory
from agents.tokens import Caller, revalidate

MAX_WAIT_SECONDS = 30
POLL_SECONDS = 0.25
# Half of a web process's threads (Procfile): the other half always serves.
MAX_WAITING = 6
_waiting = BoundedSemaphore(MAX_WAITING)

T = TypeVar("T")


class AgentRequestView(Protocol):
    """A view with an agent's request."""

    request: Request

    @property
    def caller(self) -> Caller: ...


def long_poll(view: AgentRequestView, read: Callable[[], T], is_over: Callable[[T], bool]) -> T:
    """Return the result of `read`: at once, or with `?wait=` when it is final or the time is up.

    A waiting caller holds a thread. When many wait, the next is answered at once instead. Raises
    InvalidToken as soon as the caller was stopped.
    """
    seconds = _wait_seconds(view.request.query_params.get("wait"))
    if not seconds or not _waiting.acquire(blocking=False):
        return read()
    try:
        return _polled(view.caller, read, is_over, time.monotonic() + seconds)
    finally:
        _waiting.release()


def _polled(
    caller: Caller, read: Callable[[], T], is_over: Callable[[T], bool], deadline: float
) -> T:
    while True:
        revalidate(caller, directory.current())
        found = read()
        left = deadline - time.monotonic()
        if is_over(found) or left <= 0:
            return found
        # It holds no database connection while it waits.
        if not connection.in_atomic_block:
            connection.close()
        watcher.pause(min(POLL_SECONDS, left))


def _wait_seconds(text: Any) -> int:
    is_number = bool(text) and re.fullmatch("[0-9]{1,3}", text or "") is not None
    return min(int(text or 0), MAX_WAIT_SECONDS) if is_number else 0
