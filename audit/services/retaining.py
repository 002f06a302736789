"""Retention: values go when their time is over, but for what a legal hold covers."""

from datetime import timedelta

from django.db import transaction

from audit import events
from audit.errors import RetentionTooShort
from audit.models import Event, RetentionRule
from audit.retention import CLASSES, FLOOR_DAYS, types_of
from audit.services.erasing import remove
from audit.services.holding import alone_with_holds, held
from audit.services.inspecting import LOG
from audit.services.recording import record
from common.actors import SYSTEM, Actor
from common.clock import database_now
from common.commands import command
from common.errors import InvalidInput
from common.intake import required_reason

BATCH = 500


@command
def set_rule(kind: str, days: int, *, actor: Actor, reason: str) -> RetentionRule:
    """Raises InvalidInput, RetentionTooShort and ReasonRequired."""
    reason = required_reason(reason)
    if kind not in CLASSES:
        raise InvalidInput
    if days < FLOOR_DAYS:
        raise RetentionTooShort
    rule, _ = RetentionRule.objects.update_or_create(kind=kind, defaults={"days": days})
    record(events.RETENTION_SET, actor=actor, subject=rule, kind=kind, days=days, reason=reason)
    return rule


def days_of(kind: str) -> int:
    rule = RetentionRule.objects.filter(kind=kind).first()
    return rule.days if rule is not None else CLASSES[kind].days


def retain() -> int:
    """Remove what is over; of how many events."""
    return sum(_retained(kind) for kind in CLASSES)


def _retained(kind: str) -> int:
    total, after = 0, 0
    while (found := _batch(kind, after=after)) is not None:
        number, after = found
        total += number
    return total


@transaction.atomic
def _batch(kind: str, *, after: int) -> tuple[int, int] | None:
    """Of how many events, and after which to look on; None at the end.

    What says that values are gone has none that could go: names of things and of the portal.
    """
    alone_with_holds()
    days = days_of(kind)
    types = [name for name in types_of(kind) if name != events.RETENTION_APPLIED.name]
    over = Event.objects.filter(
        pk__gt=after,
        type__in=types,
        recorded_at__lt=database_now() - timedelta(days=days),
        place__isnull=False,
    ).exclude(payload__disclosures={})
    chosen = list(over.with_values().order_by("pk")[:BATCH])
    if not chosen:
        return None
    these = Event.objects.filter(pk__in=[one.pk for one in chosen])
    kept = set(held(these).values_list("pk", flat=True))
    losing = [(e.payload, sorted(e.payload.disclosures)) for e in chosen if e.pk not in kept]
    rule = f"{kind} {days} days"
    remove(losing, actor=SYSTEM, subject=LOG, because=(events.RETENTION_APPLIED, {"rule": rule}))
    return len(losing), chosen[-1].pk
