from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from auditlog.models import LogEntry
from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts.models import Environment, User
from agents.directory import directory
from agents.errors import (
    AlreadyAskedToLift,
    AlreadyHalted,
    HaltNotInForce,
    SecondApproverRequired,
    UnknownHaltTarget,
)
from agents.models import Halt
from agents.services import lifecycle
from agents.services.halts import ask_to_lift, lift_halt, place_halt
from approvals.errors import OwnRequest
from approvals.models import ApprovalRequest, Tier, Vote
from approvals.services import cast_vote
from audit.generation import current_mark
from audit.models import Event
from common.actors import SYSTEM, Actor
from common.errors import NotFound, ReasonRequired
from tests.agents.runtimes import all_at_once
from tests.tools.definitions import SCHEMA
from tools.models import System
from tools.services.registration import define_tool, register_system

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("known")]

TARGETS = [
    (Halt.Kind.GLOBAL, ""),
    (Halt.Kind.ENVIRONMENT, "prod"),
    (Halt.Kind.SYSTEM, "bank"),
    (Halt.Kind.TOOL, "bank.pay"),
    (Halt.Kind.AGENT, "tilda"),
]


@pytest.fixture
def known(prod: Environment, olga: User) -> None:
    """What the tests halt."""
    for slug in ("tilda", "other", "prod"):
        lifecycle.register_agent(
            slug, actor=SYSTEM, title=slug, purpose="Be halted.", owner=olga, sponsor=olga
        )
    for slug in ("bank", "shop", "tilda"):
        system = register_system(slug, actor=SYSTEM, title=slug, kind=System.Kind.HTTP)
        define_tool(system, "pay", actor=SYSTEM, title="Pay", access="write", input_schema=SCHEMA)


def placed(kind: Halt.Kind, target: str, reason: str = "Stop.", actor: Actor = SYSTEM) -> Halt:
    return place_halt(kind, actor=actor, target=target, reason=reason)


def state() -> tuple[Any, ...]:
    return (
        list(Halt.objects.values()),
        Event.objects.count(),
        LogEntry.objects.count(),
        current_mark(),
    )


def covering(**call: str) -> tuple[str, str, str] | None:
    """The halt over Tilda's payment in production, but for what is said otherwise."""
    whole = {"agent": "tilda", "environment": "prod", "system": "bank", "tool": "bank.pay"}
    return directory.current().halt_covering(**whole | call)


@pytest.mark.parametrize(("kind", "target"), TARGETS)
def test_a_halt_is_placed_and_lifted_on_record(kind: Halt.Kind, target: str, olga: User) -> None:
    actor = Actor.from_user(olga)
    marks = {current_mark()}
    halt = placed(kind, target, " Too many refunds. ", actor)
    marks.add(current_mark())
    assert covering() == (kind, target, "Too many refunds.")
    if kind == Halt.Kind.GLOBAL:
        with pytest.raises(SecondApproverRequired):
            lift_halt(halt.pk, actor=actor, reason="It was the month's end.")
        return
    lifted = lift_halt(halt.pk, actor=actor, reason="It was the month's end.")
    marks.add(current_mark())
    assert covering() is None
    assert len(marks) == 3
    assert (lifted.placed_by, lifted.lifted_by) == ("olga", "olga")
    assert lifted.lifted_at is not None
    events = Event.objects.about("agents.halt", halt.pk).filter(type__startswith="halt.")
    assert [(e.type, e.actor_label, e.details["reason"]) for e in events.order_by("id")] == [
        ("halt.placed", "olga", "Too many refunds."),
        ("halt.lifted", "olga", "It was the month's end."),
    ]
    entries = LogEntry.objects.get_for_object(halt)
    assert [entry.actor for entry in entries] == [olga, olga]


def test_an_agent_may_place_a_halt_and_is_named(olga: User) -> None:
    halt = placed(Halt.Kind.AGENT, "tilda", actor=Actor("agent", "guard.prod", "guard.prod"))
    assert halt.placed_by == "guard.prod"
    event = Event.objects.get(type="halt.placed")
    assert (event.actor_kind, event.actor_id) == ("agent", "guard.prod")
    assert event.details == {"kind": "agent", "target": "tilda", "reason": "Stop."}
    entry = LogEntry.objects.get_for_object(halt).get()
    assert entry.actor is None
    assert entry.additional_data["id"] == "guard.prod"


