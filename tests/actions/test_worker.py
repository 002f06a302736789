"""A real worker on a real broker, killed in the middle of a call."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone
from kombu import pools

from actions.models import Action, Attempt
from actions.services import recovery, redecision
from common.actors import SYSTEM
from common.task_queue import queue
from policies.services import grants
from portal.celery import app, send
from tests import factories
from tests.databases import url_of, valkey
from tests.factories import Governed
from tools.models import System, Tool
from tools.services.registration import define_tool, register_system, set_endpoint

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db(transaction=True)]


class Ledger(ThreadingHTTPServer):
    """An accounting service that honours idempotency keys; its first answer can be held back."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.effects: list[str] = []
        self.arrived = threading.Event()
        self.answer = threading.Event()
        super().__init__(("127.0.0.1", 0), LedgerRequest)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that was killed leaves a broken pipe: expected here."""


class LedgerRequest(BaseHTTPRequestHandler):
    server: Ledger

    def do_POST(self) -> None:
        key = self.headers["Idempotency-Key"]
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.calls.append(key)
        if key not in self.server.effects:
            self.server.effects.append(key)
        self.server.arrived.set()
        self.server.answer.wait(20)
        body = json.dumps({"booked": key}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Quiet."""


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    server = Ledger()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.answer.set()
    server.shutdown()
    server.server_close()


def reach(url: str, settings: Any) -> None:
    """Send this process's hints to that broker; Celery keeps its first connection otherwise."""
    settings.BROKER_URL = app.conf.broker_url = url
    app._pool = app.amqp._producer_pool = None
    pools.reset()  # type: ignore[no-untyped-call]  # kombu is untyped
    queue.connect(send)


@pytest.fixture
def broker(settings: Any) -> Iterator[str]:
    with valkey() as url:
        reach(url, settings)
        yield url


@contextlib.contextmanager
def worker(broker: str) -> Iterator["subprocess.Popen[bytes]"]:
    environment = os.environ | {
        "DATABASE_URL": url_of(connection),
        "BROKER_URL": broker,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
    }
    command = ["-m", "celery", "-A", "portal", "worker", "--concurrency", "1", "--pool", "solo"]
    process = subprocess.Popen(
        [sys.executable, *command],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=20)


def eventually(condition: Callable[[], bool]) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    pytest.fail("it did not come about")


def book_later(governed: Governed, ledger: Ledger) -> Action:
    system = register_system("ledger", actor=SYSTEM, title="Ledger", kind=System.Kind.HTTP)
    set_endpoint(
        system,
        governed.identity.environment,
        actor=SYSTEM,
        base_url=f"http://127.0.0.1:{ledger.server_address[1]}",
        allow_private=True,
    )
    define_tool(
        system,
        "book",
        actor=SYSTEM,
        title="Book",
        access="write",
        idempotent=True,
        timeout_seconds=30,
        input_schema={"type": "object", "properties": {}},
    )

    grants.grant(governed.role, system, Tool.Access.WRITE, actor=SYSTEM)
    factories.publish(permit_ledger='@id("permit-ledger") permit(principal, action, resource);')
    return governed.propose(governed.run(), "ledger.book", {}, asynchronous=True).action


def test_a_killed_worker_loses_nothing_and_does_nothing_twice(
    governed: Governed, ledger: Ledger, broker: str
) -> None:
    with worker(broker) as first:
        action = book_later(governed, ledger)
        assert ledger.arrived.wait(30)
        first.send_signal(signal.SIGKILL)
    # What it had begun is on record, and nobody pretends to know how it ended.
    assert Action.objects.get(pk=action.pk).status == Action.Status.EXECUTING
    assert Attempt.objects.get(action=action).status == Attempt.Status.STARTED
    ledger.answer.set()
    assert recovery.reap_abandoned(now=timezone.now() + timedelta(minutes=2)) == 1
    assert Attempt.objects.get(action=action).status == Attempt.Status.UNKNOWN
    with worker(broker):
        eventually(lambda: Action.objects.get(pk=action.pk).status == "succeeded")
    assert [attempt.status for attempt in Attempt.objects.filter(action=action)] == [
        "unknown",
        "succeeded",
    ]
    assert ledger.calls == [str(action.pk)] * 2
    assert ledger.effects == [str(action.pk)]


def test_a_broker_that_is_down_delays_and_loses_nothing(
    governed: Governed, ledger: Ledger, settings: Any
) -> None:
    reach("redis://127.0.0.1:1/0", settings)
    ledger.answer.set()
    action = book_later(governed, ledger)
    assert Action.objects.get(pk=action.pk).status == Action.Status.READY
    assert recovery.hint_overdue(now=timezone.now() + timedelta(minutes=1)) == 1
    redecision.resume(action.pk)
    assert ledger.effects == [str(action.pk)]
