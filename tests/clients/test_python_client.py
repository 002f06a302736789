"""The Python client against a live portal."""

import asyncio
import json
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from chancery_client import (
    ApprovalPending,
    AsyncChancery,
    Chancery,
    ChanceryError,
    Denied,
    Failed,
    Halted,
    NotEnrolled,
    OutcomeUnknown,
    PortalRefused,
    Rejected,
    Run,
    UnsafeKeyFile,
    flows,
)
from django.db import connection
from pytest_django import Settings

from accounts.models import User
from actions.models import Action
from actions.models import Run as RunRow
from actions.services import redecision
from agents.models import AgentKey, Halt
from agents.services import enrolment, federation, halts, lifecycle
from approvals.models import ApprovalRequest, Vote
from approvals.services import cast_vote
from audit.models import Event
from common.actors import SYSTEM, Actor
from policies.services import grants
from tests.factories import Governed
from tools.connectors.base import NoResponse, Refused
from tools.models import Tool

pytestmark = pytest.mark.django_db(transaction=True)
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def url(live_server: Any, settings: Settings) -> str:
    settings.ISSUER = live_server.url
    return str(live_server.url)


@pytest.fixture
def agent(governed: Governed, url: str, tmp_path: Path) -> Iterator[Chancery]:
    with Chancery(url, tmp_path / "key", approval_timeout=0) as client:
        client.enrol(enrolment.issue_enrolment_code(governed.identity.pk, actor=SYSTEM))
        yield client


def work(agent: Chancery) -> Run:
    return agent.run("Be tested", initiator="somebody")


def test_a_first_agent(governed: Governed, agent: Chancery) -> None:
    assert agent.client_id == "tilda.prod"
    assert "toolbox.pay" in {tool["tool"] for tool in agent.tools()}
    with work(agent) as run:
        assert run.call("toolbox.pay", account="a", amount=1) == {"done": "pay"}
    assert RunRow.objects.get().outcome == "done"
    with pytest.raises(ZeroDivisionError), work(agent):
        raise ZeroDivisionError
    assert RunRow.objects.latest("pk").outcome == "ended by ZeroDivisionError"


def test_the_key_is_its_owners_alone(agent: Chancery, tmp_path: Path) -> None:
    file = tmp_path / "key" / "identity.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert list(file.parent.iterdir()) == [file]
    private = json.loads(file.read_text())["key"]["d"]
    assert private not in str(AgentKey.objects.values()) + str(Event.objects.values())
    file.chmod(0o644)
    with pytest.raises(UnsafeKeyFile):
        Chancery(agent.url, tmp_path / "key").tools()
    with pytest.raises(NotEnrolled):
        Chancery(agent.url, tmp_path / "nothing").tools()


def test_a_key_is_followed_by_another(agent: Chancery) -> None:
    agent.tools()
    agent.replace_key()
    assert agent.tools()
    assert sorted(AgentKey.objects.values_list("status", flat=True)) == ["active", "retiring"]


def test_a_lost_answer_about_a_key_loses_no_key(agent: Chancery, tmp_path: Path) -> None:
    network = Unreliable(lambda request: request.url.path == "/oauth/keys")
    with Chancery(agent.url, tmp_path / "key", transport=network) as client:
        with pytest.raises(ChanceryError):
            client.replace_key()
        network.lose = lambda request: False
        assert client.tools()
        client.replace_key()
        assert client.tools()
    assert [path.name for path in (tmp_path / "key").iterdir()] == ["identity.json"]
    assert sorted(AgentKey.objects.values_list("status", flat=True)) == ["active", "retiring"]
    # Who has held the old key until now reads the new one.
    assert agent.tools()
    AgentKey.objects.filter(status="retiring").delete()
    agent._signing()._over_at = 0.0
    agent._signing()._renew_at = 0.0
    assert agent.tools()