@pytest.mark.parametrize(("kind", "target"), TARGETS)
def test_a_target_is_halted_once_at_a_time(kind: Halt.Kind, target: str) -> None:
    halt = placed(kind, target)
    before = state()
    with pytest.raises(AlreadyHalted):
        placed(kind, target, "Another reason.")
    assert state() == before
    lift_halt(halt.pk, actor=SYSTEM, reason="Over.")
    assert placed(kind, target, "Again.").reason == "Again."
    assert Halt.objects.in_force().count() == 1


def test_different_targets_are_halted_side_by_side() -> None:
    for kind, target in [*TARGETS, (Halt.Kind.AGENT, "other"), (Halt.Kind.SYSTEM, "tilda")]:
        placed(kind, target)
    assert Halt.objects.in_force().count() == len(TARGETS) + 2


UNKNOWN = [
    (Halt.Kind.GLOBAL, "prod"),
    (Halt.Kind.GLOBAL, " "),
    (Halt.Kind.ENVIRONMENT, "production"),
    (Halt.Kind.ENVIRONMENT, "PROD"),
    (Halt.Kind.ENVIRONMENT, "tilda"),
    (Halt.Kind.ENVIRONMENT, ""),
    (Halt.Kind.SYSTEM, "banc"),
    (Halt.Kind.SYSTEM, "bank "),
    (Halt.Kind.SYSTEM, "bank.pay"),
    (Halt.Kind.SYSTEM, ""),
    (Halt.Kind.TOOL, "bank.pays"),
    (Halt.Kind.TOOL, "banc.pay"),
    (Halt.Kind.TOOL, "pay"),
    (Halt.Kind.TOOL, "bank"),
    (Halt.Kind.TOOL, "bank."),
    (Halt.Kind.TOOL, ""),
    (Halt.Kind.AGENT, "tilde"),
    (Halt.Kind.AGENT, "tilda.prod"),
    (Halt.Kind.AGENT, "bank"),
    (Halt.Kind.AGENT, ""),
    ("planet", "earth"),
    ("planet", ""),
    ("", ""),
]


@pytest.mark.parametrize(("kind", "target"), UNKNOWN)
def test_a_halt_on_what_does_not_exist_is_refused(kind: Any, target: str) -> None:
    before = state()
    with pytest.raises(UnknownHaltTarget):
        placed(kind, target)
    assert state() == before
    assert not Halt.objects.exists()


@pytest.mark.parametrize("reason", ["", "  ", "\n\t"])
def test_placing_and_lifting_need_a_reason(reason: str) -> None:
    halt = placed(Halt.Kind.AGENT, "tilda")
    before = state()
    with pytest.raises(ReasonRequired):
        placed(Halt.Kind.AGENT, "other", reason)
    with pytest.raises(ReasonRequired):
        lift_halt(halt.pk, actor=SYSTEM, reason=reason)
    assert state() == before


def test_a_halt_is_lifted_once() -> None:
    halt = placed(Halt.Kind.AGENT, "tilda")
    lift_halt(halt.pk, actor=SYSTEM, reason="Over.")
    before = state()
    with pytest.raises(HaltNotInForce):
        lift_halt(halt.pk, actor=SYSTEM, reason="Over again.")
    assert state() == before


def test_a_halt_that_does_not_exist_is_not_lifted() -> None:
    before = state()
    with pytest.raises(NotFound):
        lift_halt(uuid4(), actor=SYSTEM, reason="Over.")
    assert state() == before


@pytest.mark.parametrize(
    ("kind", "target", "call"),
    [
        (Halt.Kind.ENVIRONMENT, "prod", {"environment": "staging"}),
        (Halt.Kind.SYSTEM, "bank", {"system": "shop", "tool": "shop.order"}),
        (Halt.Kind.TOOL, "bank.pay", {"tool": "bank.pay_out"}),
        (Halt.Kind.AGENT, "tilda", {"agent": "other"}),
        (Halt.Kind.AGENT, "prod", {}),
        (Halt.Kind.SYSTEM, "tilda", {}),
        (Halt.Kind.TOOL, "shop.pay", {}),
    ],
)
def test_a_halt_covers_its_target_and_nothing_else(
    kind: Halt.Kind, target: str, call: dict[str, str]
) -> None:
    placed(kind, target)
    assert covering(**call) is None


