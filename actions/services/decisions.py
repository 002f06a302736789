"""The deciding transaction: one function that commits one or many decisions.

Everything slow (facts, connectors) happens before it. Inside: a shared lock that a change of
generation waits for, the generation and the runs re-read, the pure decisions, and one write of
Actions, Attempts, ApprovalRequests, Events and run totals. If the generation moved since the
proposals were prepared, nothing is written and they are prepared anew.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from accounts.people import people_named
from actions import events, executors
from actions.errors import CallInFlight, DecisionConflict, IdempotencyKeyReused, RunNotOpen
from actions.models import Action, Run
from actions.services import audit_details, sealed_arguments, tables
from actions.services.attempts import OpenAttempt, attempt_rows
from actions.services.freshness import PATIENCE_SECONDS, is_current, locked_turns
from actions.services.proposals import PreparedProposal, Proposal, prepare, sent_digest
from actions.services.run_locks import LockedRun, lock_runs
from actions.services.runs import run_subject, withdraw_questions
from agents.errors import InvalidToken
from agents.tokens import Caller
from approvals.services import REQUESTS, NewApprovalRequest, question_rows
from approvals.visible_values import APART
from audit.generation import current_mark, hold_shared
from audit.services.recorder import EVENTS, Subject, event_row
from common.actors import SYSTEM, Actor
from common.amounts import amount_text
from common.errors import GovernanceError, InvalidInput, NotFound
from common.ids import uuid7
from common.sql import Expanding, Row, Write, write
from common.task_queue import queue
from policies.authorization import authorize
from policies.evaluation import Decision, Reason
from policies.snapshot import Snapshot, snapshot
from tools.data_classes import classes_apart
from tools.definitions import ToolSpec

EXECUTE = "actions.execute"
STOPPED_SINCE = Reason(
    "chancery:identity-not-active",
    "Stopped since it was asked for",
    "The agent was stopped after it had proposed this: what it proposed before does not count.",
)
MAX_TRIES = 5


@dataclass(frozen=True, slots=True)
class DecisionResult:
    """A decision that is in the database."""

    action: Action
    replayed: bool = False
    started: OpenAttempt | None = None
    held: Snapshot | None = None
    mark: int = 0
    decided_in_ms: float = 0.0


@dataclass
class Batch:
    """Rows to be written together, by table."""

    actions: list[Row] = field(default_factory=list)
    attempts: list[Row] = field(default_factory=list)
    closed: list[Row] = field(default_factory=list)
    progress: list[Row] = field(default_factory=list)
    requests: list[Row] = field(default_factory=list)
    events: list[Row] = field(default_factory=list)
    sealed: list[Row] = field(default_factory=list)
    runs: dict[UUID, Row] = field(default_factory=dict)
    # Of the exclusive keys that this transaction holds under lock.
    turns: dict[str, int] = field(default_factory=dict)
    taken: dict[str, Row] = field(default_factory=dict)

    def take_turn(self, key: str) -> None:
        """A call with this exclusive key begins."""
        if key:
            self.turns[key] = self.turns.get(key, 0) + 1
            self.taken[key] = {"key": key, "turns": self.turns[key]}

    def writes(self) -> list[tuple[Write | Expanding, Sequence[Row]]]:
        return [
            (tables.ACTIONS, self.actions),
            (tables.SEALED_ARGUMENTS, self.sealed),
            (tables.ATTEMPTS, self.attempts),
            (tables.ATTEMPT_CLOSED, self.closed),
            (tables.ACTION_PROGRESS, self.progress),
            (REQUESTS, self.requests),
            (EVENTS, self.events),
            (tables.RUN_TOTALS, list(self.runs.values())),
            (tables.EXCLUSIVE_TURNS, list(self.taken.values())),
        ]


def decide_all(proposals: Sequence[Proposal]) -> list[DecisionResult | GovernanceError]:
    """Decide and commit every proposal, in order; a refused one is its error, in its place.

    Raises DecisionConflict if the governed state moved at each of MAX_TRIES tries, or the facts
    were overtaken by other calls for PATIENCE_SECONDS, and the database's own error if the rows
    cannot be written: then nothing was decided.
    """
    outcomes: dict[int, DecisionResult | GovernanceError] = {}
    mark, held = snapshot.cached_with_version()
    broken = moved = attempt = 0
    deadline = time.monotonic() + PATIENCE_SECONDS
    while moved < MAX_TRIES and time.monotonic() < deadline:
        prepared: dict[int, PreparedProposal] = {}
        for place, proposal in enumerate(proposals):
            try:
                prepared[place] = prepare(proposal, mark, held)
            except GovernanceError as error:
                outcomes[place] = _replayed(proposal, held, error) or error
        # A refusal from a snapshot that is out of date is no refusal: look again first.
        if len(prepared) < len(proposals) and attempt == 0 and current_mark() != mark:
            attempt += 1
            snapshot.current()
            mark, held = snapshot.cached_with_version()
            continue
        try:
            committed = _commit(list(prepared.values()), mark)
        except IntegrityError:
            # Another request with the same idempotency key was first: the next look finds it.
            # Anything else, such as an audit row that is refused, comes again and is raised.
            broken += 1
            if broken > 1:
                raise
            committed = None
        if committed is not None:
            outcomes.update(zip(prepared, committed, strict=True))
            return [outcomes[place] for place in range(len(proposals))]
        snapshot.current()
        attempt, moved = attempt + 1, moved + (snapshot.cached_with_version()[0] != mark)
        mark, held = snapshot.cached_with_version()
    raise DecisionConflict


def _replayed(
    proposal: Proposal, held: Snapshot, refusal: GovernanceError
) -> DecisionResult | None:
    """Return the earlier answer to the same request, even if it would be refused today. An identity
    that may no longer act gets none.
    """
    if isinstance(refusal, InvalidToken):
        return None
    found = Action.objects.filter(
        run_id=proposal.run_id,
        run__identity_id=proposal.caller.identity.pk,
        idempotency_key=proposal.idempotency_key,
    ).first()
    try:
        same = found is not None and found.request_digest == sent_digest(
            proposal, held.catalog.tools.get(proposal.tool)
        )
    except InvalidInput:
        same = False
    return DecisionResult(found, replayed=True) if found is not None and same else None


def propose(proposal: Proposal) -> DecisionResult:
    """Decide on one proposal. Raises its refusal."""
    [outcome] = decide_all([proposal])
    if isinstance(outcome, GovernanceError):
        raise outcome
    return outcome


def _commit(
    prepared: list[PreparedProposal], mark: int
) -> list[DecisionResult | GovernanceError] | None:
    """One transaction; None if the generation moved."""
    if not prepared:
        return []
    with transaction.atomic():
        hold_shared()
        seen, runs, known = lock_runs(prepared)
        if seen != mark:
            return None
        now = timezone.now()
        batch = Batch()
        batch.turns = locked_turns(item.read_at.key for item in prepared if item.read_at)
        if any(_is_late(item, runs, known, batch) for item in prepared):
            return None
        results = [_one(item, runs, known, batch, now=now) for item in prepared]
        write(connection, batch.writes())
        _follow_up(results)
    return results


def _is_late(
    item: PreparedProposal,
    runs: Mapping[UUID, LockedRun],
    known: Mapping[tuple[UUID, str], tuple[UUID, str]],
    batch: Batch,
) -> bool:
    """Whether something was begun since the item's facts were read."""
    run = runs.get(item.proposal.run_id)
    if run is None or (run.id, item.proposal.idempotency_key) in known:
        return False
    return not is_current(item.read_at, effects=run.effects, turns=batch.turns)


