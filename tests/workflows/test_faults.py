"""Faults with real processes, a real broker and a real system that counts what it is asked."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.utils import timezone
from redis import Redis

from actions.models import Action, Attempt
from actions.services import recovery
from agents.models import Halt
from agents.services.halts import place_halt
from audit.models import Event
from benchmarks import fixtures
from common.actors import SYSTEM
from common.clock import database_now
from demo.catalogue import ACCOUNTING
from policies.services import grants
from tests import factories
from tests.actions.test_worker import eventually, reach
from tests.databases import url_of, valkey
from tests.factories import Governed
from tests.workflows import workflow_helpers
from tools.models import Breaker, System, Tool
from tools.services.registration import define_tool, register_system, set_endpoint
from workflows.models import ScheduleFire, StepRun, WorkflowRun
from workflows.services import operator_commands, schedules, sweeper, tick, worker
from workflows.services.schedules import Times

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db(transaction=True)]
LEASE = 1.5

REFUND = """\
inputs: {type: object, properties: {n: {type: string, default: "1"}}}
steps:
  refund:
    tool: accounting.refund
    with: {reservation: "${ inputs.n }", customer: c, amount: 1}
    retry: {max_attempts: 9, backoff: 10ms, factor: 1, max_backoff: 10ms}
"""
LETTER = """\
steps:
  letter: {tool: accounting.send_letter, with: {to: x}}
"""
THREE = (
    REFUND
    + """\
  entry:
    needs: [refund]
    tool: accounting.post_entry
    with: {text: "${ inputs.n }"}
    retry: {max_attempts: 9, backoff: 10ms, factor: 1, max_backoff: 10ms}
  certify:
    needs: [entry]
    tool: accounting.certify
    with: {certificate: GW-001, on: "2026-01-01"}
    retry: {max_attempts: 9, backoff: 10ms, factor: 1, max_backoff: 10ms}
"""
)


@pytest.fixture(autouse=True)
def _short_lease(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.WORKFLOW_LEASE_SECONDS = LEASE
    monkeypatch.setenv("CHANCERY_WORKFLOW_LEASE_SECONDS", str(LEASE))
    monkeypatch.setenv("CHANCERY_WORKFLOW_HINT_SECONDS", "2")
    monkeypatch.setenv("DATABASE_URL", url_of(connection))
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "tests.settings")


@pytest.fixture
def books(governed: Governed, tmp_path: Path) -> Iterator[str]:
    """The accounting service, slow enough to be caught in the middle of a call."""
    with fixtures.accounting(tmp_path, "--slow-ms", "60") as url:
        accounting_at(governed, url)
        yield url


@pytest.fixture
def slow_books(governed: Governed, tmp_path: Path) -> Iterator[str]:
    """One that takes its time to say what it has done."""
    with fixtures.accounting(tmp_path, "--slow-ms", "400") as url:
        accounting_at(governed, url)
        yield url


def accounting_at(governed: Governed, url: str) -> None:
    system = register_system("accounting", actor=SYSTEM, title="Books", kind=System.Kind.HTTP)
    place = governed.identity.environment
    set_endpoint(system, place, actor=SYSTEM, base_url=url, allow_private=True)
    for name, attributes in ACCOUNTING:
        define_tool(system, name, actor=SYSTEM, timeout_seconds=2, **attributes)
    for access in Tool.Access:
        grants.grant(governed.role, system, access, actor=SYSTEM)
    factories.publish(permit_books='@id("permit-books") permit(principal, action, resource);')


def brought_to_rest(run: WorkflowRun, seconds: float = 20) -> WorkflowRun:
    """What a sweeper and a worker do, again and again, until the run rests or waits for people."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        recovery.reap_abandoned()
        worker.run_until_idle(run.pk)
        run = WorkflowRun.objects.get(pk=run.pk)
        stuck = StepRun.objects.filter(run_id=run.pk, status="unknown", due_at=None).exists()
        if run.status in WorkflowRun.RESTING or stuck:
            return run
        time.sleep(0.05)
    pytest.fail(f"the run did not come to rest: {run.status}")


def effects(url: str, operation: str) -> int:
    return int(fixtures.totals(url).get(operation, {}).get("effects", 0))