def test_the_widest_halt_is_the_one_named() -> None:
    for number, (kind, target) in enumerate(reversed(TARGETS)):
        placed(kind, target, f"Reason {number}.")
        assert covering() == (kind, target, f"Reason {number}.")


@pytest.mark.parametrize(
    "row",
    [
        {"kind": "global", "target": "prod", "reason": "Stop."},
        {"kind": "agent", "target": "", "reason": "Stop."},
        {"kind": "agent", "target": "other", "reason": ""},
        {"kind": "agent", "target": "tilda", "reason": "Stop."},
    ],
)
def test_the_database_itself_refuses_a_halt_that_makes_no_sense(row: dict[str, str]) -> None:
    Halt.objects.create(kind="agent", target="tilda", reason="Stop.", placed_by="raw")
    before = state()
    with pytest.raises(IntegrityError), transaction.atomic():
        Halt.objects.create(placed_by="raw", **row)
    assert state() == before


def test_a_lifted_halt_does_not_stand_in_the_way() -> None:
    Halt.objects.create(
        kind="agent", target="tilda", reason="Old.", placed_by="x", lifted_at=timezone.now()
    )
    assert covering() is None
    assert placed(Halt.Kind.AGENT, "tilda").lifted_at is None


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_of_six_halts_at_once_one_is_placed() -> None:
    outcomes = all_at_once([partial(placed, Halt.Kind.GLOBAL, "")] * 6)
    assert sum(isinstance(outcome, Halt) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, AlreadyHalted) for outcome in outcomes) == 5
    assert Halt.objects.count() == Event.objects.filter(type="halt.placed").count() == 1


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_of_six_liftings_at_once_one_counts() -> None:
    halt = placed(Halt.Kind.GLOBAL, "")
    outcomes = all_at_once([partial(lift_halt, halt.pk, actor=SYSTEM, reason="Over.")] * 6)
    assert sum(isinstance(outcome, Halt) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, HaltNotInForce) for outcome in outcomes) == 5
    assert Event.objects.filter(type="halt.lifted").count() == 1


def test_the_halt_of_everything_is_lifted_by_two_people(
    tiers: dict[str, Tier], rosa: User, ruben: User
) -> None:
    by_rosa, by_ruben = Actor.from_user(rosa), Actor.from_user(ruben)
    halt = placed(Halt.Kind.GLOBAL, "", actor=by_ruben)
    request = ask_to_lift(halt.pk, actor=by_rosa, reason="It is over.")
    assert request.snapshot["placed_because"] == "Stop."
    with pytest.raises(AlreadyAskedToLift):
        ask_to_lift(halt.pk, actor=by_rosa, reason="It is over.")
    with pytest.raises(OwnRequest):
        cast_vote(request.pk, actor=by_rosa, answer=Vote.Answer.APPROVE, reason="Yes.")
    assert covering() is not None
    cast_vote(request.pk, actor=by_ruben, answer=Vote.Answer.APPROVE, reason="Yes.")
    assert covering() is None
    halt.refresh_from_db()
    assert halt.lifted_by == "ruben"
    lifted = Event.objects.get(type="halt.lifted")
    assert lifted.details["reason"] == "Two people want it: rosa and ruben."
    with pytest.raises(HaltNotInForce):
        ask_to_lift(halt.pk, actor=by_rosa, reason="It is over.")


def test_a_no_leaves_everything_halted(tiers: dict[str, Tier], rosa: User, ruben: User) -> None:
    halt = placed(Halt.Kind.GLOBAL, "")
    request = ask_to_lift(halt.pk, actor=Actor.from_user(rosa), reason="It is over.")
    cast_vote(
        request.pk, actor=Actor.from_user(ruben), answer=Vote.Answer.REJECT, reason="Not yet."
    )
    assert covering() is not None
    ask_to_lift(halt.pk, actor=Actor.from_user(rosa), reason="Now it is.")
    lift_halt(halt.pk, actor=SYSTEM, reason="By whoever operates the portal.")
    late = ApprovalRequest.objects.pending().get()
    cast_vote(late.pk, actor=Actor.from_user(ruben), answer=Vote.Answer.APPROVE, reason="Yes.")
    assert Event.objects.filter(type="halt.lifted").count() == 1