def _follow_up(results: Sequence[DecisionResult | GovernanceError]) -> None:
    for result in results:
        if not isinstance(result, DecisionResult) or result.replayed:
            continue
        if result.action.status == Action.Status.READY:
            queue.enqueue(EXECUTE, str(result.action.pk))
        elif result.action.status == Action.Status.HALTED:
            # Rare, and so not set-based: what people are still asked in a halted run.
            withdraw_questions(result.action.run_id, actor=SYSTEM, reason="The run was halted.")
            executors.notify_run_ended(result.action.run_id)


def _one(
    item: PreparedProposal,
    runs: Mapping[UUID, LockedRun],
    known: dict[tuple[UUID, str], tuple[UUID, str]],
    batch: Batch,
    *,
    now: datetime,
) -> DecisionResult | GovernanceError:
    proposal = item.proposal
    run = runs.get(proposal.run_id)
    if run is None or not _is_theirs(run, proposal.caller):
        return NotFound()
    key = (run.id, proposal.idempotency_key)
    if key in known:
        action_id, request_digest = known[key]
        if request_digest != item.request_digest:
            return IdempotencyKeyReused()
        written = next((row for row in batch.actions if row["id"] == action_id), None)
        return DecisionResult(
            Action(**written) if written else Action.objects.get(pk=action_id), replayed=True
        )
    if run.status != Run.Status.OPEN:
        return RunNotOpen()
    if _is_late(item, runs, known, batch):
        return CallInFlight()  # begun by an earlier item of this very batch
    committed = decide_into(batch, item, run, now=now)
    known[key] = (committed.action.pk, item.request_digest)
    return committed


