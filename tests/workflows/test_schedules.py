"""Schedules: each time starts one run, whoever is awake, whatever the clocks do."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from accounts.models import Environment, User
from actions.models import Run
from agents.models import AgentIdentity
from agents.services import lifecycle
from audit.models import Event
from common.actors import SYSTEM
from common.errors import GovernanceError, InvalidInput, NotFound, ReasonRequired
from policies.services import grants
from tests import factories
from tests.actions.test_races import at_once
from tests.factories import Governed
from tests.workflows import workflow_helpers
from tests.workflows.test_running import later
from workflows.errors import (
    InvalidSchedule,
    InvalidWorkflowInputs,
    NotAllowedToStart,
    NothingPublished,
)
from workflows.models import Schedule, ScheduleFire, WorkflowRun
from workflows.services import schedules, versions
from workflows.services.schedules import Times, fire_due

pytestmark = pytest.mark.django_db

BODY = """\
inputs: {type: object, properties: {amount: {type: number, default: 5}}}
steps:
  rest: {wait: {for: 2h}}
"""
HOURLY = Times("0 * * * *", catch_up="latest", overlap="allow")
NINE = datetime(2026, 5, 4, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)
PARIS = "Europe/Paris"


@pytest.fixture
def published(governed: Governed) -> Governed:
    """Tilda, and a workflow that she may start."""
    workflow_helpers.publish(BODY)
    return governed


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> datetime:
    """It is ten past twelve on that day."""
    now = NINE.replace(hour=12, minute=10)
    monkeypatch.setattr(schedules, "database_now", lambda: now)
    return now


def scheduled(
    governed: Governed, times: Times = HOURLY, *, slug: str = "hourly", **given: Any
) -> Schedule:
    """A schedule whose next time is nine o'clock in May."""
    first = given.pop("first", NINE)
    schedule = schedules.save_schedule(
        slug,
        actor=SYSTEM,
        workflow=workflow_helpers.workflow(given.pop("workflow", "work")),
        identity=given.pop("identity", governed.identity),
        times=times,
        inputs=given.pop("inputs", {"amount": 7}),
    )
    Schedule.objects.filter(pk=schedule.pk).update(next_fire_at=first)
    schedule.refresh_from_db()
    return schedule


def fires(schedule: Schedule) -> list[tuple[datetime, str]]:
    found = ScheduleFire.objects.filter(schedule=schedule).order_by("fire_time", "pk")
    return list(found.values_list("fire_time", "status"))


def next_time(schedule: Schedule) -> datetime | None:
    return Schedule.objects.values_list("next_fire_at", flat=True).get(pk=schedule.pk)


def another_agent(owner: User, environment: Environment, *roles: Any) -> AgentIdentity:
    """Bob, who works in production as well."""
    bob = factories.identity("bob", owner=owner, environment=environment)
    for role in roles:
        grants.add_member(role, bob, actor=SYSTEM)
    return bob


# -- firing --------------------------------------------------------------------------------------


def test_a_time_that_has_come_starts_a_run(published: Governed) -> None:
    schedule = scheduled(published)
    assert fire_due(now=NINE - timedelta(seconds=1)) == 0
    assert fires(schedule) == []
    assert fire_due(now=NINE) == 1
    fire = ScheduleFire.objects.get()
    assert (fire.fire_time, fire.status, fire.reason) == (NINE, "started", "")
    run = WorkflowRun.objects.get()
    assert (fire.run, run.inputs) == (run, {"amount": 7})
    opened = Run.objects.get(pk=run.pk)
    assert (opened.initiator_kind, opened.initiator) == ("schedule", "hourly")
    assert opened.identity == published.identity
    assert next_time(schedule) == NINE + HOUR
    event = Event.objects.get(type="workflow.schedule.fired")
    assert event.details == {
        "slug": "hourly",
        "fire_time": "2026-05-04T09:00:00+00:00",
        "status": "started",
    }
    assert workflow_helpers.driven(run).status == "waiting"


def test_a_time_fires_once_however_often_one_looks(published: Governed) -> None:
    schedule = scheduled(published)
    ticks = [NINE + timedelta(minutes=minute) for minute in range(0, 125, 5)]
    assert [fire_due(now=tick) for tick in ticks].count(1) == 3
    assert fires(schedule) == [(NINE + hours * HOUR, "started") for hours in range(3)]
    assert WorkflowRun.objects.count() == 3


