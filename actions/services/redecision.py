"""Actions that wait to be executed: approved by people, asked for later, or cut off by a crash.

An approval is an input to policy, not a way round it: the action is decided again, against the
live release and fresh facts, with the approved rank in the request. The approval counts only for
what it was given for, and is spent in the transaction that commits the first attempt.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.utils import timezone

from actions import events, executors
from actions.errors import DecisionConflict
from actions.models import Action, Run
from actions.services import tables
from actions.services.attempts import OpenAttempt, attempt_rows
from actions.services.decisions import (
    MAX_TRIES,
    STOPPED_SINCE,
    decision_event,
    question,
)
from actions.services.execution import perform
from actions.services.freshness import PATIENCE_SECONDS, is_current, locked_turns
from actions.services.proposals import PreparedProposal, Proposal, build_call_context, turn_of
from actions.services.results import progress
from actions.services.run_locks import LockedRun
from actions.services.runs import run_subject, withdraw_questions
from agents.tokens import Caller
from approvals.eligibility import is_backed
from approvals.models import ApprovalRequest
from approvals.services import REQUESTS, question_rows, spend
from audit.generation import current_mark, hold_shared
from audit.services.recorder import EVENTS, event_row
from common.actors import SYSTEM, Actor
from common.canonical import normalise
from common.sql import Row, write
from policies.authorization import CallContext, authorize
from policies.evaluation import Decision, Reason
from policies.snapshot import Snapshot, snapshot

TOOL_CHANGED = Reason(
    "chancery:tool-changed",
    "Tool changed since it was asked for",
    "The tool's definition is not the one that this action was proposed and approved with.",
)
RUN_ENDED = Reason(
    "chancery:run-not-open", "Run ended", "The run was closed or halted before this was executed."
)


@dataclass(frozen=True, slots=True)
class Redecision:
    """A second decision, in the database; `started` if the call may be made now."""

    action: Action
    started: OpenAttempt | None
    mark: int
    snapshot: Snapshot


def resume(action_id: UUID) -> Action | None:
    """Decide a ready action again and carry it out if it is still allowed.

    None if it is not ready: a repeated hint does nothing. Raises DecisionConflict, and CallInFlight
    while a call is being made that its facts depend on: then a later hint finds it still ready.
    """
    for _ in range(MAX_TRIES):
        action = Action.objects.with_run().filter(pk=action_id, status=Action.Status.READY).first()
        if action is None:
            return None
        snapshot.current()
        mark, held = snapshot.cached_with_version()
        prepared = prepare_from_action(action, mark, held)
        resumed = decide_again(prepared, action_id)
        if resumed is not None:
            if resumed.started is None:
                return resumed.action
            return perform(
                resumed.action, resumed.started, mark=resumed.mark, held=resumed.snapshot
            )
    raise DecisionConflict


def prepare_from_action(
    action: Action, mark: int, held: Snapshot, *, patience: float = PATIENCE_SECONDS
) -> PreparedProposal:
    """A ready action with today's facts, to be decided again. Raises CallInFlight."""
    identity = held.directory.identities[action.run.identity.client_id]
    # The token is over; its scope still is the ceiling, and its epoch must still be the identity's.
    scopes = frozenset(action.scope.split())
    caller = Caller(identity, scopes, jti="", epoch=action.epoch, expires_at=0)
    spec = held.catalog.tools[action.tool]
    proposal = Proposal(
        caller=caller,
        run_id=action.run_id,
        tool=action.tool,
        arguments=action.arguments,
        claims=action.claims,
        # No request of an agent's: nothing answers it but the call itself.
        idempotency_key="",
        patience=patience,
    )
    call = CallContext(caller, spec, action.arguments, action.claims, {}, Decimal(0))
    read_at = turn_of(proposal, call, held)
    call = build_call_context(held, call, run_id=action.run_id)
    return PreparedProposal(
        proposal, mark, held, call, action.arguments_digest, action.request_digest, read_at
    )


@transaction.atomic
def decide_again(
    prepared: PreparedProposal, action_id: UUID, *, lease: timedelta | None = None
) -> Redecision | None:
    """Decide a ready action anew and, if it is still allowed, begin its next attempt.

    None if the generation moved or the action is no longer ready; the caller looks again.
    """
    hold_shared()
    if current_mark() != prepared.mark:
        return None
    # Locks in this order everywhere: run, exclusive key, approval, action.
    run = Run.objects.select_for_update().get(pk=prepared.proposal.run_id)
    turns = locked_turns([prepared.read_at.key] if prepared.read_at else [])
    if not is_current(prepared.read_at, effects=run.effects_count, turns=turns):
        return None
    approval = _locked_approval(action_id)
    action = Action.objects.select_for_update().get(pk=action_id)
    if action.status != Action.Status.READY:
        return None
    now = timezone.now()
    rank = _counting_rank(approval, action, prepared)
    decision = _decision(prepared, action, run, approval=approval, rank=rank, now=now)
    action.facts = dict(prepared.call.facts)
    started = _apply(decision, prepared, action, run, approval=approval, now=now, lease=lease)
    return Redecision(action, started, prepared.mark, prepared.snapshot)


