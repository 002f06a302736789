"""Events of a period as reports read them: codes, names of things and times; no values."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from audit.event_types import declared
from audit.models import Event
from audit.search import Search

MAX_EVENTS = 100_000
_BATCH = 2_000


@dataclass(frozen=True, slots=True)
class Period:
    """From `since` on, before `until`."""

    since: datetime
    until: datetime

    def buckets(self) -> list[datetime]:
        """Beginnings of hours, days or weeks: what gives a plot that can be read."""
        step = self.step
        first = self.since.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        if step >= timedelta(days=1):
            first = first.replace(hour=0)
        found = []
        while first < self.until:
            found.append(first)
            first += step
        return found

    @property
    def step(self) -> timedelta:
        length = self.until - self.since
        if length <= timedelta(hours=49):
            return timedelta(hours=1)
        return timedelta(days=1) if length <= timedelta(days=93) else timedelta(weeks=1)

    def label(self, moment: datetime) -> str:
        return f"{moment:%H}h" if self.step < timedelta(days=1) else f"{moment:%-d %b}"


@dataclass(frozen=True, slots=True)
class EventFact:
    """One event, without values."""

    number: int
    type: str
    at: datetime
    actor_kind: str
    actor: str
    subject_kind: str
    subject: str
    run: str
    said: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Facts:
    """The events of a report's period, oldest first.

    `left_out`: there are more than MAX_EVENTS, and those that are not here are the oldest.
    """

    period: Period
    rows: Sequence[EventFact]
    left_out: bool

    def of(self, *types: str) -> Iterator[EventFact]:
        wanted = frozenset(types)
        return (fact for fact in self.rows if fact.type in wanted)


def types_like(patterns: Iterable[str]) -> list[str]:
    """The declared types that the patterns mean: `agent.*` are all that begin with `agent.`."""
    return sorted(
        name
        for name in declared()
        if any(
            name.startswith(one.removesuffix("*")) if one.endswith("*") else name == one
            for one in patterns
        )
    )


def facts_of(period: Period, patterns: Iterable[str]) -> Facts:
    chosen = Event.objects.filter(type__in=types_like(patterns))
    within = Search(since=period.since, until=period.until).found_in(chosen)
    newest = within.order_by("-id").only(
        "id", "type", "recorded_at", "actor_kind", "actor_id", "subject_kind", "subject_id",
        "run_id", "leaf",
    )  # fmt: skip
    rows = [_fact(one) for one in newest[: MAX_EVENTS + 1].iterator(_BATCH)]
    left_out = len(rows) > MAX_EVENTS
    return Facts(period, rows[:MAX_EVENTS][::-1], left_out)


def _fact(event: Event) -> EventFact:
    return EventFact(
        event.pk,
        event.type,
        event.recorded_at,
        event.actor_kind,
        event.actor_id,
        event.subject_kind,
        event.subject_id,
        str(event.run_id or ""),
        event.plain(),
    )