def test_a_crash_before_the_next_time_is_noted_does_not_start_twice(published: Governed) -> None:
    schedule = scheduled(published)
    assert fire_due(now=NINE) == 1
    Schedule.objects.update(next_fire_at=NINE)
    assert fire_due(now=NINE + timedelta(seconds=5)) == 0
    assert fires(schedule) == [(NINE, "started")]
    assert WorkflowRun.objects.count() == Run.objects.count() == 1
    assert next_time(schedule) == NINE + HOUR


def test_a_crash_while_a_time_is_taken_leaves_the_time_to_others(
    published: Governed, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule = scheduled(published)

    def crash(*args: Any, **kwargs: Any) -> None:
        raise ConnectionError

    with monkeypatch.context() as patched:
        patched.setattr(schedules, "record", crash)
        assert fire_due(now=NINE) == 0
    assert fires(schedule) == []
    assert not Run.objects.exists()
    assert next_time(schedule) == NINE
    assert fire_due(now=NINE) == 1


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_several_tickers_start_one_run_for_each_time(published: Governed) -> None:
    every = replace(HOURLY, catch_up="all")
    schedules = [scheduled(published, every, slug=slug) for slug in ("one", "two")]
    now = NINE + 2 * HOUR
    results = at_once(lambda number: fire_due(now=now))
    assert not [found for found in results if isinstance(found, Exception)]
    assert sum(results) == 6
    for schedule in schedules:
        assert fires(schedule) == [(NINE + hours * HOUR, "started") for hours in range(3)]
        assert next_time(schedule) == NINE + 3 * HOUR
    assert WorkflowRun.objects.count() == Run.objects.count() == 6
    Schedule.objects.update(next_fire_at=NINE)
    assert at_once(lambda number: fire_due(now=now)) == [0] * len(results)
    assert WorkflowRun.objects.count() == 6


# -- clocks --------------------------------------------------------------------------------------


def ticked(published: Governed, times: Times, first: datetime, hours: int) -> list[str]:
    """The moments, in UTC, at which a ticker that looks every ten minutes starts something."""
    schedule = scheduled(published, times, first=first)
    for step in range(hours * 6):
        fire_due(now=first + step * timedelta(minutes=10))
    return [f"{moment:%m-%d %H:%M}" for moment, _ in fires(schedule)]


def test_a_time_that_the_clocks_leave_out_fires_right_after(published: Governed) -> None:
    # On 2026-03-29 it is never half past two in Paris: two o'clock is three o'clock.
    times = replace(HOURLY, cron="30 2 * * *", timezone=PARIS)
    first = datetime(2026, 3, 28, 1, 30, tzinfo=UTC)
    assert ticked(published, times, first, 48) == ["03-28 01:30", "03-29 01:00", "03-30 00:30"]


def test_a_time_that_comes_twice_fires_once(published: Governed) -> None:
    # On 2026-10-25 it is half past two in Paris twice, an hour apart.
    times = replace(HOURLY, cron="30 2 * * *", timezone=PARIS)
    first = datetime(2026, 10, 24, 0, 30, tzinfo=UTC)
    assert ticked(published, times, first, 50) == ["10-24 00:30", "10-25 00:30", "10-26 01:30"]


def test_times_that_clocks_put_together_fire_once(published: Governed) -> None:
    times = replace(HOURLY, cron="0 2,3 * * *", timezone=PARIS, catch_up="all")
    first = datetime(2026, 3, 28, 2, 0, tzinfo=UTC)
    assert ticked(published, times, first, 24) == ["03-28 02:00", "03-29 01:00"]


def test_a_ticker_that_comes_late_in_the_doubled_hour_fires_once(published: Governed) -> None:
    times = replace(HOURLY, cron="30 2 * * *", timezone=PARIS)
    first = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    schedule = scheduled(published, times, first=first)
    for minutes in (40, 50, 60, 70, 80):
        fire_due(now=first + timedelta(minutes=minutes))
    assert fires(schedule) == [(first, "started")]
    assert WorkflowRun.objects.count() == 1
    assert next_time(schedule) == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    "day", [datetime(2026, 3, 28, tzinfo=UTC), datetime(2026, 10, 24, tzinfo=UTC)]
)
@pytest.mark.parametrize("cron", ["30 2 * * *", "0 2,3 * * *", "*/30 * * * *", "15 */2 * * *"])
def test_the_next_time_is_always_to_come(cron: str, day: datetime) -> None:
    for step in range(48 * 6):
        now = day + step * timedelta(minutes=10)
        assert schedules.next_fire(cron, PARIS, after=now) > now