def _locked_approval(action_id: UUID) -> ApprovalRequest | None:
    approval_id = Action.objects.filter(pk=action_id).values_list("approval_id", flat=True).first()
    if approval_id is None:
        return None
    return ApprovalRequest.objects.select_for_update().get(pk=approval_id)


def _counting_rank(
    approval: ApprovalRequest | None, action: Action, prepared: PreparedProposal
) -> int:
    """The rank that the approval gives: 0 unless it was given for exactly this, under the live
    release, at this address, on the facts that its gates look at, and is unspent (or was spent on
    an earlier attempt of this very action).
    """
    if approval is None or approval.status != ApprovalRequest.Status.APPROVED:
        return 0
    if approval.spent_at is None and not is_backed(approval):
        return 0  # somebody who approved may no longer decide this
    held = prepared.snapshot
    shown = approval.snapshot
    is_same = (
        shown.get("arguments_digest") == action.arguments_digest
        and shown.get("tool_digest") == prepared.call.tool.digest
        and shown.get("release") == (held.policies.number if held.policies else 0)
        and shown.get("endpoint") == held.catalog.address_of(prepared.call.tool, action.environment)
        and _rests_on_the_same(shown, approval.reasons, prepared)
    )
    is_usable = approval.spent_at is None or action.attempts_count > 0
    return held.ranks.get(approval.tier_id, 0) if is_same and is_usable else 0


def _rests_on_the_same(
    shown: Mapping[str, Any], reasons: Sequence[Mapping[str, Any]], prepared: PreparedProposal
) -> bool:
    """Whether the facts that the gates look at are those that people were shown."""
    held, spec = prepared.snapshot, prepared.call.tool
    if held.policies is None:
        return False
    gates = {str(reason.get("rule")) for reason in reasons}
    named = held.policies.facts_of(gates)
    looked_at = spec.facts_behind(named) if named is not None else {one.name for one in spec.facts}
    before, now = shown.get("facts") or {}, normalise(dict(prepared.call.facts))
    return all(before.get(name) == now.get(name) for name in looked_at)


def _decision(
    prepared: PreparedProposal,
    action: Action,
    run: Run,
    *,
    approval: ApprovalRequest | None,
    rank: int,
    now: datetime,
) -> Decision:
    held = prepared.snapshot
    number = held.policies.number if held.policies else 0
    if run.status != Run.Status.OPEN:
        return Decision("denied", (RUN_ENDED,), release=number)
    if prepared.call.caller.identity.epoch != action.epoch:
        return Decision("denied", (STOPPED_SINCE,), release=number)
    known = held.directory.identities
    is_stopped = any(known[party].epoch != epoch for party, epoch in run.chain_epochs.items())
    if is_stopped or (run.delegation and run.delegation not in held.directory.persons):
        return Decision("denied", (STOPPED_SINCE,), release=number)
    if prepared.call.tool.digest != action.tool_digest:
        return Decision("denied", (TOOL_CHANGED,), release=number)
    state = _without(action, run_row(run)).state()
    found = authorize(held, prepared.call, state, now=now, approved_rank=rank)
    if approval is None or not rank or found.outcome not in {"allowed", "needs_approval"}:
        return found
    # An approval opens the gates that people were shown. If another gate applies now, or one of a
    # higher tier, people are asked again and shown all of them.
    shown = {str(reason.get("rule")) for reason in approval.reasons}
    opens_all = found.outcome == "allowed" and {one.rule for one in found.reasons} <= shown
    return found if opens_all else authorize(held, prepared.call, state, now=now, approved_rank=0)


def _without(action: Action, row: LockedRun) -> LockedRun:
    """The run's totals as they were before this action was counted in."""
    row.actions -= 1
    # Its amount is in since it was allowed, or since its first attempt.
    if action.outcome == Action.Outcome.ALLOWED or action.attempts_count:
        row.amount -= action.amount
    return row


def run_row(run: Run) -> LockedRun:
    return LockedRun(
        id=run.pk,
        identity_id=run.identity_id,
        status=run.status,
        initiator=run.initiator,
        purpose=run.purpose,
        labels=tuple(run.labels),
        actions=run.actions_count,
        denials=run.denials_count,
        amount=run.amount,
        budget_actions=run.budget_actions,
        budget_amount=run.budget_amount,
        chain=tuple(run.chain),
        delegation=run.delegation,
        chain_epochs=run.chain_epochs,
        effects=run.effects_count,
    )


