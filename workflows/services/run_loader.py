"""Reading a run under lock: two statements, whatever the number of steps."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from typing import Any
from uuid import UUID

from django.db import connection
from django.utils import timezone

from actions.services.run_locks import RUN_COLUMNS, RUN_WIDTH, as_json, as_uuid, run_row
from audit.generation import holding
from common.errors import NotFound
from common.sql import together
from workflows.run_state import OVER, RESTING, StepState, WorkflowState
from workflows.services.tables import STEP_COLUMNS
from workflows.spec_cache import data_class_of, spec_of

_CASE = (
    "i.client_id, r.environment, f.slug, w.version_id, w.status, w.inputs, w.scope, w.epoch, "
    "w.parent_id, w.depth, w.deadline_at, w.started_at, w.ending, w.reason, w.output, "
    "w.steps_count, w.errors_count, w.unknown_count, w.finished_seq, w.success_condition_met, "
    "w.is_partial, w.next_wake_at, w.last_hint_at, w.ended_at, w.revision"
)
_CASE_NAMES = tuple(name.split(".")[1] for name in _CASE.split(", "))
_JSON = {"inputs", "output", "input"}
_TIMES = {
    "deadline_at",
    "started_at",
    "next_wake_at",
    "last_hint_at",
    "ended_at",
    "due_at",
}
_IDS = {"id", "parent_id", "action_id", "approval_id", "child_id"}
_FLAGS = {"success_condition_met", "is_partial", "folded", "in_doubt"}
_STEP_NAMES = tuple(name for name in STEP_COLUMNS if name != "run_id")
_NEWS = (
    "a.status, p.status, c.status, "
    "(s.waiting_for = 'signal' AND EXISTS (SELECT 1 FROM workflows_signal g "
    "WHERE g.run_id = s.run_id AND g.consumed_at IS NULL))"
)
_NEWS_NAMES = ("action_status", "approval_status", "child_status", "has_signal")


@dataclass(frozen=True)
class Loaded:
    """A case with what else its transaction needs to know."""

    case: WorkflowState
    wakes: tuple[int, ...]
    has_open_breakers: bool
    attempt_status: str


def lock_state(
    run_id: UUID,
    *,
    wait: bool,
    attempt_id: UUID | None = None,
    everything: bool = False,
    known: WorkflowState | None = None,
) -> Loaded | None:
    """The run with its steps in play, under the shared lock of the generation and that of its Run.

    None if there is no such run, or if somebody else holds it and `wait` is false. `everything`
    reads the steps of finished items too, which undoing needs. `known` is the case as the caller
    committed it last: it is not read again if nobody has taken a turn or left a note since.
    """
    text = _locked_sql(connection.vendor, has_attempt=attempt_id is not None, wait=wait)
    given = [_id(one) for one in (attempt_id, run_id) if one is not None]
    found = together(connection, [*holding(), (text, given)])[-1]
    if not found:
        return None
    [row] = found
    run = run_row(row[:RUN_WIDTH])
    revision, wakes, breakers, attempt_status, mark, now = row[RUN_WIDTH:]
    moment = as_time(now) or timezone.now()
    if known is not None and known.revision == revision and not wakes:
        case = replace(known, run=run, now=moment, mark=int(mark or 0))
    else:
        case = _read(run_id, everything=everything)
        case = replace(case, now=moment, mark=int(mark or 0))
    if case.parent_id is not None:
        case.is_paused_by_parent, case.cut_off = _above(case)
    case.data_class = data_class_of(spec_of(case.version_id), parent=case.parent_id, run=case.id)
    return Loaded(
        case,
        tuple(int(text) for text in str(wakes or "").split(",") if text),
        bool(breakers),
        str(attempt_status or ""),
    )


def folded_steps(run_id: UUID) -> dict[str, StepState]:
    """The steps of finished items, which going forward does not read."""
    [rows] = together(connection, [(f"{_STEPS_FROM} AND s.folded ORDER BY s.id", [_id(run_id)])])
    return _steps(rows)


def seen_case(run_id: UUID) -> WorkflowState | None:
    """The run as it was committed last, without a lock: for looking ahead."""
    try:
        return _read(run_id, everything=False)
    except NotFound:
        return None


def _read(run_id: UUID, *, everything: bool) -> WorkflowState:
    """The run with its steps, of finished items too if it is being undone. Raises NotFound."""
    text, given = _STEPS_ALL if everything else _STEPS_IN_PLAY, [_id(run_id)]
    runs, rows = together(connection, [(_run_sql(connection.vendor), given), (text, given)])
    if not runs:
        raise NotFound
    [row] = runs
    mark, now = row[-2:]
    names = ("workflow" if name == "slug" else name for name in _CASE_NAMES)
    values = dict(zip(names, row[RUN_WIDTH:-2], strict=True))
    case = WorkflowState(
        run=run_row(row[:RUN_WIDTH]),
        now=as_time(now) or timezone.now(),
        mark=int(mark or 0),
        **{name: _plain(name, value) for name, value in values.items()},
    )
    if case.status in {"compensating", "compensation_failed"} and not everything:
        return _read(run_id, everything=True)
    case.steps = _steps(rows)
    return case


def _above(case: WorkflowState) -> tuple[bool, str]:
    """Whether a run that this one is part of rests, and why it may not go on for it any more."""
    [found] = together(connection, [(_ABOVE, [_id(case.parent_id)])])
    for status, run_status, epoch, present in found:
        if status in OVER:
            return False, "The run that it is part of has ended."
        if epoch != present:
            return False, "An agent that it works for has been stopped since."
        if status in RESTING or run_status != "open":
            return True, ""
    return False, ""


_ABOVE = (
    "WITH RECURSIVE above(run_id, parent_id, status, epoch) AS ("
    "SELECT run_id, parent_id, status, epoch FROM workflows_workflowrun WHERE run_id = %s "
    "UNION ALL SELECT w.run_id, w.parent_id, w.status, w.epoch "
    "FROM workflows_workflowrun w JOIN above ON w.run_id = above.parent_id) "
    "SELECT above.status, r.status, above.epoch, i.epoch FROM above "
    "JOIN actions_run r ON r.id = above.run_id JOIN agents_agentidentity i ON i.id = r.identity_id"
)


@cache
def _locked_sql(vendor: str, *, has_attempt: bool, wait: bool) -> str:
    """The run's row and what else a turn must know of others' rows.

    Rows that are locked are read as they are after the wait, all else as it was before: so the
    attempt is locked too, and a note that was left meanwhile stays for the next turn. Not FOR
    UPDATE: a note for a parent refers to its row, and must not wait for its worker.
    """
    on_postgresql = vendor == "postgresql"
    lock = f" FOR NO KEY UPDATE OF r, w{', t' if has_attempt else ''}"
    lock += "" if wait else " SKIP LOCKED"
    notes = "string_agg(k.id::text, ',')" if on_postgresql else "group_concat(k.id)"
    return (
        f"SELECT {RUN_COLUMNS}, w.revision, "  # noqa: S608 - names are ours
        f"(SELECT {notes} FROM workflows_wakeup k WHERE k.run_id = r.id), "
        "EXISTS (SELECT 1 FROM tools_breaker WHERE state = 'open'), "
        f"{'t.status' if has_attempt else 'NULL'}, "
        f"(SELECT mark FROM audit_generation WHERE id = 1), {_clock(vendor)} "
        "FROM actions_run r JOIN workflows_workflowrun w ON w.run_id = r.id "
        f"{'JOIN actions_attempt t ON t.id = %s ' if has_attempt else ''}"
        f"WHERE r.id = %s{lock if on_postgresql else ''}"
    )


@cache
def _run_sql(vendor: str) -> str:
    return (
        f"SELECT {RUN_COLUMNS}, {_CASE}, "  # noqa: S608 - names are ours
        f"(SELECT mark FROM audit_generation WHERE id = 1), {_clock(vendor)} "
        "FROM actions_run r JOIN workflows_workflowrun w ON w.run_id = r.id "
        "JOIN agents_agentidentity i ON i.id = r.identity_id "
        "JOIN workflows_workflow f ON f.id = w.workflow_id WHERE r.id = %s"
    )


def _clock(vendor: str) -> str:
    return "clock_timestamp()" if vendor == "postgresql" else "NULL"


_STEPS_FROM = (
    f"SELECT {', '.join(f's.{name}' for name in _STEP_NAMES)}, {_NEWS} "  # noqa: S608
    "FROM workflows_steprun s "
    "LEFT JOIN actions_action a ON a.id = s.action_id "
    "LEFT JOIN approvals_approvalrequest p ON p.id = s.approval_id "
    "LEFT JOIN workflows_workflowrun c ON c.run_id = s.child_id "
    "WHERE s.run_id = %s"
)
_STEPS_ALL = f"{_STEPS_FROM} ORDER BY s.id"
_STEPS_IN_PLAY = f"{_STEPS_FROM} AND NOT s.folded ORDER BY s.id"


def _steps(rows: Sequence[Any]) -> dict[str, StepState]:
    names = (*_STEP_NAMES, *_NEWS_NAMES)
    found = {}
    for row in rows:
        state = StepState(**{n: _plain(n, v) for n, v in zip(names, row, strict=True)})
        found[state.path] = state
    return found


def _id(value: UUID | None) -> Any:
    if value is None or connection.vendor == "postgresql":
        return value
    return value.hex


def _plain(name: str, value: Any) -> Any:
    """A column as either database gives it, as plain Python."""
    if value is None:
        return None
    if name in _TIMES:
        return as_time(value)
    if name in _IDS:
        return as_uuid(value)
    if name in _JSON:
        return as_json(value)
    return bool(value) if name in _FLAGS or name == "has_signal" else value


def as_time(value: Any) -> datetime | None:
    """A moment in UTC. SQLite keeps text."""
    if value is None:
        return None
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    found: datetime = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return found
