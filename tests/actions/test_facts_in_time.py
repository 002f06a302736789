"""Facts are read before the lock: what is decided rests on what is still so under it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from accounts.models import User
from actions.errors import CallInFlight
from actions.models import Action, Attempt, Run
from actions.services import proposals, redecision
from actions.services.decisions import decide_all
from approvals.models import ApprovalRequest, Vote
from approvals.services import cast_vote
from common.actors import SYSTEM, Actor
from common.errors import NotFound
from tests import factories
from tests.factories import Governed
from tools import invocation as tool_calling
from tools.models import System
from tools.services.registration import define_tool, set_endpoint

pytestmark = pytest.mark.django_db

PERMIT = '@id("permit-toolbox")\npermit(principal in Role::"keepers", action, resource);'
GATE = """@id("much") @title("Much") @tier("supervisor") @reason("Over 10,000 in all.")
forbid(principal, action == Action::"toolbox.send", resource)
when { context.facts.total > 10000 };"""


IN_ALL = "int(before.total + args.amount)"


class Ledger:
    """A system that knows what was paid to whom."""

    def __init__(self) -> None:
        self.paid: dict[str, int] = {}
        self.price = 150

    def __call__(self, tool: str, arguments: Any, call: Any) -> Any:
        if tool == "paid":
            return {"total": self.paid.get(arguments["to"], 0)}
        if tool == "price":
            return {"price": self.price}
        if tool == "send":
            to = arguments["to"]
            self.paid[to] = self.paid.get(to, 0) + arguments["amount"]
        return {}


def schema(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": sorted(properties),
        "additionalProperties": False,
    }


@pytest.fixture
def ledger(governed: Governed, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    system = Ledger()
    monkeypatch.setattr(type(governed.toolbox), "__call__", lambda _, *given: system(*given))
    paid = schema(to={"type": "string"})
    reads: dict[str, Any] = {"access": "read", "idempotent": True, "actor": SYSTEM}
    define_tool(governed.system, "paid", title="Paid", input_schema=paid, **reads)
    define_tool(governed.system, "price", title="Price", input_schema=schema(), **reads)
    sending()
    factories.publish(permit_toolbox=PERMIT, much=GATE)
    return system


def sending(**more: Any) -> None:
    define_tool(
        System.objects.get(slug="toolbox"), "send", actor=SYSTEM, title="Send", access="write",
        idempotent=True,
        input_schema=schema(to={"type": "string"}, amount={"type": "integer"}),
        sources=[{"name": "before", "tool": "paid", "arguments": {"to": "args.to"}}],
        facts=[{"name": "total", "title": "In all", "expression": IN_ALL}],
        **more,
    )  # fmt: skip


def send(governed: Governed, run: Any, amount: int = 7_500, to: str = "payee") -> Action:
    return governed.propose(run, "toolbox.send", {"to": to, "amount": amount}).action


def test_one_after_the_other_the_second_is_asked_about(governed: Governed, ledger: Ledger) -> None:
    run = governed.run()
    assert send(governed, run).status == Action.Status.SUCCEEDED
    assert send(governed, run).status == Action.Status.WAITING
    assert ledger.paid == {"payee": 7_500}


def overtaken(monkeypatch: pytest.MonkeyPatch, other: Callable[[], object]) -> None:
    """Let something else happen once, after the facts of the next call were read."""
    real = tool_calling.gather_facts
    rest = [other]

    def gather(*given: Any, **named: Any) -> Any:
        facts = real(*given, **named)
        while rest:
            rest.pop()()
        return facts

    monkeypatch.setattr(proposals, "gather_facts", gather)


def test_facts_are_read_again_if_a_call_was_made_since(
    governed: Governed, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = governed.run()
    overtaken(monkeypatch, lambda: send(governed, run))
    assert send(governed, run).status == Action.Status.WAITING
    assert ledger.paid == {"payee": 7_500}


def test_of_another_run_too_where_the_tool_says_so(
    governed: Governed, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    sending(exclusive_by="to")
    factories.publish(permit_toolbox=PERMIT, much=GATE)
    one, other = governed.run(), governed.run()
    overtaken(monkeypatch, lambda: send(governed, other))
    assert send(governed, one).status == Action.Status.WAITING
    assert ledger.paid == {"payee": 7_500}
    # Another payee is another matter.
    assert send(governed, one, to="else").status == Action.Status.SUCCEEDED


def test_two_in_one_batch_do_not_both_pass(governed: Governed, ledger: Ledger) -> None:
    run = governed.run()
    asked = [
        factories.proposal(governed.caller, run, "toolbox.send", {"to": "p", "amount": 7_500})
        for _ in range(2)
    ]
    first, second = decide_all(asked)
    assert not isinstance(first, Exception)
    assert isinstance(second, CallInFlight)
    assert Action.objects.count() == 1


def test_what_waits_too_long_is_refused_and_nothing_is_decided(
    governed: Governed, ledger: Ledger
) -> None:
    run = governed.run()
    first = send(governed, run, 1)
    reopened(first)
    with pytest.raises(CallInFlight):
        governed.propose(run, "toolbox.send", {"to": "p", "amount": 1}, patience=0.05)
    assert Action.objects.count() == 1
    # A repeated request is answered at once all the same.
    again = governed.propose(
        run, "toolbox.send", {"to": "payee", "amount": 1}, key=first.idempotency_key, patience=0.05
    )
    assert again.replayed
    # A call that only reads does not wait, nor does one of another run.
    assert send(governed, governed.run(), 1).status == Action.Status.SUCCEEDED


def reopened(action: Action) -> None:
    """As if its call were still being made."""
    Attempt.objects.filter(action=action).update(
        status=Attempt.Status.STARTED, ended_at=None, lease_until=timezone.now()
    )


def test_the_database_keeps_calls_of_one_key_apart(governed: Governed, ledger: Ledger) -> None:
    sending(exclusive_by="to")
    factories.publish(permit_toolbox=PERMIT, much=GATE)
    actions = [send(governed, governed.run(), 1) for _ in range(2)]
    assert Attempt.objects.filter(exclusive_key="").count() == 0
    reopened(actions[0])
    with pytest.raises(IntegrityError), transaction.atomic():
        reopened(actions[1])


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("shared", [False, True], ids=["in one run", "in several runs"])
def test_of_several_at_once_one_passes(governed: Governed, ledger: Ledger, shared: bool) -> None:
    if shared:
        sending(exclusive_by="to")
        factories.publish(permit_toolbox=PERMIT, much=GATE)
    threads = 6
    one = governed.run()
    runs = [governed.run() if shared else one for _ in range(threads)]
    barrier = Barrier(threads)

    def at_once(number: int) -> str:
        barrier.wait()
        try:
            return str(send(governed, runs[number]).status)
        finally:
            connection.close()

    with ThreadPoolExecutor(threads) as pool:
        found = sorted(pool.map(at_once, range(threads)))
    assert found == ["succeeded", *["waiting"] * (threads - 1)]
    assert ledger.paid == {"payee": 7_500}


# -- what an approval is bound to ------------------------------------------------------------------

BUY = """@id("dear") @title("Dear") @tier("supervisor") @reason("Over 100.")
forbid(principal, action == Action::"toolbox.buy", resource) when { context.facts.dear };"""
FACTS = [
    {"name": "price", "title": "Price", "expression": "int(p.price)"},
    {"name": "dear", "title": "Dear", "expression": "facts.price > 100"},
    {"name": "odd", "title": "Odd", "expression": "facts.price % 2 == 1"},
]


@pytest.fixture
def buying(governed: Governed, ledger: Ledger) -> Ledger:
    define_tool(
        governed.system, "buy", actor=SYSTEM, title="Buy", access="write", idempotent=True,
        input_schema=schema(), sources=[{"name": "p", "tool": "price", "arguments": {}}],
        facts=FACTS,
    )  # fmt: skip
    factories.publish(permit_toolbox=PERMIT, dear=BUY)
    return ledger


def approved(governed: Governed, rosa: User) -> Action:
    action = governed.propose(governed.run(), "toolbox.buy", {}).action
    assert action.status == Action.Status.WAITING
    cast_vote(
        ApprovalRequest.objects.get().pk,
        actor=Actor.from_user(rosa),
        answer=Vote.Answer.APPROVE,
        reason="At that price.",
    )
    return action


def carried_out(action: Action) -> Action:
    redecision.resume(action.pk)
    return Action.objects.get(pk=action.pk)


def test_an_approval_is_for_the_facts_that_people_saw(
    governed: Governed, buying: Ledger, rosa: User
) -> None:
    action = approved(governed, rosa)
    buying.price = 1_000_000
    again = carried_out(action)
    assert again.status == Action.Status.WAITING
    shown = ApprovalRequest.objects.latest("opened_at")
    assert (shown.status, shown.snapshot["facts"]["price"]) == ("pending", 1_000_000)
    assert ApprovalRequest.objects.filter(spent_at__isnull=False).count() == 0


def test_the_same_facts_carry_it(governed: Governed, buying: Ledger, rosa: User) -> None:
    assert carried_out(approved(governed, rosa)).status == Action.Status.SUCCEEDED


def test_a_fact_that_no_gate_looks_at_may_move(
    governed: Governed, buying: Ledger, rosa: User
) -> None:
    rule = BUY.replace("context.facts.dear", "context.facts.odd == false")
    factories.publish(permit_toolbox=PERMIT, dear=rule)
    define_tool(
        governed.system, "buy", actor=SYSTEM, title="Buy", access="write", idempotent=True,
        input_schema=schema(), sources=[{"name": "p", "tool": "price", "arguments": {}}],
        facts=[FACTS[0], {**FACTS[2], "expression": "int(p.price) % 2 == 1"}],
    )  # fmt: skip
    factories.publish(permit_toolbox=PERMIT, dear=rule)
    action = approved(governed, rosa)
    buying.price = 152
    assert carried_out(action).status == Action.Status.SUCCEEDED


def test_an_approval_is_for_the_address_that_people_saw(
    governed: Governed, buying: Ledger, rosa: User
) -> None:
    action = approved(governed, rosa)
    set_endpoint(
        governed.system, governed.identity.environment, actor=SYSTEM, base_url="http://elsewhere"
    )
    again = carried_out(action)
    assert again.status == Action.Status.WAITING
    assert ApprovalRequest.objects.latest("opened_at").snapshot["endpoint"] == ("http://elsewhere")


def test_a_changed_source_of_facts_is_a_changed_tool(
    governed: Governed, buying: Ledger, rosa: User
) -> None:
    action = approved(governed, rosa)
    define_tool(governed.system, "price", actor=SYSTEM, path="other-price")
    assert carried_out(action).status == Action.Status.DENIED
    new = governed.propose(governed.run(), "toolbox.buy", {}).action
    assert new.reasons[0]["rule"] == "chancery:tool-not-in-release"
    factories.publish(permit_toolbox=PERMIT, dear=BUY)
    assert governed.propose(governed.run(), "toolbox.buy", {}).action.status == "waiting"


def test_a_run_of_several_agents_is_served_by_their_token_only(
    governed: Governed, ledger: Ledger
) -> None:
    run = governed.run()
    Run.objects.filter(pk=run.pk).update(chain=["tilda.prod"])
    with pytest.raises(NotFound):
        send(governed, run)
    caller = replace(governed.caller, chain=("tilda.prod",))
    asked = factories.proposal(caller, run, "toolbox.send", {"to": "p", "amount": 1})
    [decided] = decide_all([asked])
    assert not isinstance(decided, Exception)


def test_a_chain_that_was_broken_since_decides_nothing(governed: Governed, ledger: Ledger) -> None:
    run = governed.run()
    Run.objects.filter(pk=run.pk).update(chain=["tilda.prod"], chain_epochs={"tilda.prod": 7})
    caller = replace(governed.caller, chain=("tilda.prod",))
    [decided] = decide_all(
        [factories.proposal(caller, run, "toolbox.send", {"to": "p", "amount": 1})]
    )
    assert not isinstance(decided, Exception)
    assert decided.action.outcome == "denied"
    assert not Attempt.objects.exists()