def test_what_is_decided_otherwise_says_why(governed: Governed, agent: Chancery) -> None:
    governed.toolbox.accounts["f"] = {"frozen": True}
    run = work(agent)
    with pytest.raises(Denied, match="frozen account") as denied:
        run.call("toolbox.pay", account="f", amount=1)
    assert denied.value.reasons[0]["rule"] == "frozen-accounts"
    governed.toolbox.fail_with = [Refused("No such customer.")]
    with pytest.raises(Failed, match="No such customer"):
        run.call("toolbox.pay", account="a", amount=1)
    governed.toolbox.fail_with = [NoResponse("Silence.")]
    with pytest.raises(OutcomeUnknown):
        run.call("toolbox.mail", to="x")
    with pytest.raises(Halted):
        run.call("toolbox.wipe", id="a")
    with pytest.raises(PortalRefused) as refused:
        run.call("toolbox.nothing")
    assert refused.value.code == "unknown_tool"
    with pytest.raises(PortalRefused) as closed:
        run.call("toolbox.pay", account="a", amount=1)
    assert closed.value.code == "run_not_open"


@pytest.mark.parametrize("answer", [Vote.Answer.APPROVE, Vote.Answer.REJECT])
def test_people_are_waited_for(
    governed: Governed, agent: Chancery, rosa: User, answer: Vote.Answer
) -> None:
    run = work(agent)
    with pytest.raises(ApprovalPending) as pending:
        run.call("toolbox.pay", account="a", amount=500)
    action = pending.value.action

    def later() -> None:
        request = ApprovalRequest.objects.pending().get()
        cast_vote(request.pk, actor=Actor.from_user(rosa), answer=answer, reason="So.")
        if answer == Vote.Answer.APPROVE:
            redecision.resume(Action.objects.get().pk)
        connection.close()

    thread = threading.Timer(0.5, later)
    thread.start()
    if answer == Vote.Answer.APPROVE:
        assert run.wait_for(action, seconds=20) == {"done": "pay"}
    else:
        with pytest.raises(Rejected):
            run.wait_for(action, seconds=20)
    thread.join()


def test_more_rights_are_asked_for(governed: Governed, agent: Chancery, rosa: User) -> None:
    grants.revoke(governed.role, governed.system, Tool.Access.READ, actor=SYSTEM)
    run = work(agent)
    assert run.elevate(["toolbox.read_account"], minutes=5, reason="To look.") is None
    request = ApprovalRequest.objects.get()
    cast_vote(request.pk, actor=Actor.from_user(rosa), answer=Vote.Answer.APPROVE, reason="Yes.")
    assert run.call("toolbox.read_account", id="a") == {"frozen": False}


class Unreliable(httpx.BaseTransport):
    """The network: answers get lost on their way back."""

    def __init__(self, lose: Callable[[httpx.Request], bool]) -> None:
        self.inner = httpx.HTTPTransport()
        self.lose = lose
        self.lost = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = self.inner.handle_request(request)
        if self.lose(request):
            self.lost += 1
            response.read()
            message = "lost"
            raise httpx.ReadError(message)
        return response

    def close(self) -> None:
        self.inner.close()


def test_a_lost_answer_does_nothing_twice(
    governed: Governed, url: str, tmp_path: Path, agent: Chancery
) -> None:
    lost = iter([True, True])

    def lose(request: httpx.Request) -> bool:
        return request.url.path == "/api/v1/actions" and next(lost, False)

    network = Unreliable(lose)
    with Chancery(url, tmp_path / "key", transport=network) as client:
        assert work(client).call("toolbox.pay", account="a", amount=1) == {"done": "pay"}
    assert network.lost == 2
    assert Action.objects.count() == 1
    assert len(governed.toolbox.effects) == 1


def test_a_portal_that_is_gone_is_said_so(tmp_path: Path, agent: Chancery) -> None:
    network = Unreliable(lambda request: True)
    with (
        Chancery(agent.url, tmp_path / "key", transport=network) as client,
        pytest.raises(ChanceryError, match="cannot be reached"),
    ):
        client.tools()
    assert network.lost == flows.MAX_TRIES


def test_tokens_are_renewed_at_two_thirds_of_their_life(
    agent: Chancery, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1_000.0]
    monkeypatch.setattr("chancery_client.tokens.time.monotonic", lambda: now[0])
    for seconds, minted in ((0, 1), (199, 1), (201, 2), (202, 2), (1_000, 3)):
        now[0] = 1_000.0 + seconds
        agent.tools()
        assert Event.objects.filter(type="credential.issued").count() == minted, seconds


def test_many_at_once_renew_one_token_and_wait_for_none(
    agent: Chancery, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent.tools()
    auth = agent._signing()
    auth._renew_at = 0.0
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: agent.tools(), range(12)))
    assert Event.objects.filter(type="credential.issued").count() == 2
    assert not auth._renewing.locked()


