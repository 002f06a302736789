"""Schedules: any number of tickers, and one run per time.

A time is taken by inserting its row; the constraint lets one ticker do it. Times are computed in
the schedule's own time zone (cronsim, after Debian's cron: where minute and hour are fixed, a time
that a change of clocks leaves out fires right after it, and one that comes twice fires once).
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError
from django.db import IntegrityError, transaction

from actions.models import Run
from agents.directory import directory
from agents.errors import InvalidToken
from agents.models import AgentIdentity
from agents.tokens import Caller
from audit.services.recorder import record
from common.actors import SYSTEM, Actor
from common.clock import database_now
from common.commands import command
from common.errors import GovernanceError, NotFound
from common.input_checks import clean_reason
from common.isolation import each
from common.model_validation import validate_fields
from workflows import events
from workflows.errors import InvalidSchedule, NotAllowedToStart, NothingPublished
from workflows.models import Schedule, ScheduleFire, Workflow, WorkflowRun
from workflows.services.runs import Start, checked_inputs, start
from workflows.spec_cache import spec_of

MAX_MISSED = 100
FIELDS = 5
LATE = timedelta(minutes=1)


@dataclass(frozen=True)
class Times:
    """The times a schedule fires, and those it makes up for."""

    cron: str
    timezone: str = "UTC"
    catch_up: str = "latest"
    overlap: str = "skip"


def fire_times(cron: str, timezone: str, *, after: datetime) -> Iterator[datetime]:
    """The times after a moment, in UTC. Raises InvalidSchedule."""
    try:
        zone = ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        message = "There is no such time zone."
        raise InvalidSchedule(message) from error
    if len(cron.split()) != FIELDS:
        message = f"A cron expression has {FIELDS} fields: minute, hour, day, month, weekday."
        raise InvalidSchedule(message)
    try:
        times = CronSim(cron, after.astimezone(zone))
    except CronSimError as error:
        message = f"This is not a cron expression: {error}"
        raise InvalidSchedule(message) from error
    # In an hour that comes twice the library gives the first, which may be over.
    return (moment for moment in (one.astimezone(UTC) for one in times) if moment > after)


def next_fire(cron: str, timezone: str, *, after: datetime) -> datetime:
    """Raises InvalidSchedule, also for an expression that never comes true."""
    try:
        return next(fire_times(cron, timezone, after=after))
    except StopIteration as error:
        message = "This never comes."
        raise InvalidSchedule(message) from error


def upcoming(schedule: Schedule, number: int = 5) -> list[datetime]:
    """The next times, for people."""
    times = fire_times(schedule.cron, schedule.timezone, after=database_now())
    return list(itertools.islice(times, number))


@command
def save_schedule(
    slug: str,
    *,
    actor: Actor,
    workflow: Workflow,
    identity: AgentIdentity,
    times: Times,
    inputs: Mapping[str, Any],
) -> Schedule:
    """A schedule by its slug, made or changed. Raises InvalidSchedule, InvalidWorkflowInputs,
    NothingPublished, NotAllowedToStart.
    """
    if workflow.live_id is None:
        raise NothingPublished
    spec = spec_of(workflow.live_id)
    checked_inputs(spec, dict(inputs))
    if not set(identity.roles.values_list("slug", flat=True)) & set(spec.roles):
        raise NotAllowedToStart
    schedule = Schedule.objects.select_for_update().filter(slug=slug).first() or Schedule(slug=slug)
    schedule.workflow, schedule.identity = workflow, identity
    schedule.cron, schedule.timezone = times.cron, times.timezone
    schedule.catch_up, schedule.overlap = times.catch_up, times.overlap
    schedule.inputs = dict(inputs)
    schedule.next_fire_at = next_fire(times.cron, times.timezone, after=database_now())
    validate_fields(schedule)
    schedule.save()
    record(events.SCHEDULE_SAVED, actor=actor, subject=schedule, slug=slug)
    return schedule


@command
def pause_schedule(schedule_id: int, *, actor: Actor, paused: bool, reason: str) -> Schedule:
    """Let no time come, or let them come again from now on: what was missed stays missed."""
    reason = clean_reason(reason)
    schedule = Schedule.objects.select_for_update().filter(pk=schedule_id).first()
    if schedule is None:
        raise NotFound
    schedule.paused = paused
    if not paused:
        schedule.next_fire_at = next_fire(schedule.cron, schedule.timezone, after=database_now())
    schedule.save(update_fields=["paused", "next_fire_at"])
    event = events.SCHEDULE_PAUSED if paused else events.SCHEDULE_UNPAUSED
    record(event, actor=actor, subject=schedule, reason=reason)
    return schedule


def fire_due(*, now: datetime | None = None) -> int:
    """Let every time that has come start what it starts; how many runs were started."""
    moment = now or database_now()
    due = Schedule.objects.due(moment).select_related("workflow", "identity")[:MAX_MISSED]
    return sum(each(due, lambda schedule: _fire_due(schedule, moment), what="schedule"))


def _fire_due(schedule: Schedule, now: datetime) -> int:
    try:
        due = missed(schedule, now)
    except InvalidSchedule as error:
        # Its time zone may have gone with an update of the host: it stands still, and says so.
        pause_schedule(
            schedule.pk, actor=SYSTEM, paused=True, reason=f"Its times cannot be told: {error}"
        )
        return 0
    chosen = _to_make_up_for(schedule, due, now)
    number = sum(_fire(schedule, moment, now) for moment in chosen)
    # Last, so that a crash before it lets the times come again; the constraint keeps them single.
    Schedule.objects.filter(pk=schedule.pk, next_fire_at=schedule.next_fire_at).update(
        next_fire_at=next_fire(schedule.cron, schedule.timezone, after=now)
    )
    return number


def missed(schedule: Schedule, now: datetime) -> list[datetime]:
    """The times that have come, oldest first; the latest MAX_MISSED of them."""
    first = schedule.next_fire_at
    if first is None:
        return []
    found = [first]
    for moment in fire_times(schedule.cron, schedule.timezone, after=first):
        if moment > now:
            break
        found.append(moment)
        if len(found) > MAX_MISSED:
            found.pop(0)
    return found


def _to_make_up_for(schedule: Schedule, due: list[datetime], now: datetime) -> list[datetime]:
    if schedule.catch_up == Schedule.CatchUp.ALL:
        return due
    if schedule.catch_up == Schedule.CatchUp.LATEST:
        return due[-1:]
    return [moment for moment in due[-1:] if now - moment <= LATE]


def _fire(schedule: Schedule, fire_time: datetime, now: datetime) -> bool:
    """Take the time and start; False if another ticker has taken it, or nothing was started."""
    try:
        with transaction.atomic():
            return _take_slot(schedule, fire_time, now)
    except IntegrityError:
        return False


def _take_slot(schedule: Schedule, fire_time: datetime, now: datetime) -> bool:
    fire = ScheduleFire.objects.create(
        schedule=schedule, fire_time=fire_time, status=ScheduleFire.Status.STARTED, fired_at=now
    )
    status, run, reason = _started(schedule, fire_time)
    fire.status, fire.run, fire.reason = status, run, reason[:500]
    fire.save(update_fields=["status", "run", "reason"])
    record(
        events.SCHEDULE_FIRED,
        actor=SYSTEM,
        subject=schedule,
        slug=schedule.slug,
        fire_time=fire_time.isoformat(),
        status=str(status),
    )
    return run is not None


def _started(
    schedule: Schedule, fire_time: datetime
) -> tuple[ScheduleFire.Status, WorkflowRun | None, str]:
    if schedule.overlap == Schedule.Overlap.SKIP and _is_under_way(schedule):
        return ScheduleFire.Status.SKIPPED, None, "The run before it is not finished."
    known = directory.current().identities[schedule.identity.client_id]
    caller = Caller(known, frozenset({"tools"}), jti="", epoch=known.epoch, expires_at=0)
    asked = Start(
        workflow=schedule.workflow.slug,
        inputs=schedule.inputs,
        key=f"{schedule.slug}:{fire_time.isoformat()}",
        origin="schedule",
        initiator_kind=Run.Initiator.SCHEDULE,
        initiator=schedule.slug,
    )
    try:
        with transaction.atomic():
            run, _ = start(caller, asked, actor=SYSTEM)
    except GovernanceError as refusal:
        stopped = isinstance(refusal, InvalidToken)
        said = "The agent is not active there." if stopped else str(refusal)
        return ScheduleFire.Status.REFUSED, None, said
    return ScheduleFire.Status.STARTED, run, ""


def _is_under_way(schedule: Schedule) -> bool:
    last = schedule.fires.filter(run__isnull=False).select_related("run").first()
    return last is not None and last.run is not None and not last.run.is_ended
