"""The decision itself. Frozen facts in, frozen Decision out; no database, no clock, no network.

Cedar answers allow or deny. Here that becomes four answers: a `permit` gives authority; a plain
`forbid` prohibits; a `forbid` with `@tier` is a gate that an approval of that rank or higher
opens; a `forbid` with `@halt` stops the run. No permit, no authority.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from policies.slices import PolicyRule, SlicedPolicies, Verdict

Outcome = Literal["allowed", "needs_approval", "denied", "halted"]


@dataclass(frozen=True, slots=True)
class Reason:
    """Why: a rule's id, its title, and the sentence that people and agents see."""

    rule: str
    title: str
    sentence: str
    control: str = ""

    def plain(self) -> dict[str, str]:
        named = {"rule": self.rule, "title": self.title, "reason": self.sentence}
        return {**named, "control": self.control} if self.control else named


@dataclass(frozen=True, slots=True)
class Decision:
    outcome: Outcome
    reasons: tuple[Reason, ...]
    tier: str | None = None
    release: int = 0
    elevation: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    """All that a decision is made from.

    `stops` are reasons found before policy is asked (a halt, a withdrawn tool, a missing grant,
    a fact that could not be established); `halting` says that they stop the run as well.
    """

    agent: str
    risk: str
    roles: frozenset[str]
    action: str
    system: str
    access: str
    environment: str
    context: Mapping[str, Any]
    approved_rank: int = 0
    stops: tuple[Reason, ...] = ()
    halting: bool = False
    # Paths in the context of what Cedar cannot hold, and which is therefore left out of it.
    lost: frozenset[tuple[str, ...]] = frozenset()
    elevation: str = ""


NOT_REPRESENTABLE = Reason(
    "chancery:not-representable",
    "Value out of range",
    "A rule looks at a value that is too large or too fine for policy to weigh exactly.",
)
NO_PERMIT = Reason("chancery:no-permit", "No permit", "No policy gives the authority to do this.")
NO_RELEASE = Reason(
    "chancery:no-release", "No live release", "No policy release is live, so nothing is allowed."
)
UNKNOWN_TIER = Reason(
    "chancery:unknown-tier", "Unknown tier", "A rule asks for a tier that does not exist."
)


def decide(request: Request, policies: SlicedPolicies | None, ranks: Mapping[str, int]) -> Decision:
    """The decision on one request. `ranks` gives each tier's rank by its slug.

    Whatever cannot be evaluated denies: Cedar skips a rule that fails, and a skipped prohibition
    would be a permission.
    """
    number = policies.number if policies is not None else 0
    if request.stops:
        outcome: Outcome = "halted" if request.halting else "denied"
        return Decision(outcome, request.stops, release=number)
    if policies is None:
        return Decision("denied", (NO_RELEASE,))
    if request.lost and policies.looks_at(request, request.lost):
        return Decision("denied", (NOT_REPRESENTABLE,), release=number)
    verdict = policies.ask(request)
    if verdict.errors:
        reasons = tuple(_broken(text) for text in verdict.errors)
        return Decision("denied", reasons, release=number)
    return _weighed(verdict, request.approved_rank, ranks, number)


_SEVERITY: Mapping[str, int] = {"allowed": 0, "needs_approval": 1, "denied": 2, "halted": 3}


def strictest(decisions: Sequence[Decision], ranks: Mapping[str, int]) -> Decision:
    """The one of several that permits least, with the reasons of all that are as strict."""
    if len(decisions) == 1:
        return decisions[0]
    worst = max(_SEVERITY[one.outcome] for one in decisions)
    as_bad = [one for one in decisions if _SEVERITY[one.outcome] == worst]
    chosen = max(as_bad, key=lambda one: ranks.get(one.tier or "", 0))
    reasons = dict.fromkeys(reason for one in as_bad for reason in one.reasons)
    used = next((one.elevation for one in decisions if one.elevation), "")
    return Decision(chosen.outcome, tuple(reasons), chosen.tier, chosen.release, used)


def _weighed(
    verdict: Verdict, approved_rank: int, ranks: Mapping[str, int], number: int
) -> Decision:
    if verdict.allowed:
        return Decision("allowed", _reasons(verdict.rules), release=number)
    prohibitions = tuple(rule for rule in verdict.rules if rule.tier is None)
    if prohibitions:
        return _prohibited(prohibitions, number)
    if not verdict.permitted:
        return Decision("denied", (NO_PERMIT,), release=number)
    return _gated(verdict.rules, approved_rank, ranks, number)


def _prohibited(rules: tuple[PolicyRule, ...], number: int) -> Decision:
    halts = any(rule.halts for rule in rules)
    return Decision("halted" if halts else "denied", _reasons(rules), release=number)


def _gated(
    gates: tuple[PolicyRule, ...], approved_rank: int, ranks: Mapping[str, int], number: int
) -> Decision:
    """All of `gates` apply: needs the strictest that the approval does not open."""
    if any(gate.tier not in ranks for gate in gates):
        return Decision("denied", (UNKNOWN_TIER,), release=number)
    shut = tuple(gate for gate in gates if ranks[str(gate.tier)] > approved_rank)
    if not shut:
        return Decision("allowed", _reasons(gates), release=number)
    strictest = max(shut, key=lambda gate: ranks[str(gate.tier)])
    return Decision("needs_approval", _reasons(shut), tier=strictest.tier, release=number)


def _reasons(rules: tuple[PolicyRule, ...]) -> tuple[Reason, ...]:
    return tuple(Reason(rule.id, rule.title, rule.sentence, rule.control) for rule in rules)


def _broken(text: str) -> Reason:
    return Reason("chancery:policy-error", "A policy could not be evaluated", text)
