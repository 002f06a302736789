"""Changes to an action from outside its own call: people, a lost worker, lost hints."""

from collections.abc import Collection
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Count
from django.utils import timezone

from actions import events, executors
from actions.errors import OutcomeAlreadyKnown
from actions.models import Action, Attempt, Run, SealedArguments
from actions.services import audit_details, tables
from actions.services.decisions import EXECUTE, action_subject
from actions.services.execution import MAX_ATTEMPTS, may_be_repeated
from actions.services.results import progress
from agents.models import AgentIdentity
from approvals.models import ApprovalRequest
from audit.services.recorder import EVENTS, event_row, record
from common.actors import SYSTEM, Actor
from common.canonical import normalise
from common.clock import database_now
from common.commands import command
from common.errors import NotFound
from common.input_checks import clean_reason
from common.isolation import each
from common.redaction import redact
from common.sql import write
from common.task_queue import queue
from tools.catalog import catalog
from tools.data_classes import without_secrets

HINT_OVERDUE = timedelta(seconds=10)
MAX_RESOLVED = 1_000

_AFTER_PEOPLE = {
    ApprovalRequest.Status.APPROVED: Action.Status.READY,
    ApprovalRequest.Status.REJECTED: Action.Status.REJECTED,
    ApprovalRequest.Status.EXPIRED: Action.Status.EXPIRED,
}


def people_decided(request: ApprovalRequest, actor: Actor) -> None:
    """The outcome handler: in the transaction of the last vote or of the expiry."""
    action = Action.objects.select_for_update().get(pk=UUID(request.subject_id))
    if action.status != Action.Status.WAITING or action.approval_id != request.pk:
        return
    action.status = _AFTER_PEOPLE[ApprovalRequest.Status(request.status)]
    action.changed_at = timezone.now()
    action.save(update_fields=["status", "changed_at"])
    if action.executor:
        executors.notify_changed(action)
    elif action.status == Action.Status.READY:
        queue.enqueue(EXECUTE, str(action.pk))


def involved_in_action(request: ApprovalRequest) -> set[int]:
    """Return the users who own or sponsor the agent, or did in the last 90 days; and those of
    agents that handed the work over.
    """
    return involved_in_run(request.run_id)


def involved_in_run(run_id: UUID | None) -> set[int]:
    runs = Run.objects.select_related("identity__agent")
    run = runs.filter(pk=run_id).first() if run_id is not None else None
    if run is None:
        return set()
    behind = AgentIdentity.objects.filter(client_id__in=run.chain).select_related("agent")
    agents = [run.identity.agent, *(identity.agent for identity in behind)]
    return {pk for agent in agents for pk in agent.involved}


def reap_abandoned(*, now: datetime | None = None, limit: int = 200) -> int:
    """Close attempts whose worker has gone: whether they took effect is unknown.

    A tool that can be repeated is made ready again under the same idempotency key; any other
    action stays `unknown` for a person. How many attempts were closed.
    """
    moment = now or database_now()
    overdue = Attempt.objects.filter(
        status=Attempt.Status.STARTED, lease_until__lte=moment
    ).values_list("pk", "action_id", "action__run_id")
    return sum(
        each(overdue[:limit], lambda found: _reap_attempt(*found, now=moment), what="attempt")
    )


@transaction.atomic
def _reap_attempt(attempt_id: UUID, action_id: UUID, run_id: UUID, *, now: datetime) -> bool:
    # The run first, as everywhere: a executor that reads the attempt under it sees it settled.
    Run.objects.select_for_update().only("pk").get(pk=run_id)
    closed = Attempt.objects.filter(
        pk=attempt_id, status=Attempt.Status.STARTED, lease_until__lte=now
    ).update(status=Attempt.Status.UNKNOWN, ended_at=now, error_code="abandoned")
    if not closed:
        return False
    action = Action.objects.select_for_update().get(pk=action_id)
    spec = catalog.current().tools[action.tool]
    may_repeat = may_be_repeated(spec) and action.attempts_count < MAX_ATTEMPTS
    # A executor decides for itself what follows.
    repeat = may_repeat and not action.executor
    action.status = Action.Status.READY if repeat else Action.Status.UNKNOWN
    action.error_code = "abandoned"
    action.error = "The worker that was carrying this out went away."
    event = event_row(
        events.CALL_UNRESOLVED,
        actor=SYSTEM,
        subject=action_subject(action),
        run_id=action.run_id,
        at=now,
        details={
            "tool": action.tool,
            "attempt": action.attempts_count,
            "error": "abandoned",
        },
    )
    write(connection, [(EVENTS, [event]), (tables.ACTION_PROGRESS, [progress(action, now)])])
    if action.executor:
        executors.notify_changed(action)
    elif repeat:
        queue.enqueue(EXECUTE, str(action_id))
    return True