def test_what_was_missed_stays_missed_in_the_doubled_hour(
    published: Governed, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = replace(HOURLY, cron="30 2 * * *", timezone=PARIS)
    schedule = scheduled(published, times, first=datetime(2026, 10, 25, 0, 30, tzinfo=UTC))
    schedules.pause_schedule(schedule.pk, actor=SYSTEM, paused=True, reason="An audit.")
    now = datetime(2026, 10, 25, 1, 10, tzinfo=UTC)
    monkeypatch.setattr(schedules, "database_now", lambda: now)
    schedules.pause_schedule(schedule.pk, actor=SYSTEM, paused=False, reason="It is over.")
    assert fire_due(now=now) == 0
    assert not WorkflowRun.objects.exists()


def test_the_same_hour_is_another_moment_in_summer() -> None:
    for month, hour in ((1, 8), (7, 7)):
        after = datetime(2026, month, 10, tzinfo=UTC)
        assert schedules.next_fire("0 9 * * *", PARIS, after=after) == after.replace(hour=hour)


def test_people_see_the_times_to_come(clock: datetime) -> None:
    schedule = Schedule(cron="0 * * * *", timezone=PARIS)
    expected = [clock.replace(hour=hour, minute=0) for hour in (13, 14, 15)]
    assert schedules.upcoming(schedule, 3) == expected


# -- after a time out of service -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("catch_up", "made_up"), [("none", []), ("latest", [11]), ("all", [9, 10, 11])]
)
def test_after_three_hours_down_it_makes_up_for_what_it_is_said_to(
    published: Governed, catch_up: str, made_up: list[int]
) -> None:
    schedule = scheduled(published, replace(HOURLY, catch_up=catch_up))
    now = NINE.replace(hour=11, minute=30)
    assert fire_due(now=now) == len(made_up)
    assert fires(schedule) == [(NINE.replace(hour=hour), "started") for hour in made_up]
    assert WorkflowRun.objects.count() == len(made_up)
    assert next_time(schedule) == NINE.replace(hour=12)
    assert fire_due(now=now + timedelta(seconds=5)) == 0
    assert fire_due(now=NINE.replace(hour=12)) == 1


def test_a_ticker_a_little_late_has_missed_nothing(published: Governed) -> None:
    schedule = scheduled(published, replace(HOURLY, catch_up="none"))
    assert fire_due(now=NINE + timedelta(seconds=50)) == 1
    assert fire_due(now=NINE + HOUR + timedelta(seconds=70)) == 0
    assert fires(schedule) == [(NINE, "started")]


def test_it_makes_up_for_the_latest_hundred_at_most() -> None:
    schedule = Schedule(cron="* * * * *", next_fire_at=NINE, catch_up="all")
    found = schedules.missed(schedule, NINE + 5 * HOUR)
    assert len(found) == schedules.MAX_MISSED
    assert found[-1] == NINE + 5 * HOUR
    assert found == sorted(found)


# -- overlap -------------------------------------------------------------------------------------


def test_a_time_is_left_out_while_the_run_before_is_not_finished(published: Governed) -> None:
    schedule = scheduled(published, replace(HOURLY, overlap="skip"))
    assert fire_due(now=NINE) == 1
    run = workflow_helpers.driven(WorkflowRun.objects.get())
    assert fire_due(now=NINE + HOUR) == 0
    assert fire_due(now=NINE + 2 * HOUR) == 0
    assert WorkflowRun.objects.count() == 1
    left_out = ScheduleFire.objects.filter(status="skipped")
    assert {(one.run, one.reason) for one in left_out} == {
        (None, "The run before it is not finished.")
    }
    assert later(run, hours=2).status == "succeeded"
    assert fire_due(now=NINE + 3 * HOUR) == 1
    assert [status for _, status in fires(schedule)] == ["started", "skipped", "skipped", "started"]


def test_runs_overlap_where_that_is_said(published: Governed) -> None:
    scheduled(published, replace(HOURLY, overlap="allow"))
    assert fire_due(now=NINE) == fire_due(now=NINE + HOUR) == 1
    assert WorkflowRun.objects.unfinished().count() == 2