def _is_theirs(run: LockedRun, caller: Caller) -> bool:
    """A token to act for others serves in their run only, where their rights bind, and their run is
    served by such a token only; and a person's run by their word only, which ends.
    """
    is_own = run.identity_id == caller.identity.pk
    return is_own and caller.person == run.delegation and caller.chain == run.chain


def decide_into(
    batch: Batch, item: PreparedProposal, run: LockedRun, *, now: datetime
) -> DecisionResult:
    """Decide one call within a run that is held under lock, and put its rows into the batch.

    The caller holds the generation's shared lock and has seen that its mark is the item's.
    """
    decision = _stopped_since(item, run) or authorize(
        item.snapshot, item.call, run.state(), now=now
    )
    run.count(decision, item.call.amount)
    committed = _recorded(item, run, decision, batch, now=now)
    batch.runs[run.id] = run.totals()
    return committed


def _stopped_since(item: PreparedProposal, run: LockedRun) -> Decision | None:
    """A denial, if an agent whose token was exchanged for this run was stopped since, or the rule
    that let it be has ended.
    """
    known = item.snapshot.directory.identities
    if all(known[party].epoch == epoch for party, epoch in run.chain_epochs.items()):
        return None
    held = item.snapshot.policies
    return Decision("denied", (STOPPED_SINCE,), release=held.number if held else 0)


def _recorded(
    item: PreparedProposal, run: LockedRun, decision: Decision, batch: Batch, *, now: datetime
) -> DecisionResult:
    """Put the rows of one decision into the batch."""
    actor = as_actor(item)
    action = _action(item, run, decision, now=now)
    started: OpenAttempt | None = None
    made = decision_event(action, decision, item.call.tool, actor=actor, now=now, chain=run.chain)
    if item.proposal.step:
        made["details"]["step"] = item.proposal.step
    if run.delegation:
        made["details"]["delegation"] = run.delegation
    batch.events.append(made)
    if decision.outcome == "needs_approval":
        request, event = question_rows(question(item, action, run), actor=actor, now=now)
        action.approval_id = request["id"]
        batch.requests.append(request)
        batch.events.append(event)
    elif decision.outcome == "halted":
        run.status, run.closed_at, run.outcome = Run.Status.HALTED, now, "halted by a rule"
        batch.events.append(
            event_row(
                events.RUN_HALTED,
                actor=actor,
                subject=run_subject(run.id),
                run_id=run.id,
                at=now,
                details={"rules": [reason.rule for reason in decision.reasons]},
            )
        )
    elif action.status == Action.Status.EXECUTING:
        started, attempt, event = attempt_rows(
            action, item.call.tool, actor=actor, now=now, lease=item.proposal.lease
        )
        batch.attempts.append(attempt)
        batch.events.append(event)
        batch.take_turn(attempt["exclusive_key"])
        run.effects += item.call.tool.access != "read"
    batch.actions.append({name: _column(action, name) for name in tables.ACTIONS.columns})
    if item.secrets and not action.is_settled:
        batch.sealed.append(sealed_arguments.row_of(action.pk, item.secrets))
    # Execution goes by what was decided on, however the world has moved since.
    return DecisionResult(action, started=started, held=item.snapshot, mark=item.mark)


def _column(action: Action, name: str) -> Any:
    value = getattr(action, name)
    return str(value) if isinstance(value, Decimal) else value


_STATUS = {
    "needs_approval": Action.Status.WAITING,
    "denied": Action.Status.DENIED,
    "halted": Action.Status.HALTED,
}


