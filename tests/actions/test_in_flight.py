"""A stop reaches what has been sent already: the call is cut, and its effect counts as unknown."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.test import Client
from pytest_django import Settings

from actions import in_flight
from actions.errors import HaltWatcherStale
from actions.in_flight import watcher
from actions.models import Action, Attempt
from actions.services import submission
from agents.errors import InvalidToken
from agents.models import Halt
from agents.services import halts, lifecycle
from audit.generation import current_mark
from audit.models import Event
from common.actors import SYSTEM
from common.cancellation import CancellableCall
from policies.services import grants
from tests import factories
from tests.conftest import Api
from tests.factories import Governed
from tests.tools.definitions import compiled_tool
from tests.tools.secret_system import shop
from tests.tools.servers import Server, drip_body, say_nothing, serving
from tests.tools.test_http_connector import endpoint
from tools.connectors.base import Call, CancelledByHalt, NotSent
from tools.connectors.http import HttpConnector
from tools.models import Tool
from tools.services.registration import define_tool

pytestmark = pytest.mark.django_db(transaction=True)
STOPS: dict[str, Callable[[Governed], Any]] = {
    "everything": lambda g: halt(Halt.Kind.GLOBAL, ""),
    "environment": lambda g: halt(Halt.Kind.ENVIRONMENT, "prod"),
    "system": lambda g: halt(Halt.Kind.SYSTEM, "shop"),
    "tool": lambda g: halt(Halt.Kind.TOOL, "shop.order"),
    "agent": lambda g: halt(Halt.Kind.AGENT, "tilda"),
    "suspension": lambda g: lifecycle.suspend(g.identity.agent_id, actor=SYSTEM, reason="Stop."),
    "identity": lambda g: lifecycle.suspend_identity(g.identity.pk, actor=SYSTEM, reason="Stop."),
}


def halt(kind: Halt.Kind, target: str) -> Halt:
    return halts.place_halt(kind, actor=SYSTEM, target=target, reason="Stop.")


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture
def watched(settings: Settings) -> Iterator[None]:
    settings.HALT_WATCHER_ENABLED = True
    yield
    watcher.stop()


@pytest.fixture
def seller(governed: Governed, server: Server, watched: None) -> Governed:
    """Tilda, who may order at a shop that says nothing."""
    kept = shop(server, governed.identity.environment)
    grants.grant(governed.role, kept.system, Tool.Access.WRITE, actor=SYSTEM)
    factories.publish(
        permit_shop='@id("permit-shop") permit(principal, action in Action::"shop", resource);'
    )
    server.behaviour = say_nothing
    return governed


def ordered(governed: Governed, tool: str = "shop.order") -> tuple[threading.Thread, list[Any]]:
    """An order in a thread of its own, and what it came to."""
    run, came = governed.run(), []
    caller = governed.caller

    def order() -> None:
        try:
            came.append(
                submission.submit(factories.proposal(caller, run, tool, {"to": "me"})).action
            )
        finally:
            connection.close()

    thread = threading.Thread(target=order)
    thread.start()
    return thread, came


@pytest.mark.parametrize("stop", STOPS)
def test_a_stop_cuts_what_has_been_sent(seller: Governed, server: Server, stop: str) -> None:
    thread, came = ordered(seller)
    assert server.has_received(1)
    STOPS[stop](seller)
    thread.join(10)
    [action] = came
    assert (action.status, action.error_code) == ("unknown", "cut_off")
    attempt = Attempt.objects.get()
    assert (attempt.status, attempt.error_code) == ("unknown", "cut_off")
    assert Event.objects.get(type="tool.call.unresolved").details["error"] == "cut_off"
    assert len(server.received) == 1


def test_what_only_reads_has_failed(seller: Governed, server: Server) -> None:
    system = Tool.objects.get(name="order").system
    define_tool(
        system,
        "look",
        actor=SYSTEM,
        title="Look",
        access="read",
        input_schema={"type": "object"},
    )
    grants.grant(seller.role, system, Tool.Access.READ, actor=SYSTEM)
    factories.publish(
        permit_shop='@id("permit-shop") permit(principal, action in Action::"shop", resource);'
    )
    thread, came = ordered(seller, "shop.look")
    assert server.has_received(1)
    halt(Halt.Kind.GLOBAL, "")
    thread.join(10)
    assert (came[0].status, came[0].error_code) == ("failed", "cut_off")


def test_a_stop_of_something_else_cuts_nothing(seller: Governed, server: Server) -> None:
    thread, came = ordered(seller)
    assert server.has_received(1)
    halt(Halt.Kind.SYSTEM, "toolbox")
    halt(Halt.Kind.TOOL, "toolbox.pay")
    for _ in range(2):
        watcher.pause(1)
    assert came == []
    server.over.set()
    thread.join(10)


def test_what_is_stopped_between_decision_and_sending_is_not_sent(
    seller: Governed, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = watcher.track

    def late(*args: Any) -> Any:
        halt(Halt.Kind.AGENT, "tilda")
        watcher.check_once()
        return real(*args)

    monkeypatch.setattr(watcher, "track", late)
    action = seller.propose(seller.run(), "shop.order", {"to": "me"}).action
    assert server.received == []
    assert (action.status, action.error_code) == ("ready", "not_sent")


def test_a_long_poll_ends_with_its_caller(seller: Governed, tiers: Any) -> None:
    waiting = seller.pay(seller.run(), 500).action
    api = Api(factories.token_for(seller.identity))
    came: list[Any] = []

    def poll() -> None:
        came.append(api.get(f"actions/{waiting.pk}?wait=25"))
        connection.close()

    thread = threading.Thread(target=poll)
    thread.start()
    watcher.pause(0.3)
    lifecycle.suspend_identity(seller.identity.pk, actor=SYSTEM, reason="Stop.")
    thread.join(10)
    assert came[0].status_code == 401


def test_a_watcher_that_is_behind_lets_nothing_through(
    seller: Governed, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = Api(factories.token_for(seller.identity))
    run = seller.run()
    watcher.ensure_running()
    watcher.stop()
    # As if the thread lived and could not see the database.
    monkeypatch.setattr(watcher, "_process", os.getpid())
    monkeypatch.setattr(watcher, "_looked_at", time.monotonic() - in_flight.STALE_SECONDS - 1)
    body = {"run": str(run.pk), "tool": "shop.order", "arguments": {}}
    response = api.post("actions", body, key="k1")
    assert (response.status_code, response.json()["code"]) == (503, "halt_watcher_stale")
    assert not Action.objects.exists()
    assert server.received == []
    with pytest.raises(HaltWatcherStale):
        watcher.ensure_running()


def test_a_watcher_that_lost_the_database_finds_it_again(
    seller: Governed, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = iter([OperationalError(), OperationalError()])
    real = current_mark
    tried: list[int] = []

    def unreliable() -> int:
        tried.append(1)
        failure = next(failures, None)
        if failure is not None:
            raise failure
        return real()

    monkeypatch.setattr(in_flight, "current_mark", unreliable)
    watcher.ensure_running()
    assert len(tried) >= 3


def test_a_call_that_was_cut_goes_nowhere(server: Server, prod: Any) -> None:
    from tests.tools.definitions import compiled_tool  # noqa: PLC0415
    from tests.tools.test_http_connector import endpoint  # noqa: PLC0415 - only here

    flight = CancellableCall()
    flight.cancel()
    call = Call("run-1", "key-1", 5, flight=flight)
    with pytest.raises(NotSent):
        HttpConnector().call(endpoint(server.url), compiled_tool(name="order"), {}, call=call)
    assert server.received == []


def test_a_call_is_cut_while_it_is_answered(server: Server, prod: Any) -> None:
    server.behaviour = drip_body
    flight = CancellableCall()
    call = Call("run-1", "key-1", 30, flight=flight)
    threading.Timer(0.3, flight.cancel).start()
    with pytest.raises(CancelledByHalt):
        HttpConnector().call(endpoint(server.url), compiled_tool(name="order"), {}, call=call)


def test_who_was_stopped_may_not_wait(seller: Governed) -> None:
    caller = seller.caller
    lifecycle.suspend_identity(seller.identity.pk, actor=SYSTEM, reason="Stop.")
    with pytest.raises(InvalidToken):
        factories.run(caller)


def test_the_halt_page(seller: Governed, server: Server, tiers: Any) -> None:
    office = Client()
    office.force_login(factories.administrator())
    thread, came = ordered(seller)
    assert server.has_received(1)
    shown = office.get("/admin/agents/halt/stop/").content.decode()
    assert "Stop Everything" in shown
    assert 'value="agent:tilda"' in shown
    assert 'value="system:shop"' in shown
    refused = [
        office.post("/admin/agents/halt/stop/", form)
        for form in (
            {"reason": "", "stop": "agent:tilda"},
            {"reason": "Odd.", "stop": ""},
            {"reason": "Odd.", "stop": "moon:full"},
            {"reason": "Odd.", "stop": "agent:nobody"},
        )
    ]
    assert {response.status_code for response in refused} == {200}
    assert not Halt.objects.exists()
    placed = office.post("/admin/agents/halt/stop/", {"reason": "Odd.", "stop": "global:"})
    thread.join(10)
    assert came[0].status == "unknown"
    [halt] = Halt.objects.all()
    assert placed["Location"] == f"/admin/agents/halt/{halt.pk}/change/"
    page = office.get(placed["Location"]).content.decode()
    assert "cut off" in page
    assert "shop.order" in page
    assert "until the last was cut off" in page
    asked = office.post(f"/admin/agents/halt/{halt.pk}/lift/", {"reason": "It is over."})
    assert "/admin/approvals/approvalrequest/" in asked["Location"]
    assert "A second person is asked" in office.get(placed["Location"]).content.decode()
    assert "halted" in office.get("/admin/agents/halt/stop/").content.decode()
