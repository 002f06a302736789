"""From a call to the request that policy decides: context, and reasons to stop before asking."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.utils import timezone

from agents.tokens import Caller
from policies.evaluation import Decision, Reason, Request, decide, strictest
from policies.schema import NotRepresentable, Path, long_value, used_value
from policies.snapshot import ELEVATED, Snapshot
from tools.definitions import ToolSpec


@dataclass(frozen=True, slots=True)
class RunContext:
    """The state of the run that decisions depend on."""

    initiator: str
    purpose: str
    labels: tuple[str, ...]
    actions: int
    denials: int
    amount: Decimal
    budget_actions: int | None
    budget_amount: Decimal | None
    chain: tuple[str, ...] = ()
    id: UUID | None = None


@dataclass(frozen=True, slots=True)
class CallContext:
    """One call, with what the portal has found out about it."""

    caller: Caller
    tool: ToolSpec
    arguments: Mapping[str, Any]
    claims: Mapping[str, Any]
    facts: Mapping[str, Any]
    amount: Decimal
    problem: Reason | None = None


def authorize(
    snapshot: Snapshot,
    call: CallContext,
    run: RunContext,
    *,
    now: datetime,
    approved_rank: int = 0,
) -> Decision:
    """The decision on a call: for the caller, and for each agent that handed the work over.

    What was handed over can be done only within the rights of everybody in the chain, so the
    strictest of their decisions holds.
    """
    parties = (call, *(_as_party(snapshot, call, client_id) for client_id in run.chain))
    requests = [
        request_for(snapshot, party, run, now=now, approved_rank=approved_rank) for party in parties
    ]
    decisions = [_of(request, snapshot) for request in requests]
    return strictest(decisions, snapshot.ranks)


def _of(request: Request, snapshot: Snapshot) -> Decision:
    decision = decide(request, snapshot.policies, snapshot.ranks)
    return replace(decision, elevation=request.elevation) if request.elevation else decision


def _as_party(snapshot: Snapshot, call: CallContext, client_id: str) -> CallContext:
    identity = snapshot.directory.identities[client_id]
    return replace(call, caller=replace(call.caller, identity=identity))


def request_for(
    snapshot: Snapshot,
    call: CallContext,
    run: RunContext,
    *,
    now: datetime,
    approved_rank: int = 0,
) -> Request:
    """The frozen request. What Cedar cannot hold is left out and named in `lost`."""
    identity, tool = call.caller.identity, call.tool
    roles = snapshot.roles(call.caller)
    granted = snapshot.is_granted(roles, tool)
    elevation = (
        None if granted else snapshot.elevation(identity.pk, run.id, tool.full_name, now=now)
    )
    halt = _halt(snapshot, call)
    stops = (halt,) if halt else _stops(snapshot, call, run, granted or elevation is not None)
    context: Mapping[str, Any] = {}
    lost: frozenset[Path] = frozenset()
    if not stops:
        context, lost = _context(snapshot, call, run, now=now, approved_rank=approved_rank)
    return Request(
        agent=identity.agent_slug,
        risk=identity.risk,
        roles=roles | {ELEVATED} if elevation else roles,
        action=tool.full_name,
        system=tool.system,
        access=tool.access,
        environment=identity.environment,
        context=context,
        lost=lost,
        approved_rank=approved_rank,
        stops=stops,
        halting=halt is not None,
        elevation=str(elevation.id) if elevation else "",
    )


INACTIVE = Reason(
    "chancery:identity-not-active", "Identity not active", "The agent is not active here."
)
WITHDRAWN = Reason("chancery:tool-withdrawn", "Tool withdrawn", "This tool is out of service.")
OUT_OF_SCOPE = Reason(
    "chancery:out-of-scope", "Outside the token's scope", "The token does not cover this tool."
)
NOT_GRANTED = Reason(
    "chancery:no-grant", "No grant", "No role of this agent has been granted this tool."
)
CHANGED = Reason(
    "chancery:tool-not-in-release",
    "Tool not in the live release",
    "The live policy release was not checked against this definition of the tool.",
)
OVER_ACTIONS = Reason(
    "chancery:budget-actions", "Budget of actions used up", "The run has made all its actions."
)
OVER_AMOUNT = Reason(
    "chancery:budget-amount", "Budget exceeded", "This would take the run beyond its budget."
)


def is_worth_evaluating(
    snapshot: Snapshot, caller: Caller, tool: ToolSpec, *, run_id: UUID | None = None
) -> bool:
    """Whether finding out facts is worth it: nothing known already stops the call."""
    covered = snapshot.directory.halt_covering(
        agent=caller.identity.agent_slug,
        environment=caller.identity.environment,
        system=tool.system,
        tool=tool.full_name,
    )
    return (
        covered is None
        and not tool.withdrawn
        and caller.identity.usable
        and caller.scope_covers(tool.full_name)
        and (
            snapshot.is_granted(snapshot.roles(caller), tool)
            or snapshot.elevation(caller.identity.pk, run_id, tool.full_name, now=timezone.now())
            is not None
        )
    )


def _halt(snapshot: Snapshot, call: CallContext) -> Reason | None:
    identity = call.caller.identity
    found = snapshot.directory.halt_covering(
        agent=identity.agent_slug,
        environment=identity.environment,
        system=call.tool.system,
        tool=call.tool.full_name,
    )
    if found is None:
        return None
    kind, target, reason = found
    rule = f"chancery:halt:{kind}:{target}" if target else "chancery:halt:global"
    return Reason(rule, "Halt in force", reason)


def _stops(
    snapshot: Snapshot,
    call: CallContext,
    run: RunContext,
    granted: bool,  # noqa: FBT001 - found out by the caller
) -> tuple[Reason, ...]:
    tool = call.tool
    release = snapshot.policies
    over_amount = run.budget_amount is not None and run.amount + call.amount > run.budget_amount
    checks = (
        (not call.caller.identity.usable, INACTIVE),
        (tool.withdrawn, WITHDRAWN),
        (not call.caller.scope_covers(tool.full_name), OUT_OF_SCOPE),
        (not granted, NOT_GRANTED),
        (release is not None and release.tools.get(tool.full_name) != tool.digest, CHANGED),
        (run.budget_actions is not None and run.actions >= run.budget_actions, OVER_ACTIONS),
        (over_amount, OVER_AMOUNT),
    )
    found = tuple(reason for applies, reason in checks if applies)
    if not found and call.problem is not None:
        return (call.problem,)
    return found


def _context(
    snapshot: Snapshot, call: CallContext, run: RunContext, *, now: datetime, approved_rank: int
) -> tuple[dict[str, Any], frozenset[Path]]:
    """The context, and the paths of what Cedar cannot hold of it."""
    lost: list[Path] = []
    context = {
        "input": snapshot.shape(call.tool).convert(
            call.tool.open_arguments(call.arguments), ("input",), lost
        ),
        "facts": _facts(call.facts, lost),
        "claims": dict(call.claims),
        "run": {
            "initiator": run.initiator,
            "purpose": run.purpose,
            "labels": list(run.labels),
        },
        "usage": {"actions": run.actions, "denials": run.denials},
        "approval": {"rank": approved_rank},
        "time": {"hour": now.hour, "weekday": now.isoweekday()},
    }
    try:
        context["usage"]["amount"] = used_value(run.amount)
    except NotRepresentable:
        lost.append(("usage", "amount"))
    return context, frozenset(lost)


def _facts(facts: Mapping[str, Any], lost: list[Path]) -> dict[str, Any]:
    found = {}
    for name, value in facts.items():
        if type(value) is int:
            try:
                long_value(value)
            except NotRepresentable:
                lost.append(("facts", name))
                continue
        found[name] = value
    return found