def test_a_killed_token_is_followed_by_a_new_one(governed: Governed, agent: Chancery) -> None:
    agent.tools()
    lifecycle.suspend_identity(governed.identity.pk, actor=SYSTEM, reason="A pause.")
    with pytest.raises(PortalRefused) as refused:
        agent.tools()
    assert refused.value.code == "invalid_client"
    lifecycle.resume_identity(governed.identity.pk, actor=SYSTEM, reason="Go on.")
    assert agent.tools()
    halt = halts.place_halt(Halt.Kind.AGENT, actor=SYSTEM, target="tilda", reason="Stop.")
    with pytest.raises(Halted):
        work(agent).call("toolbox.pay", account="a", amount=1)
    halts.lift_halt(halt.pk, actor=SYSTEM, reason="Go on.")


def test_bound_tokens(governed: Governed, agent: Chancery, url: str, tmp_path: Path) -> None:
    federation.require_dpop(governed.identity.pk, actor=SYSTEM, required=True)
    with pytest.raises(PortalRefused):
        agent.tools()
    with Chancery(url, tmp_path / "key", dpop=True) as bound:
        assert work(bound).call("toolbox.pay", account="a", amount=1) == {"done": "pay"}
        assert bound.tools()


def test_a_function_becomes_a_call(governed: Governed, agent: Chancery) -> None:
    run = work(agent)

    @run.governed("toolbox.pay")
    def pay(account: str, amount: float, note: str | None = None) -> dict[str, str]:
        """Pay."""
        raise NotImplementedError

    assert pay("a", amount=2) == {"done": "pay"}
    assert pay.__doc__ == "Pay."
    assert governed.toolbox.effects[0][1]["amount"] == 2
    with pytest.raises(TypeError):
        pay("a", 1, "x", "y")  # type: ignore[call-arg]  # what a caller could get wrong


@pytest.mark.parametrize(
    "address", ["http://portal.example", "ftp://localhost", "portal.example", ""]
)
def test_a_portal_is_reached_over_https(tmp_path: Path, address: str) -> None:
    with pytest.raises(ChanceryError, match="https"):
        Chancery(address, tmp_path)


def test_a_portal_that_says_it_is_another_is_not_believed(
    governed: Governed, url: str, settings: Settings, tmp_path: Path
) -> None:
    settings.ISSUER = "https://evil.example"
    with (
        Chancery(url, tmp_path / "key") as client,
        pytest.raises(ChanceryError, match="not the portal"),
    ):
        client.enrol("code")
    assert not (tmp_path / "key").exists()


def test_the_same_for_code_that_is_awaited(
    governed: Governed, agent: Chancery, url: str, tmp_path: Path
) -> None:
    # The test's SQLite has one connection, which takes one request at a time.
    at_once = 4 if connection.vendor == "postgresql" else 1

    async def use() -> list[Any]:
        client = AsyncChancery(url, tmp_path / "key", approval_timeout=0)
        async with client, await client.run("Be tested", initiator="somebody") as run:

            @run.governed("toolbox.read_account")
            async def read(id: str) -> dict[str, Any]:
                raise NotImplementedError

            calls = (run.call("toolbox.pay", account="a", amount=1 + n) for n in range(at_once))
            found = [await read("a"), *await asyncio.gather(*calls)]
            with pytest.raises(ApprovalPending):
                await run.call("toolbox.pay", account="a", amount=500)
            await client.replace_key()
            assert await client.tools()
            return found

    assert asyncio.run(use()) == [{"frozen": False}, *[{"done": "pay"}] * at_once]


def test_it_imports_nothing_of_the_portal() -> None:
    script = (
        "import sys; sys.path = [p for p in sys.path if p not in ('', sys.argv[2])]; "
        "sys.path.insert(0, sys.argv[1]); import chancery_client; "
        "loaded = {name.split('.')[0] for name in sys.modules}; "
        "assert not loaded & {'django', 'agents', 'common', 'portal'}, loaded"
    )
    subprocess.run(
        [sys.executable, "-c", script, str(ROOT / "clients/python"), str(ROOT)],
        check=True,
        cwd="/",
        env={},
    )


def test_pauses_grow_and_are_bounded() -> None:
    for tries in range(1, 20):
        assert 0 <= flows.backoff(tries) <= 5
    assert time.monotonic() > 0
