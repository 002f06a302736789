"""Evidence is taken away when one person has asked for it and another has approved."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from accounts.models import User
from audit import events
from audit.auditor_scope import AuditorScope, scope_of
from audit.controls import controls
from audit.errors import ExportNotApproved, OutOfScope, ValuesNotPermitted
from audit.leaf_encoding import moment
from audit.models import Event, Export, LogKey
from audit.permissions import SEE_SENSITIVE, SEE_VALUES
from audit.services.dual_control import decide, person
from audit.services.recorder import record
from audit.signed_notes import NoteInvalid, Verifier, verify_checkpoint
from common.actors import Actor
from common.clock import database_now
from common.commands import command
from common.errors import InvalidInput, NotFound
from common.input_checks import clean_reason


@dataclass(frozen=True)
class Wanted:
    """The events to export; all if nothing is named.

    `previous_checkpoint`: the auditor's checkpoint of an earlier bundle.
    `with_sensitive`: with values that are personal or sensitive, beside the others.
    """

    runs: Sequence[UUID] = ()
    agents: Sequence[str] = ()
    since: datetime | None = None
    until: datetime | None = None
    with_values: bool = False
    with_sensitive: bool = False
    previous_checkpoint: str = ""


def _allowed(user: User, wanted: Wanted) -> Wanted:
    """Return the part of it that this person may export.

    Raises ValuesNotYours for values that they may not see, OutOfScope for more than a pass covers.
    """
    if wanted.with_values and not user.has_perm(SEE_VALUES):
        raise ValuesNotPermitted
    if wanted.with_sensitive and not user.has_perm(SEE_SENSITIVE):
        raise ValuesNotPermitted
    scope = scope_of(user)
    return wanted if scope is None else _within(scope, wanted)


def _within(scope: AuditorScope, wanted: Wanted) -> Wanted:
    if scope.is_over or not set(wanted.agents) <= set(scope.agents or wanted.agents):
        raise OutOfScope
    if not all(_shows_all_of(scope, run) for run in wanted.runs):
        raise OutOfScope
    return replace(
        wanted,
        agents=wanted.agents or (() if wanted.runs else scope.agents),
        since=max(filter(None, (scope.since, wanted.since)), default=None),
        until=min(filter(None, (scope.until, wanted.until)), default=None),
    )


def _shows_all_of(scope: AuditorScope, run: UUID) -> bool:
    """Whether the pass shows every event that the run has in its time, and there are any."""
    events = Event.objects.filter(run_id=run)
    there = events.within(scope.since, scope.until).count()
    return bool(0 < there == scope.of(events).count())


@command
def ask(wanted: Wanted, *, actor: Actor, purpose: str) -> Export:
    """Raises PeopleOnly, ReasonRequired, ValuesNotYours, OutOfScope for more than a pass covers,
    and InvalidInput for a checkpoint of another log or sensitive values without the others.
    """
    purpose = clean_reason(purpose)
    wanted = _allowed(User.objects.get(pk=person(actor)), wanted)
    if wanted.with_sensitive and not wanted.with_values:
        message = "Sensitive values are taken with the others, not alone."
        raise InvalidInput(message)
    if wanted.previous_checkpoint:
        _ensure_of_this_log(wanted.previous_checkpoint)
    export = Export.objects.create(
        purpose=purpose,
        asked_by_id=person(actor),
        asked_at=database_now(),
        runs=[str(run) for run in wanted.runs],
        agents=list(wanted.agents),
        since=wanted.since,
        until=wanted.until,
        with_values=wanted.with_values,
        with_sensitive=wanted.with_sensitive,
        previous_checkpoint=wanted.previous_checkpoint,
    )
    record(
        events.EXPORT_ASKED,
        actor=actor,
        subject=export,
        purpose=purpose,
        wanted={
            "runs": export.runs,
            "agents": export.agents,
            "since": moment(wanted.since) if wanted.since else None,
            "until": moment(wanted.until) if wanted.until else None,
        },
        controls=controls(),
        values=wanted.with_values,
        apart=wanted.with_sensitive,
    )
    return export


@command
def decide_export(export_id: UUID, *, actor: Actor, approve: bool, reason: str) -> Export:
    """See `dual_control.decide`."""
    asked = Export.objects.select_for_update().filter(pk=export_id).first()
    export = decide(asked, actor=actor, approve=approve, reason=reason)
    record(
        events.EXPORT_DECIDED,
        actor=actor,
        subject=export,
        answer=export.status,
        reason=export.decision,
    )
    return export


@command
def take(export_id: UUID, *, actor: Actor, start: int, end: int, size: int) -> Export:
    """Evidence begins to be taken away, by whoever asked for it: the places `start` to `end` of
    the log of this size. It is recorded before the first byte leaves.

    What they may see now counts, whatever it was when they asked. Raises NotFound,
    ExportNotApproved, ValuesNotYours and OutOfScope.
    """
    export = Export.objects.filter(pk=export_id).first()
    if export is None or export.asked_by_id != person(actor):
        raise NotFound
    if not export.may_be_taken(database_now()):
        raise ExportNotApproved
    wanted = _wanted(export)
    if _allowed(User.objects.get(pk=person(actor)), wanted) != wanted:
        raise OutOfScope
    record(
        events.EXPORTED,
        actor=actor,
        subject=export,
        start=start,
        end=end,
        size=size,
        values=export.with_values,
        apart=export.with_sensitive,
    )
    return export


def _wanted(export: Export) -> Wanted:
    return Wanted(
        agents=tuple(export.agents),
        runs=tuple(UUID(run) for run in export.runs),
        since=export.since,
        until=export.until,
        with_values=export.with_values,
        with_sensitive=export.with_sensitive,
    )


def _ensure_of_this_log(text: str) -> None:
    for key in LogKey.objects.all():
        try:
            verify_checkpoint(text, Verifier.from_text(key.vkey))
        except NoteInvalid:
            continue
        return
    message = "The checkpoint is not one that this log has signed."
    raise InvalidInput(message)
