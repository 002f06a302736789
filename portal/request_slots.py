"""A reserve for people: agents and slow clients never take all threads of a web process.

A thread that reads a body waits for its sender, and one that serves an agent may wait for a slow
system. Both are counted, and what would be too much is refused at once with 503, so that somebody
can always sign in and halt everything. A proxy that takes requests in whole (deploy/nginx.conf)
keeps slow senders away altogether, and is needed against senders with many addresses.
"""

import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Condition, Lock

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.http.request import UnreadablePostError

from common.known_tokens import identity_of
from common.parsers import MAX_BODY_BYTES
from common.problems import as_page_free_problem
from common.request_context import client_address
from portal.failures import answered, is_for_agents

log = logging.getLogger(__name__)

# Of a process with 24 threads 18 serve agents, 3 read bodies of agents and 2 of people, and one at
# least is left for people.
SERVING_AGENTS = max(settings.WEB_THREADS - 6, 1)
READING_FOR_AGENTS = max(settings.WEB_THREADS // 8, 1)
READING_FOR_PEOPLE = max(settings.WEB_THREADS // 12, 1)
# One identity leaves some for others.
SERVING_ONE_IDENTITY = max(SERVING_AGENTS - 3, 1)
# A body that has been sent is read within microseconds.
_PATIENCE_SECONDS = 0.25
# Their views refuse a long body themselves, with an OAuth error, before they read it.
_REFUSE_LONG_BODIES = tuple(
    f"/oauth/{name}" for name in ("token", "enrol", "keys", "revoke", "introspect")
)


class NoSlot(Exception):
    """Every slot that this sender may take is taken."""


@dataclass
class Slots:
    """At most `size` at once, and `per_sender` of one sender; the next one waits a moment."""

    size: int
    per_sender: int
    patience_seconds: float
    _taken: Counter[str] = field(default_factory=Counter)
    _waiting: int = 0
    _changed: Condition = field(default_factory=Condition)

    @contextmanager
    def taken(self, sender: str) -> Iterator[None]:
        """Raises NoSlot."""
        with self._changed:
            if not self._is_free(sender):
                self._wait(sender)
            self._taken[sender] += 1
        try:
            yield
        finally:
            with self._changed:
                self._taken[sender] -= 1
                if not self._taken[sender]:
                    del self._taken[sender]
                if self._waiting:
                    self._changed.notify_all()

    def _wait(self, sender: str) -> None:
        """Wait for a free slot. A waiting request holds a thread too, so waiting is limited too."""
        if self._waiting >= self.size:
            raise NoSlot
        self._waiting += 1
        try:
            if not self._changed.wait_for(lambda: self._is_free(sender), self.patience_seconds):
                raise NoSlot
        finally:
            self._waiting -= 1

    def _is_free(self, sender: str) -> bool:
        return self._taken.total() < self.size and self._taken[sender] < self.per_sender


@dataclass
class Refusals:
    """Tells the operator about refused calls at most once in a while, with their number."""

    quiet_seconds: float = 10.0
    _count: int = 0
    _reported_at: float = field(default_factory=lambda: -math.inf)
    _lock: Lock = field(default_factory=Lock)

    def report(self) -> None:
        with self._lock:
            self._count += 1
            now = time.monotonic()
            if now - self._reported_at < self.quiet_seconds:
                return
            count, self._count, self._reported_at = self._count, 0, now
        log.warning("All web slots of a sender are taken: %s calls refused with 503 busy", count)


def _reading(size: int) -> Slots:
    return Slots(size, max(size - 1, 1), _PATIENCE_SECONDS)


_reading_for_agents = _reading(READING_FOR_AGENTS)
_reading_for_people = _reading(READING_FOR_PEOPLE)
_refusals = Refusals()
_serving = Slots(SERVING_AGENTS, SERVING_ONE_IDENTITY, 0)


class SlotsMiddleware:
    """Read bodies, and serve agents, within the slots there are."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        for_agents = is_for_agents(request)
        reading = _reading_for_agents if for_agents else _reading_for_people
        try:
            length = _body_bytes(request)
            if length > _max_body_bytes(request):
                if request.path.startswith(_REFUSE_LONG_BODIES):
                    return self.get_response(request)
                return answered(request, 413)
            if length:
                with reading.taken(client_address(request)):
                    request.body  # noqa: B018 - Django keeps it on the request
            if not for_agents:
                return self.get_response(request)
            with _serving.taken(_sender(request)):
                return self.get_response(request)
        except NoSlot:
            return _busy(request)
        except UnreadablePostError:
            return answered(request, 400)


def _sender(request: HttpRequest) -> str:
    """Return the identity whose token was used here before, or the address of any other request.

    The token may have ended meanwhile: the name decides on a slot and on nothing else.
    """
    token = str(request.META.get("HTTP_AUTHORIZATION", "")).partition(" ")[2].strip()
    named = identity_of(token) if token else None
    return client_address(request) if named is None else f"identity {named}"


def _max_body_bytes(request: HttpRequest) -> int:
    is_api = request.path.startswith("/api/")
    return MAX_BODY_BYTES if is_api else int(settings.DATA_UPLOAD_MAX_MEMORY_SIZE)


def _body_bytes(request: HttpRequest) -> int:
    text = str(request.META.get("CONTENT_LENGTH") or "0")
    return int(text[:20]) if text.isascii() and text.isdigit() else 0


def _busy(request: HttpRequest) -> HttpResponse:
    if not is_for_agents(request):
        return answered(request, 503)
    message = "The portal is busy with other calls. Send the request again with the same key."
    response = as_page_free_problem("busy", message, http_status=503)
    response["Retry-After"] = "1"
    # Django would write an error for each, and a log that a busy agent fills hides what matters.
    response._has_been_logged = True  # type: ignore[attr-defined] # noqa: SLF001 - its own mark
    _refusals.report()
    # Django's own middleware, which would say so, is not asked.
    response["Content-Length"] = str(len(response.content))
    return response
