"""Legal holds: what they cover stays, whatever else says that it may go."""

from uuid import UUID

from django.db import connection

from audit import events
from audit.errors import AlreadyReleased
from audit.models import Event, EventQuerySet, Hold
from audit.services.dual_control import person
from audit.services.recorder import record
from common.actors import Actor
from common.clock import database_now
from common.commands import command
from common.errors import NotFound
from common.input_checks import clean_reason

# Any fixed 63-bit number; this one names the lock in pg_locks.
LOCK = 0x6368616E686F6C64


@command
def place(hold: Hold, *, actor: Actor) -> Hold:
    """Place a hold as it was filled in. Raises ReasonRequired and PeopleOnly."""
    hold.reason = clean_reason(hold.reason)
    alone_with_holds()
    hold.placed_by_id, hold.placed_at = person(actor), database_now()
    hold.save(force_insert=True)
    record(
        events.HOLD_PLACED,
        actor=actor,
        subject=hold,
        reason=hold.reason,
        run=str(hold.run_id) if hold.run_id else None,
    )
    return hold


@command
def release(hold_id: UUID, *, actor: Actor, reason: str) -> Hold:
    """Raises NotFound, AlreadyReleased, ReasonRequired and PeopleOnly."""
    reason = clean_reason(reason)
    hold = Hold.objects.select_for_update().filter(pk=hold_id).first()
    if hold is None:
        raise NotFound
    if hold.released_at is not None:
        raise AlreadyReleased
    hold.released_by_id, hold.released_at = person(actor), database_now()
    hold.save(update_fields=["released_by", "released_at"])
    record(events.HOLD_RELEASED, actor=actor, subject=hold, reason=reason)
    return hold


def alone_with_holds() -> None:
    """Until the transaction ends no hold is placed and no value is removed by anybody else: a hold
    that was placed before a removal commits is seen by it. SQLite's transactions are alone anyway.
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])


def held(found: EventQuerySet) -> EventQuerySet:
    """Those of the events that a hold covers, now."""
    covered = Event.objects.none()
    for hold in Hold.objects.filter(released_at=None):
        covered = covered | hold.covered()
    return found.filter(pk__in=covered.values("pk"))