def _action(item: PreparedProposal, run: LockedRun, decision: Decision, *, now: datetime) -> Action:
    identity, tool = item.call.caller.identity, item.call.tool
    allowed = Action.Status.READY if item.proposal.asynchronous else Action.Status.EXECUTING
    return Action(
        id=uuid7(),
        run_id=run.id,
        idempotency_key=item.proposal.idempotency_key,
        request_digest=item.request_digest,
        agent=identity.agent_slug,
        environment=identity.environment,
        tool=tool.full_name,
        tool_digest=tool.digest,
        endpoint=item.snapshot.catalog.address_of(tool, identity.environment),
        arguments=dict(item.call.arguments),
        arguments_digest=item.arguments_digest,
        claims=dict(item.call.claims),
        facts=dict(item.call.facts),
        amount=item.call.amount,
        outcome=decision.outcome,
        tier=decision.tier or "",
        reasons=[reason.plain() for reason in decision.reasons],
        release=decision.release,
        status=_STATUS.get(decision.outcome, allowed),
        epoch=item.call.caller.epoch,
        scope=" ".join(sorted(item.call.caller.scopes)),
        executor=item.proposal.executor,
        decided_at=now,
        changed_at=now,
    )


def question(item: PreparedProposal, action: Action, run: LockedRun) -> NewApprovalRequest:
    """Build the approval request, with a frozen snapshot of the call it would execute."""
    tool, identity = item.call.tool, item.call.caller.identity
    return NewApprovalRequest(
        kind=EXECUTE,
        title=f"{identity.agent_title} wants to: {tool.title}",
        subject=action_subject(action),
        tier=item.snapshot.tiers[action.tier],
        snapshot={
            "tool": action.tool,
            "tool_title": tool.title,
            "tool_digest": action.tool_digest,
            "endpoint": item.snapshot.catalog.address_of(tool, action.environment),
            "access": tool.access,
            "environment": action.environment,
            "agent": action.agent,
            "arguments": action.arguments,
            "arguments_digest": action.arguments_digest,
            "claims": action.claims,
            "facts": action.facts,
            "fact_titles": {fact.name: fact.title for fact in tool.facts},
            "claim_titles": {claim.name: claim.title for claim in tool.claims},
            "amount": amount_text(action.amount),
            "release": action.release,
            **_apart(action, tool),
            "run": {
                "id": str(run.id),
                "initiator": run.initiator,
                "purpose": run.purpose,
                "labels": list(run.labels),
                "actions": run.actions,
                "denials": run.denials,
                "amount": amount_text(run.amount),
            },
        },
        reasons=action.reasons,
        conflicted_users=_answerable(item, run),
        initiator=run.initiator,
        run_id=run.id,
        logged_elsewhere=frozenset({"arguments", "facts", "claims"}),
    )


def _apart(action: Action, tool: ToolSpec) -> dict[str, Any]:
    """The classes of what is personal or sensitive in the snapshot, if anything is."""
    found = classes_apart(action.arguments, tool.input_schema) if tool.data_classes else {}
    apart = {f"/arguments{where}": name for where, name in found.items()}
    apart |= {f"/facts/{name}": kind for name, kind in tool.facts_apart.items()}
    apart |= {f"/claims/{name}": kind for name, kind in tool.claims_apart.items()}
    return {APART: apart} if apart else {}


def _answerable(item: PreparedProposal, run: LockedRun) -> list[int]:
    """Owner, sponsor, and the person for whom the agent says it acts: not the ones to approve."""
    behind = people_named(run.initiator)
    known = item.snapshot.directory.identities
    handed = (pk for client_id in run.chain for pk in known[client_id].conflicted_users)
    return sorted({*item.call.caller.identity.conflicted_users, *handed, *behind})


def decision_event(
    action: Action,
    decision: Decision,
    spec: ToolSpec,
    *,
    actor: Actor,
    now: datetime,
    chain: Sequence[str] = (),
) -> dict[str, Any]:
    """Build the event of a decision; the values it rests on lie beside the leaf, where they can be
    erased.
    """
    return event_row(
        events.DECISION_MADE,
        actor=actor,
        subject=action_subject(action),
        run_id=action.run_id,
        at=now,
        details={
            "tool": action.tool,
            "outcome": decision.outcome,
            "tier": decision.tier or "",
            "rules": [reason.rule for reason in decision.reasons],
            "release": decision.release,
            "args_digest": action.arguments_digest,
            "origin": action.endpoint,
            **audit_details.of_decision(action, spec),
            **({"chain": list(chain)} if chain else {}),
            **({"elevation": decision.elevation} if decision.elevation else {}),
        },
        vouched=spec.vouched_arguments(action.arguments),
    )


def as_actor(item: PreparedProposal) -> Actor:
    client_id = item.proposal.caller.identity.client_id
    return Actor(kind="agent", id=client_id, label=client_id)


def action_subject(action: Action) -> Subject:
    return Subject("actions.action", str(action.pk), action.tool)