def discard_encrypted_arguments(*, limit: int = 1000) -> int:
    """Delete the secret arguments of calls that are over, on which nothing can follow; how many.

    A call whose effect is unknown keeps them: a person may say that it is to be made again.
    """
    over = Action.SETTLED - {Action.Status.UNKNOWN}
    found = SealedArguments.objects.filter(action__status__in=over).values_list("pk", flat=True)
    return SealedArguments.objects.filter(pk__in=list(found[:limit])).delete()[0]


def hint_overdue(*, now: datetime | None = None, limit: int = 200) -> int:
    """Send the hint again for ready actions whose first one seems lost; how many."""
    before = (now or database_now()) - HINT_OVERDUE
    overdue = Action.objects.ready_since(before).order_by("changed_at")
    ids = list(overdue.values_list("pk", flat=True)[:limit])
    for action_id in ids:
        queue.enqueue(EXECUTE, str(action_id))
    return len(ids)


class Resolution(StrEnum):
    """An operator's account of an unknown call: its effect, and what is to follow."""

    TOOK_EFFECT = "took_effect"
    FAILED = "did_not_take_effect"
    AGAIN = "try_again"


@command
def resolve_unknown(
    action_id: UUID, *, actor: Actor, answer: Resolution, reason: str, result: Any = None
) -> Action:
    """Settle a call whose effect is unknown, by a person's word.

    `result` is what the call brought, as far as it is known; it counts only if it took effect.
    TRY_AGAIN has the call decided and made again, with the same idempotency key. Raises NotFound,
    OutcomeKnown, ReasonRequired, NotCanonical.
    """
    reason, result = clean_reason(reason), redact(normalise(result))
    found = Action.objects.filter(pk=action_id).values_list("run_id", flat=True).first()
    if found is None:
        raise NotFound
    run = Run.objects.select_for_update().only("labels").get(pk=found)
    action = Action.objects.select_for_update().get(pk=action_id)
    if action.status != Action.Status.UNKNOWN:
        raise OutcomeAlreadyKnown
    _apply_answer(action, answer, result, run)
    record(
        events.CALL_RESOLVED,
        actor=actor,
        subject=action_subject(action),
        run_id=action.run_id,
        tool=action.tool,
        answer=str(answer),
        reason=reason,
        **audit_details.of_resolution(action, catalog.current().tools[action.tool]),
    )
    if action.executor:
        executors.notify_changed(action)
    elif action.status == Action.Status.READY:
        queue.enqueue(EXECUTE, str(action.pk))
    return action


def unknown_by_tool() -> list[tuple[str, str, int]]:
    """Tool, environment and number of the calls whose effect is unknown."""
    found = Action.objects.unknown().values_list("tool", "environment")
    return list(found.annotate(n=Count("pk")).order_by("tool", "environment"))


def resolve_many(
    tool: str, environment: str, *, actor: Actor, answer: Resolution, reason: str
) -> int:
    """The same answer for every call of a tool that is unknown now, as after an outage; how many.

    Each is settled in a transaction of its own, with a record of its own.
    """
    reason = clean_reason(reason)
    waiting = Action.objects.unknown().filter(tool=tool, environment=environment)
    number = 0
    for action_id in list(waiting.order_by("pk").values_list("pk", flat=True)[:MAX_RESOLVED]):
        try:
            resolve_unknown(action_id, actor=actor, answer=answer, reason=reason)
        except OutcomeAlreadyKnown:
            continue  # somebody else was faster
        number += 1
    return number


def _apply_answer(action: Action, answer: Resolution, result: Any, run: Run) -> None:
    if answer == Resolution.TOOK_EFFECT:
        spec = catalog.current().tools[action.tool]
        cleaned = without_secrets(result, spec.output_schema)
        action.status, action.result = Action.Status.SUCCEEDED, cleaned
        action.error_code = action.error = ""
        # The run has touched what the tool's labels stand for, as if it had answered.
        run.labels = sorted({*run.labels, *spec.labels})
        run.save(update_fields=["labels"])
    elif answer == Resolution.FAILED:
        action.status = Action.Status.FAILED
        action.error_code, action.error = "did_not_take_effect", "A person found no effect."
    else:
        action.status = Action.Status.READY
    action.changed_at = timezone.now()
    action.save(update_fields=["status", "result", "error_code", "error", "changed_at"])


def sign_of_life(attempt_ids: Collection[UUID], *, lease: timedelta) -> None:
    """Hold on to attempts that are being made: their lease begins anew."""
    Attempt.objects.filter(pk__in=attempt_ids, status=Attempt.Status.STARTED).update(
        lease_until=database_now() + lease
    )