def test_of_all_that_was_missed_the_first_runs_where_they_may_not_overlap(
    published: Governed,
) -> None:
    schedule = scheduled(published, replace(HOURLY, overlap="skip", catch_up="all"))
    assert fire_due(now=NINE + 2 * HOUR) == 1
    assert [status for _, status in fires(schedule)] == ["started", "skipped", "skipped"]


def test_the_runs_of_other_schedules_hold_nothing_up(published: Governed) -> None:
    alone = replace(HOURLY, overlap="skip")
    scheduled(published, alone, slug="one")
    scheduled(published, alone, slug="two")
    assert fire_due(now=NINE) == 2


# -- pausing -------------------------------------------------------------------------------------


def test_a_paused_schedule_starts_nothing_and_what_it_missed_stays_missed(
    published: Governed, clock: datetime
) -> None:
    schedule = scheduled(published, replace(HOURLY, catch_up="all"))
    schedules.pause_schedule(schedule.pk, actor=SYSTEM, paused=True, reason="An audit is on.")
    assert fire_due(now=NINE + HOUR) == 0
    schedules.pause_schedule(schedule.pk, actor=SYSTEM, paused=False, reason="It is over.")
    assert fire_due(now=clock) == 0
    assert not ScheduleFire.objects.exists()
    assert not Run.objects.exists()
    assert next_time(schedule) == NINE.replace(hour=13)
    assert fire_due(now=NINE.replace(hour=13)) == 1
    told = Event.objects.filter(type__startswith="workflow.schedule.").order_by("id")
    assert list(told.values_list("type", flat=True)) == [
        "workflow.schedule.saved",
        "workflow.schedule.paused",
        "workflow.schedule.unpaused",
        "workflow.schedule.fired",
    ]


def test_pausing_needs_a_schedule_and_a_reason(published: Governed) -> None:
    schedule = scheduled(published)
    with pytest.raises(ReasonRequired):
        schedules.pause_schedule(schedule.pk, actor=SYSTEM, paused=True, reason=" ")
    with pytest.raises(NotFound):
        schedules.pause_schedule(0, actor=SYSTEM, paused=True, reason="Why not.")
    assert not Schedule.objects.get().paused
    assert next_time(schedule) == NINE


# -- refused starts ------------------------------------------------------------------------------


def ensure_refused(schedule: Schedule, sentence: str) -> None:
    """It was refused alone: the other schedule's run is the only one."""
    fire = ScheduleFire.objects.get(schedule=schedule)
    assert (fire.status, fire.run, fire.reason) == ("refused", None, sentence)
    assert next_time(schedule) == NINE + HOUR
    started = ScheduleFire.objects.get(status="started")
    assert started.schedule.slug == "z-good"
    assert WorkflowRun.objects.get() == started.run
    assert Run.objects.count() == 1
    told = Event.objects.filter(type="workflow.schedule.fired").order_by("id")
    assert [event.details["status"] for event in told] == ["refused", "started"]


def test_a_paused_workflow_refuses_and_holds_up_no_other_schedule(published: Governed) -> None:
    workflow_helpers.publish(BODY, slug="other")
    bad = scheduled(published, workflow="other")
    scheduled(published, slug="z-good")
    versions.pause_workflow(
        workflow_helpers.workflow("other").pk, actor=SYSTEM, paused=True, reason="An audit is on."
    )
    assert fire_due(now=NINE) == 1
    ensure_refused(bad, "This workflow is paused: no new run is started.")


def test_a_suspended_agent_is_refused_and_holds_up_no_other_schedule(
    published: Governed, olga: User, prod: Environment
) -> None:
    bob = another_agent(olga, prod, published.role)
    bad = scheduled(published, identity=bob)
    scheduled(published, slug="z-good")
    lifecycle.suspend(bob.agent_id, actor=SYSTEM, reason="It misbehaves.")
    assert fire_due(now=NINE) == 1
    fire = ScheduleFire.objects.get(schedule=bad)
    ensure_refused(bad, fire.reason)
    assert fire.reason


def test_inputs_that_no_longer_fit_are_refused_and_hold_up_no_other_schedule(
    published: Governed,
) -> None:
    workflow_helpers.publish(BODY, slug="other")
    bad = scheduled(published, workflow="other", inputs={"amount": 7})
    scheduled(published, slug="z-good")
    workflow_helpers.publish(BODY.replace("object,", "object, required: [account],"), slug="other")
    assert fire_due(now=NINE) == 1
    ensure_refused(bad, "the inputs: account is required.")