# -- kill -9 at each point -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("point", "unknown"),
    [
        ("before_intent", 0),
        ("after_intent", 1),
        ("in_mid_call", 1),
        ("after_call", 1),
        ("before_hint", 0),
    ],
)
def test_a_driver_killed_at_any_point_loses_nothing(
    governed: Governed, slow_books: str, point: str, unknown: int
) -> None:
    workflow_helpers.publish(THREE)
    run = workflow_helpers.begin(governed)
    command = [
        sys.executable,
        "-m",
        "tests.workflows.crash_process",
        str(run.pk),
        point,
        slow_books,
    ]
    done = subprocess.run(command, check=False, stderr=subprocess.DEVNULL)
    assert done.returncode in ({-signal.SIGKILL} if point != "before_hint" else {0, -9})
    run = brought_to_rest(run)
    assert run.status == "succeeded"
    gone = Attempt.objects.filter(action__run_id=run.pk, status="unknown")
    assert gone.count() == unknown
    for operation in ("refund", "post_entry", "certify"):
        assert effects(slow_books, operation) == 1
    assert Action.objects.filter(run_id=run.pk).count() == 3


def test_a_driver_frozen_before_it_sends_does_not_send_what_another_has_sent(
    governed: Governed, books: str
) -> None:
    """The system was asked meanwhile, and knew of no such call: it was made anew."""
    workflow_helpers.publish(THREE)
    run = workflow_helpers.begin(governed)
    command = [
        sys.executable,
        "-m",
        "tests.workflows.crash_process",
        str(run.pk),
        "before_sending",
        books,
    ]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as frozen:
        eventually(lambda: Path(f"/proc/{frozen.pid}/stat").read_text().split()[2] == "T")
        assert Attempt.objects.filter(status="started").count() == 1
        run = brought_to_rest(run)
        os.kill(frozen.pid, signal.SIGCONT)
        frozen.wait(timeout=20)
    assert run.status == "succeeded"
    statuses = Attempt.objects.filter(action__tool="accounting.post_entry").order_by("number")
    assert list(statuses.values_list("status", flat=True)) == ["unknown", "succeeded"]
    assert effects(books, "post_entry") == 1


@pytest.mark.parametrize("point", ["after_intent", "in_mid_call", "after_call"])
def test_a_letter_of_a_killed_driver_is_left_to_people(
    governed: Governed, slow_books: str, point: str
) -> None:
    workflow_helpers.publish(LETTER)
    run = workflow_helpers.begin(governed)
    command = [
        sys.executable,
        "-m",
        "tests.workflows.crash_process",
        str(run.pk),
        point,
        slow_books,
    ]
    subprocess.run(command, check=False, stderr=subprocess.DEVNULL)
    run = brought_to_rest(run)
    assert (run.status, workflow_helpers.steps(run)) == ("waiting", {"letter": "unknown"})
    time.sleep(0.2)
    assert effects(slow_books, "send_letter") == (0 if point == "after_intent" else 1)


# -- a real worker on a real broker --------------------------------------------------------------


@contextlib.contextmanager
def process(*arguments: str, broker: str) -> Iterator["subprocess.Popen[bytes]"]:
    started = subprocess.Popen(
        [sys.executable, *arguments],
        env=os.environ | {"BROKER_URL": broker},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield started
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
        started.wait(timeout=20)


def celery_worker(broker: str) -> Any:
    options = ("--concurrency", "2", "--without-gossip", "--without-mingle")
    return process("-m", "celery", "-A", "portal", "worker", *options, broker=broker)


def sweeper_process(broker: str) -> Any:
    arguments = ("manage.py", "workflow_worker", "--sweep-only", "--every", "0.2")
    return process(*arguments, broker=broker)


def batch(governed: Governed, number: int = 12) -> list[WorkflowRun]:
    return [workflow_helpers.begin(governed, {"n": str(one)}) for one in range(number)]


def finished(runs: list[WorkflowRun]) -> int:
    ids = [run.pk for run in runs]
    return WorkflowRun.objects.filter(pk__in=ids, status="succeeded").count()


def all_done(runs: list[WorkflowRun], books: str) -> None:
    eventually(lambda: finished(runs) == len(runs))
    for operation in ("refund", "post_entry"):
        assert effects(books, operation) == len(runs)


@pytest.fixture
def broker(settings: Any) -> Iterator[str]:
    with valkey() as url:
        reach(url, settings)
        yield url


def children_of(pid: int) -> list[int]:
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=True
    )
    return [int(text) for text in listed.stdout.split()]


def test_a_killed_child_and_a_killed_worker_cost_time_only(
    governed: Governed, books: str, broker: str
) -> None:
    workflow_helpers.publish(THREE)
    with sweeper_process(broker):
        with celery_worker(broker) as first:
            runs = batch(governed)
            eventually(lambda: finished(runs) >= 2)
            os.kill(children_of(first.pid)[0], signal.SIGKILL)
            eventually(lambda: finished(runs) >= 4)
        with celery_worker(broker):
            all_done(runs, books)


