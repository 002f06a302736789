"""Deciding without a database: frozen facts in, a frozen decision out."""

from itertools import permutations
from typing import Any

import pytest

from policies.evaluation import (
    NO_PERMIT,
    NO_RELEASE,
    UNKNOWN_TIER,
    Decision,
    Reason,
    Request,
    decide,
)
from policies.slices import SlicedPolicies, parsed_rules

RANKS = {"supervisor": 10, "manager": 20, "dual": 30}
STOP = Reason("chancery:no-grant", "No grant", "No role has been granted this tool.")

PERMIT = '@id("permit") permit(principal, action, resource);'
FORBID = '@id("forbid") @reason("No.") forbid(principal, action, resource);'
HALT = '@id("halt") @halt @reason("Stop.") forbid(principal, action, resource);'
# True for n = 1, and beyond the range of Cedar's Long for n = 2.
OVERFLOWING = "when { context.n + 9223372036854775806 > 0 }"


def gate(tier: str, when: str = "") -> str:
    note = f'@id("gate-{tier}") @tier("{tier}") @reason("Ask {tier}.")'
    return f"{note} forbid(principal, action, resource) {when};"


def asked(**given: Any) -> Request:
    usual: dict[str, Any] = {
        "agent": "tilda",
        "risk": "medium",
        "roles": frozenset({"keepers"}),
        "action": "toolbox.pay",
        "system": "toolbox",
        "access": "write",
        "environment": "prod",
        "context": {"n": 1},
    }
    return Request(**usual | given)


def release_of(*texts: str) -> SlicedPolicies:
    return SlicedPolicies(7, parsed_rules("\n".join(texts)), {})


def decided(*texts: str, **given: Any) -> Decision:
    return decide(asked(**given), release_of(*texts), RANKS)


def rules_of(decision: Decision) -> list[str]:
    return [reason.rule for reason in decision.reasons]


SUPERVISOR, MANAGER, DUAL = gate("supervisor"), gate("manager"), gate("dual")


@pytest.mark.parametrize(
    ("texts", "outcome", "rules"),
    [
        ([PERMIT], "allowed", ["permit"]),
        ([PERMIT, FORBID], "denied", ["forbid"]),
        ([PERMIT, HALT], "halted", ["halt"]),
        ([PERMIT, SUPERVISOR], "needs_approval", ["gate-supervisor"]),
        ([PERMIT, SUPERVISOR, FORBID], "denied", ["forbid"]),
        ([PERMIT, SUPERVISOR, HALT], "halted", ["halt"]),
        ([PERMIT, FORBID, HALT], "halted", ["forbid", "halt"]),
        ([PERMIT, FORBID, HALT, DUAL], "halted", ["forbid", "halt"]),
        ([FORBID], "denied", ["forbid"]),
        ([HALT], "halted", ["halt"]),
        ([FORBID, SUPERVISOR], "denied", ["forbid"]),
    ],
)
def test_a_halt_beats_a_prohibition_beats_a_gate_beats_a_permit(
    texts: list[str], outcome: str, rules: list[str]
) -> None:
    for ordered in permutations(texts):
        decision = decided(*ordered)
        assert decision.outcome == outcome
        assert rules_of(decision) == rules
        assert decision.release == 7


def test_what_no_policy_permits_is_denied() -> None:
    elsewhere = '@id("p") permit(principal, action == Action::"toolbox.mail", resource);'
    assert decided(elsewhere) == Decision("denied", (NO_PERMIT,), release=7)


@pytest.mark.parametrize("rank", [0, 10, 1000])
def test_a_gate_is_no_authority_however_high_the_approval(rank: int) -> None:
    decision = decided(SUPERVISOR, DUAL, approved_rank=rank)
    assert decision == Decision("denied", (NO_PERMIT,), release=7)


def test_a_permit_that_does_not_apply_gives_no_authority_behind_a_gate() -> None:
    conditional = '@id("p") permit(principal, action, resource) when { context.n > 5 };'
    assert decided(conditional, SUPERVISOR).reasons == (NO_PERMIT,)
    assert decided(conditional, SUPERVISOR, context={"n": 6}).outcome == "needs_approval"


def test_the_strictest_gate_names_the_tier_and_all_shut_gates_are_reasons() -> None:
    for ordered in permutations([PERMIT, SUPERVISOR, DUAL, MANAGER]):
        decision = decided(*ordered)
        assert (decision.outcome, decision.tier) == ("needs_approval", "dual")
        assert rules_of(decision) == ["gate-dual", "gate-manager", "gate-supervisor"]


def test_a_gate_whose_condition_does_not_hold_asks_nobody() -> None:
    decision = decided(PERMIT, SUPERVISOR, gate("dual", "when { context.n > 5 }"))
    assert decision.tier == "supervisor"


