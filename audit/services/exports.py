"""Evidence is taken away when one person has asked for it and another has approved."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from accounts.models import User
from audit import events
from audit.errors import ExportNotApproved, OutOfScope
from audit.models import Export, LogKey
from audit.notes import NoteInvalid, Verifier, opened_checkpoint
from audit.scope import Scope, scope_of
from audit.services.recording import record
from audit.services.two_people import decide, person
from common.actors import Actor
from common.clock import database_now
from common.commands import command
from common.errors import InvalidInput, NotFound
from common.intake import required_reason


@dataclass(frozen=True)
class Wanted:
    """Which events; all if nothing is named. `held`: the auditor's checkpoint from before."""

    runs: Sequence[UUID] = ()
    agents: Sequence[str] = ()
    since: datetime | None = None
    until: datetime | None = None
    with_values: bool = False
    held: str = ""


def _within(scope: Scope, wanted: Wanted) -> Wanted:
    """What somebody with a pass may ask for. Raises OutOfScope for agents and runs beyond it."""
    if scope.is_over or wanted.runs or not set(wanted.agents) <= set(scope.agents or wanted.agents):
        raise OutOfScope
    return replace(
        wanted,
        agents=wanted.agents or scope.agents,
        since=max(filter(None, (scope.since, wanted.since)), default=None),
        until=min(filter(None, (scope.until, wanted.until)), default=None),
    )


@command
def ask(wanted: Wanted, *, actor: Actor, purpose: str) -> Export:
    """Raises PeopleOnly, ReasonRequired, OutOfScope for more than a pass covers, and InvalidInput
    for a checkpoint of another log."""
    purpose = required_reason(purpose)
    scope = scope_of(User.objects.get(pk=person(actor)))
    if scope is not None:
        wanted = _within(scope, wanted)
    if wanted.held:
        _ensure_of_this_log(wanted.held)
    export = Export.objects.create(
        purpose=purpose,
        asked_by_id=person(actor),
        asked_at=database_now(),
        runs=[str(run) for run in wanted.runs],
        agents=list(wanted.agents),
        since=wanted.since,
        until=wanted.until,
        with_values=wanted.with_values,
        held=wanted.held,
    )
    record(
        events.EXPORT_ASKED,
        actor=actor,
        subject=export,
        purpose=purpose,
        values=wanted.with_values,
    )
    return export


@command
def decide_export(export_id: UUID, *, actor: Actor, approve: bool, reason: str) -> Export:
    """See `two_people.decide`."""
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

    Raises NotFound and ExportNotApproved.
    """
    export = Export.objects.filter(pk=export_id).first()
    if export is None or export.asked_by_id != person(actor):
        raise NotFound
    if not export.may_be_taken(database_now()):
        raise ExportNotApproved
    record(
        events.EXPORTED,
        actor=actor,
        subject=export,
        start=start,
        end=end,
        size=size,
        values=export.with_values,
    )
    return export


def _ensure_of_this_log(text: str) -> None:
    for key in LogKey.objects.all():
        try:
            opened_checkpoint(text, Verifier.from_text(key.vkey))
        except NoteInvalid:
            continue
        return
    message = "The checkpoint is not one that this log has signed."
    raise InvalidInput(message)
