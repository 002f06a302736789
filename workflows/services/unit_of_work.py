"""One transaction's work on a run: what changes is gathered here and written in one go."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import connection

from actions import events as action_events
from actions.models import Action, Run
from actions.services.decisions import Batch, action_subject
from actions.services.runs import run_subject, withdraw_questions
from audit.bounded_values import event_value
from audit.event_types import EventType
from audit.models import Event
from audit.services.recorder import Subject, event_row
from common.actors import SYSTEM, Actor
from common.canonical import digest
from common.sql import Row, write
from common.task_queue import queue
from workflows import events
from workflows.definitions.spec import WorkflowSpec
from workflows.models import Signal, StepRun, WakeUp
from workflows.run_state import StepState, WorkflowState, index_of
from workflows.services import tables
from workflows.services.run_loader import Loaded, folded_steps

DRIVE = "workflows.drive"
MAX_ERROR_LENGTH = 500
# A claimed step's worker gives signs of life; without one for so long it counts as gone.
CHECK_AGAIN = timedelta(seconds=5)
# Where only news can move a run, somebody looks now and then all the same.
LOOK_AGAIN = timedelta(minutes=10)


@dataclass
class RunUnitOfWork:
    """The case under lock, and the rows to be written with it."""

    spec: WorkflowSpec
    loaded: Loaded
    lease: timedelta
    batch: Batch = field(default_factory=Batch)
    fresh: dict[str, StepState] = field(default_factory=dict)
    touched: dict[str, StepState] = field(default_factory=dict)
    consumed: list[tuple[UUID, str]] = field(default_factory=list)
    hints: int = 0
    withdraws: bool = False
    also_drive: list[UUID] = field(default_factory=list)
    actor: Actor = SYSTEM

    @property
    def case(self) -> WorkflowState:
        return self.loaded.case

    # -- steps ---------------------------------------------------------------------------------

    def add(self, path: str, kind: str, status: str, **given: Any) -> StepState:
        """A step that has begun just now."""
        now = self.case.now
        state = StepState(path=path, kind=kind, status=status, started_at=now, **given)
        self.case.steps[path] = state
        self.fresh[path] = state
        if state.scope and not state.compensates:
            self._count_item(state.scope)
        return state

    def _count_item(self, scope: str) -> None:
        """A step of this item has begun, so the item has."""
        outer = self.case.steps[scope.split("[", 1)[0]]
        outer.begun = max(outer.begun, index_of(scope) + 1)
        self.touch(outer)

    def begin(self, path: str, kind: str, status: str, **given: Any) -> StepState:
        """A step that begins now: for the first time, or anew by a person's order."""
        state = self.case.steps.get(path)
        if state is None:
            return self.add(path, kind, status, **given)
        state.status, state.due_at = status, None
        return self.touch(state)

    def touch(self, state: StepState) -> StepState:
        if state.path not in self.fresh:
            self.touched[state.path] = state
        return state

    def wait(self, state: StepState, waiting_for: StepRun.WaitsFor, *, until: Any = None) -> None:
        state.status, state.waiting_for, state.due_at = "waiting", str(waiting_for), until
        self.touch(state)
        self.note(
            events.STEP_WAITING,
            path=state.path,
            waiting_for=str(waiting_for),
            until=until.isoformat() if until else "",
        )

    def finish(
        self,
        state: StepState,
        status: str,
        *,
        output: Any = None,
        code: str = "",
        message: str = "",
        said: bool = False,
    ) -> None:
        """The step has come to an end. `said`: the log tells it already, as a tool's answer."""
        state.status, state.output = status, output
        state.waiting_for, state.due_at, state.ended_at = "", None, self.case.now
        state.error_code, state.error = code, message[:MAX_ERROR_LENGTH]
        self.case.finished_seq += 1
        state.finished_seq = self.case.finished_seq
        state.in_doubt = state.in_doubt and status != "succeeded"
        self.touch(state)
        if not said:
            self.note(
                events.STEP_FINISHED,
                path=state.path,
                status=status,
                error=code,
                output_digest=digest(output),
            )

    def add_labels(self, labels: Iterable[str]) -> None:
        """The run has touched what these labels stand for; rules may speak of them from now on."""
        run = self.case.run
        if set(labels) - set(run.labels):
            run.labels = tuple(sorted({*run.labels, *labels}))
            self.batch.runs[run.id] = run.totals()

    # -- the log -------------------------------------------------------------------------------

    def note(self, event: EventType, **details: Any) -> None:
        self.batch.events.append(
            event_row(
                event,
                actor=self.actor,
                subject=subject_of(self.case),
                run_id=self.case.id,
                at=self.case.now,
                details=details,
            )
        )

    # -- ends ----------------------------------------------------------------------------------

    def end(self, status: str, reason: str = "", ending: str = "") -> None:
        """The run ends, rests, or turns round to be undone."""
        case = self.case
        case.reason = reason[:MAX_ERROR_LENGTH] or case.reason
        case.status, case.next_wake_at = status, None
        if status == "compensating":
            case.ending = ending
            self.load_collapsed_steps()
            self._cancel_open()
            self.note(events.RUN_COMPENSATING, reason=case.reason)
        elif status == "halted":
            self.note(events.RUN_HALTED, reason=case.reason)
            self.withdraws = case.run.status != Run.Status.OPEN
        elif status == "compensation_failed":
            self.note(events.RUN_STUCK, step=case.reason)
        else:
            self._over(status)
        self.hints += 1 if status == "compensating" else 0

    def load_collapsed_steps(self) -> None:
        """Have the steps of finished items at hand too: their effects count, and are undone."""
        if any(step.foreach is not None for step in self.spec.steps.values()):
            self.case.steps = {**folded_steps(self.case.id), **self.case.steps}

    def recorded(self) -> int:
        """Count the events of the run that are in the log."""
        return Event.objects.recorded_of_run(self.case.id)

    def _cancel_open(self) -> None:
        """Cancel the steps that wait, and withdraw their approval requests."""
        for state in list(self.case.steps.values()):
            if state.is_open and not state.in_flight:
                self.finish(
                    state, "cancelled", code="cancelled", message="The run went no further."
                )
            elif self.case.is_over and state.is_open and state.in_doubt:
                self.leave_unknown(state)
        self.withdraws = True

    def leave_unknown(self, state: StepState) -> None:
        """It is not tried again to find out whether it took effect: people are asked."""
        state.status, state.waiting_for, state.due_at = "unknown", "", None
        state.ended_at = state.finished_seq = None
        if state.action_status not in {None, "unknown", "executing"}:
            self.set_action(state, "unknown")
        self.touch(state)

    def set_action(self, state: StepState, status: str) -> None:
        """Move the step's action, which nothing else in this turn writes."""
        Action.objects.filter(pk=str(state.action_id)).update(
            status=status, changed_at=self.case.now
        )
        state.action_status = status
        if status == Action.Status.UNKNOWN:
            self._note_unresolved(state)

    def _note_unresolved(self, state: StepState) -> None:
        """Record that a call counts as unknown again, like the first time."""
        action = Action.objects.only("tool", "attempts_count").get(pk=str(state.action_id))
        self.batch.events.append(
            event_row(
                action_events.CALL_UNRESOLVED,
                actor=self.actor,
                subject=action_subject(action),
                run_id=self.case.id,
                at=self.case.now,
                details={
                    "tool": action.tool,
                    "attempt": action.attempts_count,
                    "error": "in_doubt",
                },
            )
        )

    def _over(self, status: str) -> None:
        case = self.case
        if status != "succeeded":
            self._cancel_open()
            self.load_collapsed_steps()
        case.ended_at = case.now
        case.is_partial = self._is_partial()
        case.run.status, case.run.closed_at = Run.Status.CLOSED, case.now
        case.run.outcome = status
        self.note(
            events.RUN_ENDED,
            status=status,
            steps=case.steps_count,
            errors=case.errors_count,
            **event_value("output", case.output, self.data_class()),
        )
        self.batch.events.append(
            event_row(
                action_events.RUN_CLOSED,
                actor=SYSTEM,
                subject=run_subject(case.id),
                run_id=case.id,
                at=case.now,
                details={
                    "outcome": status,
                    "actions": case.run.actions,
                    "events": self.recorded(),
                },
            )
        )
        self.batch.runs[case.id] = case.run.totals()

    def data_class(self) -> str:
        """Of what the run makes, if the log is to keep it apart."""
        return self.case.data_class or self.spec.data_class

    def _is_partial(self) -> bool:
        """Whether something of a run that did not succeed stands, or may stand."""
        steps = self.case.steps.values()
        if self.case.status in {"failed", "cancelled"}:
            return any(self._has_effect(state) for state in steps)
        return self.case.status == "compensated" and any(state.in_doubt for state in steps)

    def _has_effect(self, state: StepState) -> bool:
        """Whether a step that changes something succeeded, or may have."""
        if state.compensates or not (
            state.status == "succeeded" or state.in_flight or state.in_doubt
        ):
            return False
        call = self.spec.step(state.path).call
        return state.child_id is not None or (call is not None and call.tool.access != "read")

    # -- writing -------------------------------------------------------------------------------

    def write(self) -> None:
        """Everything in one statement on PostgreSQL; part of the caller's transaction."""
        case = self.case
        case.revision += 1
        case.unknown_count = case.unknown_steps()
        if case.is_over and self.touched:  # what was under way when it ended has come in
            self.load_collapsed_steps()
            case.is_partial = self._is_partial()
        if self.hints:
            case.last_hint_at = case.now
        wakes: list[Row] = []
        tell_parent = case.parent_id is not None and case.status in TOLD
        if tell_parent:
            wakes.append({"run_id": case.parent_id, "created_at": case.now})
        write(
            connection,
            [
                *self.batch.writes(),
                (tables.STEPS, [_row(case, state) for state in self.fresh.values()]),
                (tables.STEP_MOVES, [_moves(state) for state in self.touched.values()]),
                (tables.RUN_MOVES, [_case_row(case)]),
                (tables.WAKES, wakes),
            ],
        )
        if self.withdraws:
            withdraw_questions(case.id, actor=SYSTEM, reason="The run went no further.")
        self._consume_wakeups()
        for _ in range(self.hints):
            queue.enqueue(DRIVE, str(case.id))
        for other in (*self.also_drive, *([case.parent_id] if tell_parent else [])):
            queue.enqueue(DRIVE, str(other))

    def _consume_wakeups(self) -> None:
        """Take away the notes that this transaction has looked at, and no others."""
        if self.loaded.wakes:
            WakeUp.objects.filter(pk__in=self.loaded.wakes).delete()
        for signal_id, path in self.consumed:
            Signal.objects.filter(pk=signal_id).update(consumed_by=path, consumed_at=self.case.now)


# A parent is told of these ends of a child.
TOLD = frozenset({"succeeded", "failed", "compensated", "cancelled", "compensation_failed"})


def subject_of(case: WorkflowState) -> Subject:
    return Subject("workflows.workflowrun", str(case.id), case.workflow)


def _moves(state: StepState) -> Row:
    return {name: getattr(state, name) for name in tables.STEP_MOVES.columns}


def _row(case: WorkflowState, state: StepState) -> Row:
    return {
        "run_id": case.id,
        **{name: getattr(state, name) for name in tables.STEP_COLUMNS if name != "run_id"},
    }


def _case_row(case: WorkflowState) -> Row:
    names: Sequence[str] = [name for name in tables.RUN_MOVES.columns if name != "run_id"]
    return {"run_id": case.id, **{name: getattr(case, name) for name in names}}