def test_a_worker_that_sleeps_beyond_its_lease_changes_nothing_afterwards(
    governed: Governed, books: str, broker: str
) -> None:
    workflow_helpers.publish(REFUND)
    with sweeper_process(broker), celery_worker(broker) as slow:
        runs = batch(governed, 8)
        eventually(lambda: Attempt.objects.filter(status="started").exists())
        os.killpg(slow.pid, signal.SIGSTOP)
        time.sleep(LEASE + 1)
        with celery_worker(broker):
            eventually(lambda: finished(runs) == len(runs))
            closed = {a.pk: a.status for a in Attempt.objects.filter(status="succeeded")}
            os.killpg(slow.pid, signal.SIGCONT)
            time.sleep(1)
    assert effects(books, "refund") == len(runs)
    assert closed.items() <= {a.pk: a.status for a in Attempt.objects.all()}.items()


def test_a_broker_that_is_emptied_stopped_and_started_costs_time_only(
    governed: Governed, books: str, settings: Any
) -> None:
    workflow_helpers.publish(THREE)
    with valkey() as url:
        reach(url, settings)
        with sweeper_process(url), celery_worker(url):
            runs = batch(governed)
            Redis.from_url(url).flushall()
            eventually(lambda: finished(runs) >= 3)
    # The broker is gone: runs are started all the same.
    late = batch(governed, 3)
    assert all(run.pk for run in late)
    with valkey() as url:
        reach(url, settings)
        with sweeper_process(url), celery_worker(url):
            all_done([*runs, *late], books)


def test_two_beats_and_three_sweepers_do_each_thing_once(
    governed: Governed, books: str, broker: str, tmp_path: Path
) -> None:
    workflow_helpers.publish(THREE)
    schedule = schedules.save_schedule(
        "often",
        actor=SYSTEM,
        workflow=workflow_helpers.workflow(),
        identity=governed.identity,
        times=Times("0 0 1 1 *", overlap="allow"),
        inputs={},
    )
    due = database_now().replace(microsecond=0)
    type(schedule).objects.filter(pk=schedule.pk).update(next_fire_at=due)
    with contextlib.ExitStack() as stack:
        stack.enter_context(celery_worker(broker))
        for number in range(3):
            stack.enter_context(sweeper_process(broker))
            if number < 2:
                file = str(tmp_path / f"beat-{number}")
                beat = ("-m", "celery", "-A", "portal", "beat", "--schedule", file)
                stack.enter_context(process(*beat, broker=broker))
        runs = batch(governed, 6)
        eventually(lambda: ScheduleFire.objects.filter(run__status="succeeded").exists())
        eventually(lambda: finished(runs) == len(runs))
    assert ScheduleFire.objects.count() == 1
    assert effects(books, "refund") == len(runs) + 1


# -- hints ---------------------------------------------------------------------------------------


def test_hints_too_many_too_late_and_for_nothing_do_nothing(governed: Governed, books: str) -> None:
    workflow_helpers.publish(REFUND)
    run = workflow_helpers.begin(governed)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: closing(worker.run_until_idle, run.pk), range(40)))
    assert WorkflowRun.objects.get(pk=run.pk).status == "succeeded"
    before = Event.objects.count()
    assert worker.run_until_idle(run.pk) == 0
    assert effects(books, "refund") == 1
    assert Event.objects.count() == before


def closing(work: Callable[..., Any], *given: Any) -> Any:
    try:
        return work(*given)
    finally:
        connection.close()


# -- the database --------------------------------------------------------------------------------


def test_a_commit_whose_reply_is_lost_makes_no_second_intent(
    governed: Governed, books: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    workflow_helpers.publish(REFUND)
    run = workflow_helpers.begin(governed)
    plain: Any = connection
    real, lost = plain._commit, [True]

    def commit() -> None:
        real()
        if lost and Attempt.objects.filter(action__run_id=run.pk).exists():
            lost.pop()
            message = "the connection was lost"
            raise OperationalError(message)

    monkeypatch.setattr(plain, "_commit", commit)
    worker.run_until_idle(run.pk)
    assert not lost
    monkeypatch.undo()
    _short_again()
    assert Attempt.objects.filter(action__run_id=run.pk).count() == 1
    run = brought_to_rest(run)
    assert run.status == "succeeded"
    statuses = Attempt.objects.values_list("status", flat=True).order_by("number")
    assert list(statuses) == ["unknown", "succeeded"]
    assert effects(books, "refund") == 1


def _short_again() -> None:
    """The lease of what was begun is over in a moment."""
    Attempt.objects.filter(status="started").update(
        lease_until=database_now() + timedelta(milliseconds=200)
    )


def test_a_backend_that_is_terminated_costs_a_retry(governed: Governed, books: str) -> None:
    workflow_helpers.publish(THREE)
    run = workflow_helpers.begin(governed)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        [pid] = cursor.fetchone()
    ended: list[bool] = []
    real = vars(worker)["call_once"]

    def called(*args: Any, **kwargs: Any) -> Any:
        result = real(*args, **kwargs)
        if not ended:
            ended.append(True)
            other = connection.copy()
            with other.cursor() as cursor:
                cursor.execute("SELECT pg_terminate_backend(%s)", [pid])
            other.close()
            time.sleep(0.1)
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "call_once", called)
        run = brought_to_rest(run)
    assert run.status == "succeeded"
    assert list(Attempt.objects.values_list("status", flat=True).distinct()) == ["succeeded"]
    assert effects(books, "refund") == 1


