"""The calls a halt would reach, and those it reached: bounded reads for an emergency."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Count, Q, QuerySet
from django.utils import timezone

from actions.models import Attempt, Run
from agents.models import Agent, Halt
from common.ids import first_key_at
from tools.models import System

MAX_IN_FLIGHT = 1_000
MAX_SHOWN = 200
COMMITTING = timedelta(seconds=10)
# No call lasts longer (`tool_timeout_in_bounds`), so none that began earlier was in flight.
LONGEST_CALL = timedelta(seconds=300 + 15)


@dataclass(frozen=True)
class HaltTarget:
    """One thing that a halt could cover, and what runs under it now."""

    kind: str
    target: str
    title: str
    in_flight: int
    runs: int
    halted: bool

    @property
    def choice(self) -> str:
        return f"{self.kind}:{self.target}"


def halt_targets() -> list[HaltTarget]:
    """Everything, environments, agents and systems: what is busy first."""
    flying = _flying()
    runs = _open_runs()
    halted = set(Halt.objects.in_force().values_list("kind", "target"))

    def one(kind: Halt.Kind, target: str, title: str, calls: int, number: int) -> HaltTarget:
        return HaltTarget(kind.value, target, title, calls, number, (kind.value, target) in halted)

    everything = one(
        Halt.Kind.GLOBAL, "", "Everything", len(flying), sum(number for *_, number in runs)
    )
    return [
        everything,
        *_busiest(
            one(
                Halt.Kind.ENVIRONMENT,
                environment,
                environment,
                sum(row[1] == environment for row in flying),
                sum(number for _, where, number in runs if where == environment),
            )
            for environment in {where for _, where, _ in runs} | {row[1] for row in flying}
        ),
        *_busiest(
            one(
                Halt.Kind.AGENT,
                slug,
                title,
                sum(row[0] == slug for row in flying),
                sum(number for agent, _, number in runs if agent == slug),
            )
            for slug, title in Agent.objects.filter(status=Agent.Status.ACTIVE)
            .order_by("slug")
            .values_list("slug", "title")[:MAX_SHOWN]
        ),
        *_busiest(
            one(
                Halt.Kind.SYSTEM,
                slug,
                title,
                sum(row[2].startswith(f"{slug}.") for row in flying),
                0,
            )
            for slug, title in System.objects.order_by("slug").values_list("slug", "title")[
                :MAX_SHOWN
            ]
        ),
    ]


def _busiest(found: Iterable[HaltTarget]) -> list[HaltTarget]:
    return sorted(found, key=lambda one: (-one.in_flight, -one.runs, one.target))


def _flying() -> list[tuple[str, str, str]]:
    """Agent, environment and tool of calls that are being made; the index holds only those."""
    started = Attempt.objects.filter(status=Attempt.Status.STARTED)
    rows = started.order_by("lease_until").values_list(
        "action__agent", "action__environment", "action__tool"
    )
    return list(rows[:MAX_IN_FLIGHT])


def _open_runs() -> list[tuple[str, str, int]]:
    """Agent, environment and number of runs that were opened in the last day and are open."""
    lately = Run.objects.filter(
        pk__gte=first_key_at(timezone.now() - timedelta(days=1)), status=Run.Status.OPEN
    )
    return list(lately.values_list("agent", "environment").annotate(n=Count("pk")).order_by())


def in_flight_at(halt: Halt) -> list[Attempt]:
    """The calls that a halt met while they were being made, with what has come of them."""
    moment = halt.placed_at
    # A decision that was committing when the halt was placed comes before it in the log.
    until = min(moment + COMMITTING, halt.lifted_at or moment + COMMITTING)
    rows = _covered(halt).filter(
        pk__gte=first_key_at(moment - LONGEST_CALL), pk__lt=first_key_at(until)
    )
    met = rows.filter(Q(ended_at=None) | Q(ended_at__gte=moment))
    light = met.select_related("action").defer(
        "action__arguments", "action__claims", "action__facts", "action__result"
    )
    return list(light.order_by("pk")[:MAX_SHOWN])


def outcomes(attempts: Iterable[Attempt]) -> Counter[str]:
    """Count the calls that were cancelled, answered all the same, or are still in flight."""
    return Counter(_outcome(one) for one in attempts)


def _outcome(attempt: Attempt) -> str:
    if attempt.error_code == "cut_off":
        return "cut off"
    return "still being made" if attempt.ended_at is None else "ended by themselves"


def _covered(halt: Halt) -> QuerySet[Attempt]:
    found = Attempt.objects.all()
    if halt.kind == Halt.Kind.ENVIRONMENT:
        return found.filter(action__environment=halt.target)
    if halt.kind == Halt.Kind.AGENT:
        return found.filter(action__agent=halt.target)
    if halt.kind == Halt.Kind.TOOL:
        return found.filter(action__tool=halt.target)
    if halt.kind == Halt.Kind.SYSTEM:
        return found.filter(action__tool__startswith=f"{halt.target}.")
    return found


def seconds_to_stop(halt: Halt, attempts: Iterable[Attempt]) -> float | None:
    """Seconds from the halt to the end of the last call that it cut; None if it cut none."""
    ends: list[datetime] = [
        one.ended_at for one in attempts if one.error_code == "cut_off" and one.ended_at
    ]
    return (max(ends) - halt.placed_at).total_seconds() if ends else None
