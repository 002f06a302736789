"""Retention: values go when their time is over, but for what a legal hold covers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction

from audit import events
from audit.errors import RetentionTooShort
from audit.models import Event, RetentionRule, SystemRetention
from audit.retention import CLASSES, FLOOR_DAYS, SENSITIVE_FIELD, types_of
from audit.services.access_log import LOG
from audit.services.erasures import remove
from audit.services.legal_holds import alone_with_holds, held
from audit.services.recorder import record
from common.actors import SYSTEM, Actor
from common.clock import database_now
from common.commands import command
from common.errors import InvalidInput
from common.input_checks import clean_reason
from common.isolation import each

BATCH = 500


@command
def set_rule(
    kind: str, days: int, *, actor: Actor, reason: str, system: str = ""
) -> RetentionRule | SystemRetention:
    """For all, or for the calls of one system. Raises InvalidInput, RetentionTooShort and
    ReasonRequired.
    """
    reason = clean_reason(reason)
    if kind not in CLASSES:
        raise InvalidInput
    if days < FLOOR_DAYS:
        raise RetentionTooShort
    rule: RetentionRule | SystemRetention
    if system:
        rule, _ = SystemRetention.objects.update_or_create(
            system=system, kind=kind, defaults={"days": days}
        )
    else:
        rule, _ = RetentionRule.objects.update_or_create(kind=kind, defaults={"days": days})
    record(
        events.RETENTION_CHANGED,
        actor=actor,
        subject=rule,
        kind=kind,
        days=days,
        system=system,
        reason=reason,
    )
    return rule


def days_of(kind: str) -> int:
    rule = RetentionRule.objects.filter(kind=kind).first()
    return rule.days if rule is not None else CLASSES[kind].days


def retain() -> int:
    """Remove what is over; of how many events."""
    return sum(each(CLASSES, _retain_kind, what="kind of values"))


@dataclass(frozen=True, slots=True)
class _Rules:
    """Retention periods of a class: for all calls, and for those of single systems."""

    kind: str
    usual: int
    systems: Mapping[str, int]

    @property
    def shortest(self) -> int:
        return min(self.usual, *self.systems.values()) if self.systems else self.usual

    def days_of(self, event: Event) -> int:
        system = str(event.plain().get("tool", "")).partition(".")[0]
        return self.systems.get(system, self.usual)

    def fields_of(self, event: Event) -> list[str]:
        """Return the fields to remove from an event whose retention period is over."""
        names = sorted(event.payload.disclosures)
        return [n for n in names if n == SENSITIVE_FIELD] if self.kind == "sensitive" else names


def _retain_kind(kind: str) -> int:
    own = SystemRetention.objects.filter(kind=kind).values_list("system", "days")
    rules = _Rules(kind, days_of(kind), dict(own))
    total, after = 0, 0
    while (found := _batch(rules, after=after)) is not None:
        number, after = found
        total += number
    return total


@transaction.atomic
def _batch(rules: _Rules, *, after: int) -> tuple[int, int] | None:
    """Of how many events, and after which to look on; None at the end.

    What says that values are gone has none that could go: names of things and of the portal.
    """
    alone_with_holds()
    now = database_now()
    types = [name for name in types_of(rules.kind) if name != events.RETENTION_APPLIED.name]
    over = Event.objects.filter(
        pk__gt=after,
        type__in=types,
        recorded_at__lt=now - timedelta(days=rules.shortest),
        place__isnull=False,
    )
    if rules.kind == "sensitive":
        over = over.filter(payload__disclosures__has_key=SENSITIVE_FIELD)
    else:
        over = over.exclude(payload__disclosures={})
    chosen = list(over.with_values().order_by("pk")[:BATCH])
    if not chosen:
        return None
    kept = set(
        held(Event.objects.filter(pk__in=[e.pk for e in chosen])).values_list("pk", flat=True)
    )
    total = 0
    for days, due in _by_days(rules, chosen, now).items():
        losing = [(e.payload, rules.fields_of(e)) for e in due if e.pk not in kept]
        losing = [(payload, fields) for payload, fields in losing if fields]
        rule = f"{rules.kind} {days} days"
        because = (events.RETENTION_APPLIED, {"rule": rule})
        remove(losing, actor=SYSTEM, subject=LOG, because=because)
        total += len(losing)
    return total, chosen[-1].pk


def _by_days(rules: _Rules, chosen: Sequence[Event], now: datetime) -> dict[int, list[Event]]:
    """Those whose time is over, by how long that is."""
    found: dict[int, list[Event]] = {}
    for event in chosen:
        days = rules.days_of(event)
        if event.recorded_at < now - timedelta(days=days):
            found.setdefault(days, []).append(event)
    return found