def test_a_wrong_clock_of_a_worker_changes_nothing(
    governed: Governed, books: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    workflow_helpers.publish(REFUND.replace("steps:\n", "steps:\n  rest: {wait: {for: 30m}}\n"))
    run = workflow_helpers.begin(governed)
    taken = tick.tick(run.pk, lease=timedelta(seconds=30))
    assert taken.case is not None
    look = worker._looked(taken.case)
    tick.tick(run.pk, lease=timedelta(seconds=30), look=look)
    real = timezone.now
    for hours in (1, -1):
        monkeypatch.setattr(timezone, "now", lambda shift=hours: real() + timedelta(hours=shift))
        assert recovery.reap_abandoned() == 0
        assert sweeper.sweep() == 0
        worker.run_until_idle(run.pk)
        assert workflow_helpers.step(run, "rest").status == "waiting"
        assert Attempt.objects.get().status == "started"


# -- halts ---------------------------------------------------------------------------------------


def test_after_a_halt_no_attempt_begins(governed: Governed, books: str) -> None:
    workflow_helpers.publish(
        """\
steps:
  all:
    foreach:
      in: "${ ['1', '2', '3', '4', '5', '6', '7', '8', '9', '10', '11', '12', '13', '14'] }"
      max_items: 20
      parallel: 10
      steps:
        refund: {tool: accounting.refund, with: {reservation: "${ item }", customer: c, amount: 1}}
"""
    )
    run = workflow_helpers.begin(governed)
    with ThreadPoolExecutor(6) as pool:
        workers = [pool.submit(closing, worker.run_until_idle, run.pk) for _ in range(6)]
        eventually(lambda: Attempt.objects.filter(status="succeeded").exists())
        place_halt(Halt.Kind.AGENT, actor=SYSTEM, target="tilda", reason="Stop.")
        halted = Event.objects.get(type="halt.placed").pk
        for submitted in workers:
            submitted.result()
    run = brought_to_rest(run)
    assert run.status == "halted"
    begun = Event.objects.filter(type="tool.call.requested")
    assert not begun.filter(pk__gt=halted).exists()
    assert Attempt.objects.filter(status="started").count() == 0  # those under way were recorded
    assert effects(books, "refund") == Attempt.objects.filter(status="succeeded").count()


# -- cancelling under way ------------------------------------------------------------------------


def test_a_call_under_way_is_recorded_after_its_run_was_cancelled(
    governed: Governed, books: str
) -> None:
    workflow_helpers.publish(THREE)
    run = workflow_helpers.begin(governed)
    with ThreadPoolExecutor(1) as pool:
        submitted = pool.submit(closing, worker.run_until_idle, run.pk)
        eventually(lambda: Attempt.objects.filter(status="started").exists())
        operator_commands.cancel(run.pk, actor=SYSTEM, reason="Not needed.")
        submitted.result()
    assert WorkflowRun.objects.get(pk=run.pk).status == "cancelled"
    assert Attempt.objects.get().status == "succeeded"
    assert Action.objects.get().status == "succeeded"
    assert effects(books, "post_entry") == 0


# -- one probe through a breaker -----------------------------------------------------------------


def test_exactly_one_of_eight_probes_an_open_breaker(governed: Governed, books: str) -> None:
    workflow_helpers.publish(REFUND)
    runs = batch(governed, 8)
    now = database_now()
    Breaker.objects.create(
        system="accounting", environment="prod", state="open", open_until=now, opened_times=1
    )
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda run: closing(worker.run_until_idle, run.pk), runs))
    assert Attempt.objects.count() <= 8
    events = Event.objects.filter(type="breaker.closed")
    assert events.count() == 1
    waited = StepRun.objects.filter(run__in=runs, status="waiting", waiting_for="breaker")
    first = Attempt.objects.order_by("started_at").first()
    assert first is not None
    assert first.status == "succeeded"
    assert waited.count() + Attempt.objects.count() == 8