def test_a_refused_time_is_not_made_up_for(published: Governed) -> None:
    schedule = scheduled(published)
    work = workflow_helpers.workflow()
    versions.pause_workflow(work.pk, actor=SYSTEM, paused=True, reason="An audit is on.")
    assert fire_due(now=NINE) == 0
    versions.pause_workflow(work.pk, actor=SYSTEM, paused=False, reason="It is over.")
    assert fire_due(now=NINE + timedelta(minutes=1)) == 0
    assert fire_due(now=NINE + HOUR) == 1
    assert fires(schedule) == [(NINE, "refused"), (NINE + HOUR, "started")]


# -- saving --------------------------------------------------------------------------------------

BAD_TIMES = [
    Times("* * * *"),
    Times("60 * * * *"),
    Times("x * * * *"),
    Times("@daily"),
    Times(""),
    Times("0 0 31 2 *"),  # never comes
    Times("0 30 2 * * *"),  # with seconds, which follow other rules when clocks change
    Times("0 * * * *", "Mars/Olympus"),
    Times("0 * * * *", ""),
    Times("0 * * * *", "../../etc/passwd"),
    Times("0 * * * *", "Europe"),  # a folder of zones
    Times("0 * * * *", "a" * 300),
]


@pytest.mark.parametrize("times", BAD_TIMES, ids=lambda t: f"{t.cron}-{t.timezone[:20]}")
def test_times_that_say_nothing_are_refused(times: Times) -> None:
    with pytest.raises(InvalidSchedule) as refusal:
        schedules.next_fire(times.cron, times.timezone, after=NINE)
    assert refusal.value.code == "invalid_schedule"


def test_a_schedule_with_such_times_is_not_saved(published: Governed) -> None:
    schedule = scheduled(published)
    for times in (Times("60 * * * *"), Times("0 * * * *", "Mars/Olympus")):
        for slug in ("new", schedule.slug):
            with pytest.raises(InvalidSchedule):
                scheduled(published, times, slug=slug)
    found = Schedule.objects.get()
    assert (found.cron, found.timezone, found.next_fire_at) == ("0 * * * *", "UTC", NINE)
    assert Event.objects.filter(type="workflow.schedule.saved").count() == 1


def test_a_choice_that_there_is_not_is_refused(published: Governed) -> None:
    for times in (replace(HOURLY, catch_up="some"), replace(HOURLY, overlap="maybe")):
        with pytest.raises(InvalidInput):
            scheduled(published, times)
    assert not Schedule.objects.exists()


def test_what_could_not_be_started_is_not_scheduled(
    published: Governed, olga: User, prod: Environment
) -> None:
    versions.draft_version(workflow_helpers.text_of(BODY, "drafted"), actor=SYSTEM)
    bob = another_agent(olga, prod)
    wrong: list[tuple[type[GovernanceError], dict[str, Any]]] = [
        (NothingPublished, {"workflow": "drafted"}),
        (NotAllowedToStart, {"identity": bob}),
        (InvalidWorkflowInputs, {"inputs": {"amount": "much"}}),
        (InvalidInput, {"slug": "not a slug"}),
    ]
    for refusal, given in wrong:
        with pytest.raises(refusal):
            scheduled(published, **given)
    assert not Schedule.objects.exists()
    assert not Event.objects.filter(type="workflow.schedule.saved").exists()


def test_a_schedule_without_inputs_is_saved(published: Governed) -> None:
    scheduled(published, inputs={})
    assert fire_due(now=NINE) == 1
    assert WorkflowRun.objects.get().inputs == {"amount": 5}


def test_a_changed_schedule_fires_at_its_new_times(published: Governed, clock: datetime) -> None:
    schedule = scheduled(published)
    schedules.save_schedule(
        schedule.slug,
        actor=SYSTEM,
        workflow=schedule.workflow,
        identity=schedule.identity,
        times=Times("*/5 * * * *", catch_up="all"),
        inputs={"amount": 8},
    )
    assert fire_due(now=clock) == 0  # the former times do not count
    assert next_time(schedule) == clock.replace(minute=15)
    assert fire_due(now=clock.replace(minute=15)) == 1
    assert WorkflowRun.objects.get().inputs == {"amount": 8}