@pytest.mark.parametrize(
    ("rank", "outcome", "tier", "shut"),
    [
        (0, "needs_approval", "dual", ["gate-dual", "gate-manager", "gate-supervisor"]),
        (9, "needs_approval", "dual", ["gate-dual", "gate-manager", "gate-supervisor"]),
        (10, "needs_approval", "dual", ["gate-dual", "gate-manager"]),
        (20, "needs_approval", "dual", ["gate-dual"]),
        (29, "needs_approval", "dual", ["gate-dual"]),
        (30, "allowed", None, ["gate-dual", "gate-manager", "gate-supervisor"]),
        (31, "allowed", None, ["gate-dual", "gate-manager", "gate-supervisor"]),
    ],
)
def test_an_approval_opens_gates_of_its_rank_and_below(
    rank: int, outcome: str, tier: str | None, shut: list[str]
) -> None:
    decision = decided(PERMIT, SUPERVISOR, MANAGER, DUAL, approved_rank=rank)
    assert (decision.outcome, decision.tier, rules_of(decision)) == (outcome, tier, shut)


@pytest.mark.parametrize(("rule", "outcome"), [(FORBID, "denied"), (HALT, "halted")])
def test_no_approval_opens_a_prohibition(rule: str, outcome: str) -> None:
    assert decided(PERMIT, SUPERVISOR, rule, approved_rank=1000).outcome == outcome


@pytest.mark.parametrize("rank", [0, 30, 1000])
def test_a_gate_of_an_unknown_tier_denies(rank: int) -> None:
    expected = Decision("denied", (UNKNOWN_TIER,), release=7)
    assert decided(PERMIT, gate("ghost"), approved_rank=rank) == expected
    assert decided(PERMIT, gate("ghost"), DUAL, approved_rank=rank) == expected


@pytest.mark.parametrize(
    "failing",
    [
        f'@id("r") permit(principal, action, resource) {OVERFLOWING};',
        f'@id("r") forbid(principal, action, resource) {OVERFLOWING};',
        f'@id("r") @tier("dual") forbid(principal, action, resource) {OVERFLOWING};',
        f'@id("r") @halt forbid(principal, action, resource) {OVERFLOWING};',
    ],
)
def test_a_rule_that_fails_denies_even_when_a_permit_holds(failing: str) -> None:
    for others in ([PERMIT], [PERMIT, SUPERVISOR], [PERMIT, FORBID], [PERMIT, HALT], []):
        decision = decided(*others, failing, context={"n": 2}, approved_rank=1000)
        assert decision.outcome == "denied"
        assert rules_of(decision) == ["chancery:policy-error"]
        assert "overflow" in decision.reasons[0].sentence
    assert "chancery:policy-error" not in rules_of(decided(PERMIT, failing, context={"n": 1}))


def test_a_rule_about_a_value_that_is_not_there_denies() -> None:
    rule = '@id("r") @reason("No.") forbid(principal, action, resource) when { context.gone };'
    assert rules_of(decided(PERMIT, rule)) == ["chancery:policy-error"]


def test_without_a_release_nothing_is_allowed() -> None:
    assert decide(asked(), None, RANKS) == Decision("denied", (NO_RELEASE,), release=0)


def test_an_empty_release_allows_nothing() -> None:
    assert decide(asked(), release_of(), RANKS) == Decision("denied", (NO_PERMIT,), release=7)


@pytest.mark.parametrize(("halting", "outcome"), [(False, "denied"), (True, "halted")])
def test_a_stop_wins_over_policy(halting: bool, outcome: str) -> None:
    other = Reason("chancery:tool-withdrawn", "Tool withdrawn", "Out of service.")
    stopped = asked(stops=(STOP, other), halting=halting, approved_rank=1000)
    for texts in ([PERMIT], [PERMIT, HALT], [PERMIT, FORBID], [PERMIT, DUAL]):
        decision = decide(stopped, release_of(*texts), RANKS)
        assert decision == Decision(outcome, (STOP, other), release=7)  # type: ignore[arg-type]
    assert decide(stopped, None, RANKS).outcome == outcome


def test_what_a_rule_says_of_itself_is_what_people_see() -> None:
    rule = (
        '@id("r") @title("Title") @reason("Sentence.") @control("SOC2 CC6.3")'
        " forbid(principal, action, resource);"
    )
    [reason] = decided(PERMIT, rule).reasons
    assert reason.plain() == {
        "rule": "r",
        "title": "Title",
        "reason": "Sentence.",
        "control": "SOC2 CC6.3",
    }
    [reason] = decided(PERMIT).reasons
    assert reason.plain() == {"rule": "permit", "title": "permit", "reason": "permit"}


def test_who_asks_is_looked_at_each_time() -> None:
    careful = '@id("r") forbid(principal, action, resource) when { principal.risk == "high" };'
    release = release_of(PERMIT, careful)
    outcomes = [
        decide(asked(risk=risk), release, RANKS).outcome for risk in ("low", "high", "low", "high")
    ]
    assert outcomes == ["allowed", "denied", "allowed", "denied"]


def test_roles_and_environments_bound_a_rule() -> None:
    release = release_of(
        '@id("p") permit(principal in Role::"keepers", action, resource == Environment::"prod");'
    )
    assert decide(asked(), release, RANKS).outcome == "allowed"
    assert decide(asked(roles=frozenset()), release, RANKS).outcome == "denied"
    assert decide(asked(roles=frozenset({"others"})), release, RANKS).outcome == "denied"
    assert decide(asked(environment="staging"), release, RANKS).outcome == "denied"