def _apply(
    decision: Decision,
    prepared: PreparedProposal,
    action: Action,
    run: Run,
    *,
    approval: ApprovalRequest | None,
    now: datetime,
    lease: timedelta | None,
) -> OpenAttempt | None:
    """Write the second decision and what follows from it; the attempt to make, if any."""
    event = decision_event(
        action, decision, prepared.call.tool, actor=SYSTEM, now=now, chain=run.chain
    )
    event["details"] |= {"again": True, "approval": str(approval.pk) if approval else ""}
    batch_events = [event]
    action.redecision = _plain(decision, now)
    started: OpenAttempt | None = None
    if decision.outcome == "allowed":
        started = _begin(
            prepared,
            action,
            run,
            approval=approval,
            now=now,
            events_=batch_events,
            lease=lease,
        )
    elif decision.outcome == "needs_approval":
        _ask_again(decision, prepared, action, run, now=now, events_=batch_events)
    else:
        _stop(decision, action, run, now=now, events_=batch_events)
    action.save(
        update_fields=[
            "facts", "redecision", "approval_id", "tier", "reasons", "release", "endpoint",
        ]
    )  # fmt: skip
    write(
        connection,
        [(EVENTS, batch_events), (tables.ACTION_PROGRESS, [progress(action, now)])],
    )
    return started


def _plain(decision: Decision, now: datetime) -> dict[str, Any]:
    return {
        "outcome": decision.outcome,
        "tier": decision.tier or "",
        "reasons": [reason.plain() for reason in decision.reasons],
        "release": decision.release,
        "at": now.isoformat(),
    }


def _begin(
    prepared: PreparedProposal,
    action: Action,
    run: Run,
    *,
    approval: ApprovalRequest | None,
    now: datetime,
    events_: list[dict[str, Any]],
    lease: timedelta | None,
) -> OpenAttempt:
    if approval is not None and action.attempts_count == 0:
        if approval.status == ApprovalRequest.Status.APPROVED and approval.spent_at is None:
            spend(approval.pk, actor=SYSTEM, action=str(action.pk))
        if action.outcome != Action.Outcome.ALLOWED:
            run.amount += action.amount
    started, attempt, event = attempt_rows(
        action, prepared.call.tool, actor=SYSTEM, now=now, lease=lease
    )
    run.effects_count += prepared.call.tool.access != "read"
    run.save(update_fields=["amount", "effects_count"])
    action.status = Action.Status.EXECUTING
    action.endpoint = prepared.snapshot.catalog.address_of(prepared.call.tool, action.environment)
    events_.append(event)
    turns: list[Row] = []
    if prepared.read_at is not None and prepared.read_at.key:
        turns = [{"key": prepared.read_at.key, "turns": prepared.read_at.turns + 1}]
    write(connection, [(tables.ATTEMPTS, [attempt]), (tables.EXCLUSIVE_TURNS, turns)])
    return started


def _ask_again(
    decision: Decision,
    prepared: PreparedProposal,
    action: Action,
    run: Run,
    *,
    now: datetime,
    events_: list[dict[str, Any]],
) -> None:
    """The approval does not cover what is needed now: ask anew, showing today's facts."""
    action.tier = decision.tier or ""
    action.reasons = [reason.plain() for reason in decision.reasons]
    action.release = decision.release
    action.status = Action.Status.WAITING
    client_id = prepared.proposal.caller.identity.client_id
    agent = Actor(kind="agent", id=client_id, label=client_id)
    row, event = question_rows(question(prepared, action, run_row(run)), actor=agent, now=now)
    action.approval_id = row["id"]
    events_.append(dict(event))
    write(connection, [(REQUESTS, [row])])


def _stop(
    decision: Decision, action: Action, run: Run, *, now: datetime, events_: list[dict[str, Any]]
) -> None:
    action.status = Action.Status(decision.outcome)
    run.denials_count += 1
    if decision.outcome == "halted" and run.status == Run.Status.OPEN:
        run.status, run.closed_at, run.outcome = Run.Status.HALTED, now, "halted by a rule"
        withdraw_questions(run.pk, actor=SYSTEM, reason="The run was halted.")
        executors.notify_run_ended(run.pk)
        events_.append(
            event_row(
                events.RUN_HALTED,
                actor=SYSTEM,
                subject=run_subject(run.pk),
                run_id=run.pk,
                at=now,
                details={"rules": [reason.rule for reason in decision.reasons]},
            )
        )
    run.save(update_fields=["status", "closed_at", "outcome", "denials_count"])
