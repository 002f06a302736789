"""Calls in flight in this process, and the watcher that cuts those that a halt covers.

What is not yet decided is stopped by the deciding transaction, exactly. What has been sent can
only be cut off: the watcher hears of every change that decisions depend on (PostgreSQL's NOTIFY,
with a poll behind it; a poll on SQLite), and shuts the connection of each call that is covered by
a halt, or whose agent was stopped.
"""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Condition, Event, Lock, Thread

import psycopg
from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connection

from actions.errors import HaltWatcherStale
from actions.models import Action, Run
from agents.directory import Directory, directory, stops_of
from audit.generation import CHANNEL, current_mark
from common.cancellation import CancellableCall
from tools.definitions import ToolSpec

log = logging.getLogger(__name__)

POLL_SECONDS = 0.2
LISTEN_SECONDS = 1.0
# Longer than any poll, shorter than anybody's patience: then calls are refused (503).
STALE_SECONDS = 5.0
FIRST_LOOK_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class InFlight:
    """A call that is being made: what could stop it, and the means to."""

    environment: str
    system: str
    tool: str
    # Who acts, and each agent that is acted for, with the epoch that the call was decided in.
    parties: tuple[tuple[str, int | None], ...]
    flight: CancellableCall

    @property
    def client_ids(self) -> list[str]:
        return [client_id for client_id, _ in self.parties]

    def is_stopped(self, known: Directory) -> bool:
        return any(self._stops(known, *party) for party in self.parties)

    def _stops(self, known: Directory, client_id: str, epoch: int | None) -> bool:
        identity = known.identities.get(client_id)
        if identity is None or not identity.usable or epoch not in {None, identity.epoch}:
            return True
        covered = known.halt_covering(
            agent=identity.agent_slug,
            environment=self.environment,
            system=self.system,
            tool=self.tool,
        )
        return covered is not None


class HaltWatcher:
    """One thread per process, begun with its first call."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._moved = Condition()
        self._flying: set[InFlight] = set()
        self._process = 0
        self._looked_at = 0.0
        self._mark: int | None = None
        self._cutting = False
        self._ending = Event()
        self._thread: Thread | None = None

    def ensure_running(self) -> None:
        """Raises HaltWatcherStale if what is sent now could not be cut."""
        if not settings.HALT_WATCHER_ENABLED:
            return
        with self._lock:
            if self._process != os.getpid():
                self._process, self._looked_at = os.getpid(), 0.0
                self._mark, self._ending = None, Event()
                self._thread = Thread(target=self._watch, name="halt-watcher", daemon=True)
                self._thread.start()
        until = time.monotonic() + FIRST_LOOK_SECONDS
        while self._looked_at == 0.0 and time.monotonic() < until:
            self.pause(0.02)
        if time.monotonic() - self._looked_at > STALE_SECONDS:
            raise HaltWatcherStale

    def stop(self) -> None:
        """End the thread; the next call begins another."""
        self._ending.set()
        if self._thread is not None and self._process == os.getpid():
            self._thread.join()
        self._process = 0

    def pause(self, seconds: float) -> None:
        """Wait; shorter if something that decisions depend on has changed."""
        with self._moved:
            self._moved.wait(seconds)

    @contextmanager
    def track(self, action: Action, spec: ToolSpec) -> Iterator[CancellableCall]:
        """Within it the call is being made."""
        run = Run.objects.only("chain", "chain_epochs").get(pk=action.run_id)
        acting = (f"{action.agent}.{action.environment}", action.epoch)
        behind = ((client_id, run.chain_epochs.get(client_id)) for client_id in run.chain)
        one = InFlight(
            environment=action.environment,
            system=spec.system,
            tool=spec.full_name,
            parties=(acting, *behind),
            flight=CancellableCall(),
        )
        with self._lock:
            self._flying.add(one)
        try:
            if settings.HALT_WATCHER_ENABLED and self._was_stopped(one):
                one.flight.cancel()
            yield one.flight
        finally:
            with self._lock:
                self._flying.discard(one)

    def _was_stopped(self, one: InFlight) -> bool:
        """Whether it was stopped between its decision and now. What is stopped from now on, the
        watcher finds among what flies; what it has seen before, this process may not know yet.
        """
        mark, known = directory.cached_with_version()
        if one.is_stopped(known):
            return True
        return self._mark not in {None, mark} and one.is_stopped(stops_of(one.client_ids))

    def check_once(self) -> None:
        """Cut what was stopped since the last look. Raises the database's errors."""
        mark = current_mark()
        if mark != self._mark or self._cutting:
            # From here on, what is added looks for itself. If this fails, it is begun again.
            self._mark, self._cutting = mark, True
            with self._lock:
                flying = list(self._flying)
            named = {client_id for one in flying for client_id in one.client_ids}
            known = stops_of(named) if flying else None
            for one in flying:
                if known is not None and one.is_stopped(known):
                    one.flight.cancel()
            self._cutting = False
            with self._moved:
                self._moved.notify_all()
        self._looked_at = time.monotonic()

    def _watch(self) -> None:
        while not self._ending.is_set():
            try:
                self._listen()
            except (DatabaseError, psycopg.Error) as error:
                log.warning("the watcher of halts has lost the database: %s", type(error).__name__)
                connection.close()
                self._ending.wait(POLL_SECONDS)
        connection.close()

    def _listen(self) -> None:
        if connection.vendor != "postgresql":
            while not self._ending.is_set():
                self.check_once()
                self._ending.wait(POLL_SECONDS)
            return
        with connection.cursor() as cursor:
            cursor.execute(f"LISTEN {CHANNEL}")
        while not self._ending.is_set():
            self.check_once()
            for _ in connection.connection.notifies(timeout=LISTEN_SECONDS, stop_after=1):
                pass


watcher = HaltWatcher()
