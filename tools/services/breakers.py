"""A circuit breaker per endpoint, kept in the database (Nygard, Release It!).

Closed: calls go through and a success writes nothing. It opens, and calls wait, after FAILURES
within WINDOW if they are at least half of all that ended in it. When the wait is over exactly one
call, of all processes, is let through as a probe; its success closes the breaker, its failure opens
it again for twice as long.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection

from audit.services.recorder import Subject, record
from common.actors import SYSTEM
from tools import events
from tools.models import Breaker

FAILURES = 5
WINDOW = timedelta(seconds=60)
OPEN_FOR = timedelta(seconds=30)
OPEN_AT_MOST = timedelta(minutes=10)

# A system and an environment.
Where = tuple[str, str]

_jitter = random.SystemRandom()


@dataclass(frozen=True, slots=True)
class OpenBreaker:
    """A breaker that is not closed, as a claiming transaction sees it."""

    open_until: datetime
    probe_until: datetime | None

    def next_chance(self, now: datetime) -> datetime:
        """Return when a waiting call looks again: after the wait, or after another's probe."""
        after = max(self.open_until, self.probe_until or self.open_until, now)
        return after + timedelta(seconds=_jitter.uniform(0.1, 1.0))


def open_breakers() -> dict[Where, OpenBreaker]:
    """All that are not closed: few, and mostly none."""
    found = Breaker.objects.filter(state=Breaker.State.OPEN)
    rows = found.values_list("system", "environment", "open_until", "probe_until")
    return {
        (system, environment): OpenBreaker(until, probe)
        for system, environment, until, probe in rows
        if until is not None
    }


def win_probe(where: Where, *, now: datetime, until: datetime) -> bool:
    """Whether this caller is the one that may try. One statement, so exactly one wins."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE tools_breaker SET probe_until = %s WHERE system = %s AND environment = %s "
            "AND state = 'open' AND open_until <= %s "
            "AND (probe_until IS NULL OR probe_until <= %s)",
            [_time(until), *where, _time(now), _time(now)],
        )
        return bool(cursor.rowcount == 1)


def count_failure(
    where: Where, *, now: datetime, successes: Callable[[datetime], int] = lambda since: 0
) -> None:
    """In the transaction that records a failed attempt: count it, and open when it is enough.

    `successes` counts the calls that were answered since a moment; it is asked only when the
    failures alone would be enough.
    """
    Breaker.objects.get_or_create(system=where[0], environment=where[1])
    breaker = Breaker.objects.select_for_update().get(system=where[0], environment=where[1])
    if breaker.state == Breaker.State.OPEN:
        # Only the failure of a probe counts; answers to calls from before the opening do not.
        if breaker.probe_until is not None:
            _open(breaker, now)
        return
    if breaker.window_from is None or now - breaker.window_from > WINDOW:
        breaker.window_from, breaker.failures = now, 0
    breaker.failures += 1
    if breaker.failures >= FAILURES and successes(breaker.window_from) <= breaker.failures:
        _open(breaker, now)
    else:
        breaker.save(update_fields=["window_from", "failures"])


def count_success(where: Where, known: Mapping[Where, OpenBreaker]) -> None:
    """In the transaction that records an answer; costs nothing unless the breaker was open."""
    if where not in known:
        return
    breaker = Breaker.objects.select_for_update().get(system=where[0], environment=where[1])
    if breaker.state == Breaker.State.CLOSED:
        return
    breaker.state = Breaker.State.CLOSED
    breaker.failures = breaker.opened_times = 0
    breaker.window_from = breaker.open_until = breaker.probe_until = None
    breaker.save()
    record(
        events.BREAKER_CLOSED,
        actor=SYSTEM,
        subject=_subject(breaker),
        system=breaker.system,
        environment=breaker.environment,
    )


def _open(breaker: Breaker, now: datetime) -> None:
    wait = min(OPEN_AT_MOST, OPEN_FOR * 2**breaker.opened_times)
    breaker.state = Breaker.State.OPEN
    breaker.opened_times = min(breaker.opened_times + 1, 10)
    breaker.open_until, breaker.probe_until = now + wait, None
    breaker.save()
    record(
        events.BREAKER_OPENED,
        actor=SYSTEM,
        subject=_subject(breaker),
        system=breaker.system,
        environment=breaker.environment,
        failures=breaker.failures,
        until=breaker.open_until.isoformat(),
    )


def _subject(breaker: Breaker) -> Subject:
    return Subject("tools.breaker", str(breaker.pk), str(breaker))


def _time(moment: datetime) -> Any:
    return connection.ops.adapt_datetimefield_value(moment)
