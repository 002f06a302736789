"""Threads of a web process: some are left for people, whatever agents and slow senders do."""

import base64
import itertools
import json
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from django.conf import settings
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory

from common.known_tokens import MAX_KNOWN, identity_of, remember_token
from portal import request_slots
from portal.request_slots import NoSlot, Slots, SlotsMiddleware
from tests.conftest import Api
from tests.databases import url_of
from tests.portal.test_connections import web
from tests.portal.test_proxy import opened

SLOW = 150


def test_one_sender_leaves_slots_for_others() -> None:
    few = Slots(3, 2, 0.01)
    with few.taken("a"), few.taken("a"):
        with pytest.raises(NoSlot), few.taken("a"):
            pass
        with few.taken("b"), pytest.raises(NoSlot), few.taken("c"):
            pass
    with few.taken("a"):
        pass


def test_a_slot_that_becomes_free_is_taken_by_who_waits() -> None:
    one = Slots(1, 1, 5)
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with one.taken("a"):
            entered.set()
            leave.wait(5)

    holder = threading.Thread(target=hold)
    holder.start()
    entered.wait(5)
    threading.Timer(0.05, leave.set).start()
    with one.taken("b"):
        holder.join()


@pytest.fixture
def served() -> tuple[Callable[..., Any], threading.Event]:
    """The middleware in front of a view that waits for the event."""
    leave = threading.Event()

    def view(request: HttpRequest) -> HttpResponse:
        leave.wait(10)
        return HttpResponse("served")

    middleware = SlotsMiddleware(view)

    def ask(path: str, headers: dict[str, str] | None = None) -> Any:
        # Without a token each asks from an address of its own.
        address = f"192.0.2.{next(number) % 250}"
        return middleware(RequestFactory(REMOTE_ADDR=address).get(path, headers=headers or {}))

    number = itertools.count(1)
    return ask, leave


def test_agents_never_take_the_last_threads(
    served: tuple[Callable[..., Any], threading.Event],
) -> None:
    reading = request_slots.READING_FOR_AGENTS + request_slots.READING_FOR_PEOPLE
    assert request_slots.SERVING_AGENTS + reading < settings.WEB_THREADS
    ask, leave = served
    agents = [
        threading.Thread(target=ask, args=("/api/v1/tools",))
        for _ in range(request_slots.SERVING_AGENTS)
    ]
    for one in agents:
        one.start()
    while request_slots._serving._taken.total() < request_slots.SERVING_AGENTS:
        threading.Event().wait(0.01)
    try:
        refused = ask("/api/v1/actions")
        assert (refused.status_code, refused["Retry-After"]) == (503, "1")
        assert refused["Content-Length"] == str(len(refused.content))
        assert b'"code": "busy"' in refused.content
        leave.set()
        for path in ("/admin/", "/accounts/login/", "/api/v1/approvals"):
            assert ask(path).status_code == 200
    finally:
        leave.set()
        for one in agents:
            one.join()
    assert ask("/api/v1/actions").status_code == 200


def test_one_identity_leaves_slots_for_another(
    served: tuple[Callable[..., Any], threading.Event],
) -> None:
    ask, leave = served

    def token(subject: str) -> dict[str, str]:
        remember_token(f"token of {subject}", subject)
        return {"Authorization": f"Bearer token of {subject}"}

    noisy = [
        threading.Thread(target=ask, args=("/api/v1/tools", token("noisy.prod")))
        for _ in range(request_slots.SERVING_ONE_IDENTITY)
    ]
    for one in noisy:
        one.start()
    while request_slots._serving._taken.total() < request_slots.SERVING_ONE_IDENTITY:
        threading.Event().wait(0.01)
    try:
        assert ask("/api/v1/tools", token("noisy.prod")).status_code == 503
        leave.set()
        assert ask("/api/v1/tools", token("other.prod")).status_code == 200
    finally:
        leave.set()
        for one in noisy:
            one.join()


def forged(subject: str) -> str:
    claims = base64.urlsafe_b64encode(json.dumps({"client_id": subject}).encode()).decode()
    return f"Bearer x.{claims.rstrip('=')}.x"


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer x", "Bearer x.y.z", "Bearer \udcff", forged("victim.prod")]
)
def test_a_token_that_nobody_has_verified_counts_for_its_address(header: str) -> None:
    remember_token("the real one", "victim.prod")
    request = RequestFactory().get("/api/v1/tools", headers={"Authorization": header})
    assert request_slots._sender(request) == "127.0.0.1"


@pytest.mark.django_db
def test_a_token_counts_for_its_identity_once_it_was_verified(api: Api) -> None:
    token = api.token
    assert identity_of(token) is None
    assert api.get("tools").status_code == 200
    assert identity_of(token) == "tilda.prod"
    for number in range(MAX_KNOWN):
        remember_token(str(number), "other.prod")
    assert identity_of(token) is None


def test_a_body_beyond_the_limit_is_refused_before_it_is_read() -> None:
    read: list[str] = []

    def view(request: HttpRequest) -> HttpResponse:
        read.append(request.path)
        return HttpResponse()

    middleware = SlotsMiddleware(view)
    large = RequestFactory().post("/api/v1/actions", b"x", content_type="application/json")
    large.META["CONTENT_LENGTH"] = "10000000"
    refused: Any = middleware(large)
    assert refused.status_code == 413
    assert b"body_too_large" in refused.content
    assert read == []


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("path", ["/oauth/enrol", "/accounts/login/"])
def test_people_are_answered_beside_slow_senders_without_a_proxy(path: str) -> None:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        "Content-Length: 5000\r\n\r\n{"
    )
    with web(url_of(connection)) as url:
        slow = [opened(url, head) for _ in range(SLOW)]
        try:
            for asked in ("/accounts/login/", "/oauth/jwks.json"):
                assert httpx.get(f"{url}{asked}", timeout=20).status_code == 200
            elsewhere = httpx.HTTPTransport(local_address="127.0.0.2")
            with httpx.Client(transport=elsewhere, timeout=20) as person:
                sent = person.post(f"{url}/accounts/login/", data={"login": "x"})
            assert sent.status_code == 403  # it was read: the form lacks its token
        finally:
            for one in slow:
                one.close()


@pytest.mark.parametrize("path", ["/accounts/login/", "/oauth/jwks.json", "/admin/"])
def test_no_long_form_is_read_outside_a_slot(path: str) -> None:
    middleware = SlotsMiddleware(lambda request: HttpResponse("read"))
    form = RequestFactory().post(path, {"login": "x"})
    form.META["CONTENT_LENGTH"] = "3000000"
    refused: Any = middleware(form)
    assert refused.status_code == 413


def test_as_many_wait_as_there_are_slots() -> None:
    one = Slots(1, 1, 5)
    one._waiting = 1
    with one.taken("a"), pytest.raises(NoSlot), one.taken("b"):
        pass


def test_many_refused_calls_are_one_line_of_the_log(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A busy agent sends thousands: the errors of others stay visible."""
    monkeypatch.setattr(request_slots, "_serving", request_slots.Slots(0, 0, 0))
    monkeypatch.setattr(request_slots, "_refusals", request_slots.Refusals())
    for _ in range(5):
        assert client.get("/api/v1/tools").status_code == 503
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_refused_calls_are_counted_until_they_are_reported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    refusals = request_slots.Refusals(quiet_seconds=0)
    refusals.report()
    refusals.quiet_seconds = 3600
    refusals.report()
    refusals.report()
    refusals.quiet_seconds = 0
    refusals.report()
    numbers = [record.getMessage().split()[8] for record in caplog.records]
    assert numbers == ["1", "3"]
