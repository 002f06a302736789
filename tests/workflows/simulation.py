"""A run in memory, the laws that its moves keep to, and everything that can happen to it.

The moves of `plan` are made as the engine makes them: turns and what is kept of items are the
engine's own; what it asks of the database, of people and of other systems is answered here.
"""

import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

from actions.services.run_locks import LockedRun
from common.ids import uuid7
from tests.workflows.definitions import WORLD
from workflows.definitions.compiling import compile_source
from workflows.definitions.source import SourceText
from workflows.definitions.spec import StepSpec, WorkflowSpec
from workflows.models import StepRun
from workflows.planning import Plan, StepStart, plan
from workflows.run_state import StepState, WorkflowState, forward_path
from workflows.services import step_handlers, tick
from workflows.services.call_outcomes import MAX_CRASHES, MAX_PROBES, PROBE_AFTER
from workflows.services.preparation import required_preparation
from workflows.services.recovery import resume_steps, start_compensation
from workflows.services.run_loader import Loaded
from workflows.services.unit_of_work import RunUnitOfWork

Decision = Literal["allowed", "asked", "denied", "halted", "held_back", "not_proposed"]
Answer = Literal["succeeded", "refused", "not_sent", "unanswered"]
START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
LEASE = timedelta(seconds=30)
HEAD = {"workflow": "work", "title": "Work", "schema": 1, "roles": ["desk"]}
For = StepRun.WaitsFor
# What is not gone on with before its time.
NOT_BEFORE = {("retry", ""), ("waiting", "breaker")}
# How the reasons begin of ends that do not wait for what is under way.
STOPS = ("The time limit", "Stopped:", "The run has taken all")


def compiled(plain: Mapping[str, Any]) -> WorkflowSpec:
    """A definition as it would be published."""
    return compile_source(SourceText({**HEAD, **plain}, {}), WORLD)


def new_case(spec: WorkflowSpec, now: datetime = START) -> WorkflowState:
    """A run that was started just now."""
    nothing = Decimal(0)
    run = LockedRun(uuid7(), 1, "open", "somebody", "", (), 0, 0, nothing, None, None)
    return WorkflowState(
        run=run,
        client_id="tilda",
        environment="prod",
        workflow=spec.slug,
        version_id=1,
        status="running",
        inputs={},
        scope="",
        epoch=0,
        parent_id=None,
        depth=0,
        deadline_at=now + spec.limits.deadline,
        started_at=now,
        now=now,
        mark=1,
        next_wake_at=now,
    )


@dataclass
class InMemory(RunUnitOfWork):
    """A turn that reads and writes nothing but what it is given."""

    rows: dict[str, StepState] = field(default_factory=dict)

    def load_collapsed_steps(self) -> None:
        self.case.steps = {**self.rows, **self.case.steps}

    def recorded(self) -> int:
        return 0

    def set_action(self, state: StepState, status: str) -> None:
        state.action_status = status


class Simulation:
    """One run with the world around it; `rows` are all its steps, `case.steps` those in play."""

    def __init__(self, spec: WorkflowSpec) -> None:
        self.spec = spec
        self.now = START
        self.case = new_case(spec)
        self.rows: dict[str, StepState] = {}
        self.signals = 0
        self.has_other_signals = False

    def advance(self) -> Plan:
        """The moves from here, which are the same each time and leave the case as it was."""
        before = pickle.dumps(self.case)
        moves = plan(self.spec, self.case, self.now)
        assert moves == plan(self.spec, self.case, self.now)
        assert pickle.dumps(self.case) == before
        self.seen(moves)
        return moves

    def seen(self, moves: Plan) -> None:
        """For whoever watches the moves."""

    # -- what workers do ---------------------------------------------------------------------

    def take_turn(
        self, decision: Decision = "allowed", *, pick: int = 0, claims: bool = True
    ) -> bool:
        """Prepare a call that comes next, move as far as it goes, and claim the call if it still
        comes next; whether there is more to do.

        `decision` is what policy says of it. Each worker may have prepared another one: `pick`.
        """
        turn = self._loaded()
        looked = self._looked(pick) if claims else None
        moves = self._moved_on(turn)
        path = self._claimed(turn, moves, decision, looked)
        if path is not None:
            moves = self._after(turn, moves, path)
        more = tick._calls_left(turn, moves)
        tick._set_alarm(turn, moves, has_more=more > 0, claimed=None)
        self._written(turn)
        return path is not None or more > 0

    def goes_on(self) -> dict[str, str]:
        """Turns are taken as long as there are calls to make; how the steps stand then."""
        for _ in range(tick.MAX_PASSES):
            if not self.take_turn():
                break
        return {path: state.status for path, state in self.rows.items()}

    def turn(self) -> RunUnitOfWork:
        return InMemory(self.spec, Loaded(self.case, (), False, ""), LEASE, rows=self.rows)

    def _loaded(self) -> RunUnitOfWork:
        """The case as it is read under lock: finished items only where undoing needs them."""
        everything = self.case.status in {"compensating", "compensation_failed"}
        self.case.now = self.now
        self.case.steps = {p: s for p, s in self.rows.items() if everything or not s.folded}
        for state in self.case.steps.values():
            has_any = self.signals > 0 or self.has_other_signals
            state.has_signal = state.waiting_for == "signal" and has_any
        return self.turn()

    def _written(self, turn: RunUnitOfWork) -> None:
        self.rows.update(self.case.steps)
        if turn.withdraws:
            for state in self.rows.values():
                if state.action_status == "waiting":
                    state.action_status = "withdrawn"

    def _moved_on(self, turn: RunUnitOfWork) -> Plan:
        for _ in range(tick.MAX_PASSES):
            moves = self.advance()
            if moves.end is not None:
                turn.end(moves.end.status, moves.end.reason, moves.end.ending)
            elif not self._pass(turn, moves):
                return moves
        message = "The run moves for ever."
        raise AssertionError(message)

    def _after(self, turn: RunUnitOfWork, moves: Plan, path: str) -> Plan:
        state = self.case.steps[path]
        if state.status != "running" or state.scope:
            return self._moved_on(turn)
        moves.begin = [one for one in moves.begin if one.path != path]
        moves.go_on = [other for other in moves.go_on if other != path]
        return moves

    # -- moves that need no call ---------------------------------------------------------------

    def _pass(self, turn: RunUnitOfWork, moves: Plan) -> bool:
        steps = self.case.steps
        for one in moves.skip:
            turn.finish(turn.begin(one.path, one.step.kind, "skipped", scope=one.scope), "skipped")
        for failure in moves.fail:
            state = steps.get(failure.path) or turn.add(
                failure.path, failure.kind, "failed", scope=failure.scope
            )
            turn.finish(state, "failed", code=failure.code, message=failure.message)
        for scope, good in moves.fold.items():
            step_handlers.fold_item(turn, scope, good=good)
        for path in moves.settle:
            total, failed = steps[path].total, steps[path].failures
            turn.finish(steps[path], "succeeded", output={"total": total, "failed": failed})
        moved = bool(moves.skip or moves.fail or moves.fold or moves.settle)
        return self._open_ones(turn, moves) or self._new_ones(turn, moves) or moved

    def _open_ones(self, turn: RunUnitOfWork, moves: Plan) -> bool:
        moved = False
        for path in moves.go_on:
            state, step = self.case.steps[path], self.spec.step(forward_path(path))
            if required_preparation(state, step) is None:
                before = (state.status, state.due_at, state.waiting_for)
                self._go_on(turn, state, step)
                moved = moved or before != (state.status, state.due_at, state.waiting_for)
        return moved

    def _new_ones(self, turn: RunUnitOfWork, moves: Plan) -> bool:
        new = [
            one
            for one in moves.begin
            if one.step.call_of(compensates=bool(one.compensates)) is None
        ]
        for one in new:
            self._begin(turn, one)
        return bool(new)

    def _begin(self, turn: RunUnitOfWork, one: StepStart) -> None:
        step = one.step
        if step.kind == "foreach" or (step.wait is not None and not step.wait.signal):
            step_handlers.begin(turn, one)
            return
        state = turn.begin(
            one.path, step.kind, "waiting", scope=one.scope, compensates=one.compensates
        )
        self.case.steps_count += 0 if one.compensates else 1
        if step.kind == "approval":
            state.approval_id, state.approval_status = uuid7(), "pending"
            turn.wait(state, For.APPROVAL)
        elif step.wait is not None:
            turn.wait(
                state, For.SIGNAL, until=self.now + (step.wait.timeout or step_handlers.MAX_WAIT)
            )
            self._took_signal(turn, state)
        else:
            begun = self.case.steps.get(one.compensates)
            state.child_id = begun.child_id if begun else uuid7()
            state.child_status = "compensating" if begun else "running"
            turn.wait(state, For.CHILD)

    def _go_on(self, turn: RunUnitOfWork, state: StepState, step: StepSpec) -> None:
        if step.call_of(compensates=bool(state.compensates)) is not None:
            self._news_of_call(turn, state, step)
        elif step.kind == "approval":
            self._answered(turn, state, step)
        elif step.wait is not None:
            self._waited(turn, state, step)
        else:
            good = state.child_status == ("compensated" if state.compensates else "succeeded")
            turn.finish(state, "succeeded" if good else "failed")

    def _answered(self, turn: RunUnitOfWork, state: StepState, step: StepSpec) -> None:
        on_expiry = step.approval.on_expiry if step.approval else "fail"
        if state.approval_status == "approved":
            turn.finish(state, "succeeded", output={"approved": True})
        elif state.approval_status != "expired":
            turn.finish(state, "failed", code="rejected_by_people")
        elif on_expiry == "continue":
            turn.finish(state, "succeeded", output={"approved": False})
        else:
            turn.finish(state, "expired", code="not_answered")
            if on_expiry == "halt":
                turn.end("halted", f"Nobody answered {state.path} in time.")

    def _waited(self, turn: RunUnitOfWork, state: StepState, step: StepSpec) -> None:
        if step.wait is None or not step.wait.signal:
            turn.finish(state, "succeeded")
        elif self._took_signal(turn, state):
            return
        elif state.due_at is not None and state.due_at <= self.now:
            goes_on = step.wait.on_timeout == "continue"
            turn.finish(state, "succeeded" if goes_on else "expired")
        else:
            state.has_signal = False

    def _took_signal(self, turn: RunUnitOfWork, state: StepState) -> bool:
        if not self.signals:
            return False
        self.signals -= 1
        turn.finish(state, "succeeded", output={"ok": True})
        return True

    def _news_of_call(self, turn: RunUnitOfWork, state: StepState, step: StepSpec) -> None:
        """What follows from how the action stands, if anything does."""
        ends = {"rejected": "failed", "withdrawn": "cancelled", "halted": "denied"}
        status = state.action_status or ""
        if status in {"succeeded", "failed", "denied", "expired", *ends}:
            state.in_doubt = state.in_doubt and status != "failed"
            turn.finish(state, ends.get(status, status), output={"id": state.path})
        elif status == "unknown" and state.status == "running":
            self._crashed(turn, state, step)

    # -- calls ---------------------------------------------------------------------------------

    def _looked(self, pick: int) -> str | None:
        moves = self.advance()
        calls = self._calls(moves)
        return list(calls)[pick % len(calls)] if calls and moves.end is None else None

    def _claimed(
        self, turn: RunUnitOfWork, moves: Plan, decision: Decision, path: str | None
    ) -> str | None:
        calls = self._calls(moves)
        if path is None or path not in calls or self.case.is_resting:
            return None
        one, state = calls[path], self.case.steps.get(path)
        if state is not None and required_preparation(state, self._step(path)) == "probe":
            self._probed(turn, state, decision)
            return path
        if one is not None:
            state = turn.begin(
                path, one.step.kind, "running", scope=one.scope, compensates=one.compensates
            )
        assert state is not None
        self._decided(turn, turn.touch(state), decision)
        return path

    def _calls(self, moves: Plan) -> dict[str, StepStart | None]:
        """The calls that could be made, by path: of open steps, then of new ones."""
        calls: dict[str, StepStart | None] = {
            path: None
            for path in moves.go_on
            if required_preparation(self.case.steps[path], self._step(path)) is not None
        }
        new = (one for one in moves.begin if one.step.call_of(compensates=bool(one.compensates)))
        return calls | {one.path: one for one in new}

    def _step(self, path: str) -> StepSpec:
        return self.spec.step(forward_path(path))

    def _decided(self, turn: RunUnitOfWork, state: StepState, decision: Decision) -> None:
        if decision == "not_proposed":
            turn.finish(state, "failed", code="expression_failed")
            return
        if decision == "held_back":
            turn.wait(state, For.BREAKER, until=self.now + LEASE)
            return
        self.case.steps_count += 1 if state.action_id is None else 0
        self.case.run.actions += 1 if state.action_id is None else 0
        state.attempts += 1
        state.action_id = state.action_id or uuid7()
        if decision == "allowed":
            state.status, state.waiting_for, state.due_at = "running", "", None
            state.action_status = "executing"
        elif decision == "asked":
            state.action_status = "waiting"
            turn.wait(state, For.APPROVAL)
        else:
            state.action_status = decision
            self.case.run.denials += 1
            turn.finish(state, "denied", code=decision)
            if decision == "halted":
                self.case.run.status = "halted"

    def _probed(self, turn: RunUnitOfWork, state: StepState, decision: Decision) -> None:
        """The system is asked by key: it was done, it was not, or it cannot say."""
        if decision == "allowed":
            state.action_status = "succeeded"
            turn.finish(state, "succeeded", output={"id": state.path})
        elif decision == "denied":
            state.action_status, state.status, state.due_at = "ready", "retry", self.now
            state.in_doubt = False
        else:
            state.done += 1
            wait = PROBE_AFTER * 2**state.done
            state.due_at = self.now + wait if state.done < MAX_PROBES else None
            turn.touch(state)

    def answered(self, path: str, answer: Answer) -> None:
        """A call under way comes back to its worker."""
        turn, state, step = self._loaded(), self.rows[path], self._step(path)
        if answer == "succeeded":
            state.action_status = "succeeded"
            turn.finish(state, "succeeded", output={"id": path}, said=True)
        else:
            self.case.errors_count += 1
            state.error_code = answer
            is_repeated = step.class_of(compensates=bool(state.compensates)) == "retry"
            again = answer == "not_sent" or (answer == "unanswered" and is_repeated)
            state.in_doubt = answer == "unanswered" or (state.in_doubt and answer == "not_sent")
            if again and state.attempts < step.retry.max_attempts and not self.case.is_over:
                self._try_later(turn, state, step, failures=state.attempts)
            elif state.in_doubt:
                state.action_status = "unknown"
                self._ask_what_happened(turn, state, step)
            else:
                state.action_status = "failed"
                turn.finish(state, "failed", code=answer)
        self._written(turn)

    def _crashed(self, turn: RunUnitOfWork, state: StepState, step: StepSpec) -> None:
        state.crashes += 1
        state.in_doubt = True
        self.case.errors_count += 1
        if step.class_of(compensates=bool(state.compensates)) != "retry" or self.case.is_over:
            self._ask_what_happened(turn, state, step)
        elif state.crashes >= MAX_CRASHES:
            state.action_status = "failed"
            turn.finish(state, "failed", code="max_crashes_exceeded")
        else:
            self._try_later(turn, state, step, failures=state.crashes)

    def _try_later(
        self, turn: RunUnitOfWork, state: StepState, step: StepSpec, *, failures: int
    ) -> None:
        state.status, state.waiting_for, state.action_status = "retry", "", "ready"
        state.due_at = self.now + timedelta(seconds=step.retry.bound(max(failures, 1)))
        turn.touch(state)

    def _ask_what_happened(self, turn: RunUnitOfWork, state: StepState, step: StepSpec) -> None:
        state.status, state.waiting_for, state.done, state.in_doubt = "unknown", "", 0, True
        is_probed = (
            step.class_of(compensates=bool(state.compensates)) == "probe" and not self.case.is_over
        )
        call = step.call_of(compensates=bool(state.compensates))
        seconds = call.tool.timeout_seconds if call else 0.0
        state.due_at = self.now + timedelta(seconds=seconds) + PROBE_AFTER if is_probed else None
        turn.touch(state)

    # -- what happens around it ----------------------------------------------------------------

    def under_way(self) -> list[StepState]:
        """Calls that are being made."""
        return self._with_action("executing")

    def unresolved(self) -> list[StepState]:
        """Calls of which nobody knows whether they took effect."""
        return self._with_action("unknown")

    def questions(self) -> list[StepState]:
        """What people are asked about: calls, and steps that ask by themselves."""
        asking = [s for s in self.rows.values() if s.approval_status == "pending" and s.is_open]
        return [*self._with_action("waiting"), *asking]

    def children(self) -> list[StepState]:
        """Steps that wait for another run."""
        return [s for s in self.rows.values() if s.is_open and s.waiting_for == "child"]

    def _with_action(self, status: str) -> list[StepState]:
        return [s for s in self.rows.values() if s.action_status == status and s.is_open]

    def decided_by_people(self, state: StepState, answer: str) -> None:
        """`approved`, `rejected` or `expired`."""
        if state.action_status == "waiting":
            state.action_status = "ready" if answer == "approved" else answer
        else:
            state.approval_status = answer

    def child_ended(self, state: StepState, *, good: bool) -> None:
        if state.compensates:
            state.child_status = "compensated" if good else "compensation_failed"
        else:
            state.child_status = "succeeded" if good else "failed"

    def all_answers_well(self) -> None:
        for state in self.unresolved():
            state.action_status = "succeeded"
        for state in self.questions():
            self.decided_by_people(state, "approved")
        for state in self.children():
            self.child_ended(state, good=True)
        for state in self.under_way():
            self.answered(state.path, "succeeded")

    def cancelled(self) -> None:
        """A person ends the run where it is, and the runs within it."""
        turn = self._all_loaded()
        for state in self.children():
            turn.finish(state, "cancelled")
        turn.end("cancelled", "Not needed.")
        self._written(turn)

    def undone(self) -> None:
        """A person has the run take back what it did, though it may have ended."""
        turn = self._all_loaded()
        self.case.run.status, self.case.ended_at = "open", None
        start_compensation(turn, "A mistake.")
        self._go(turn)

    def resumed(self) -> None:
        """A person has the run go on from where it stopped."""
        turn = self._all_loaded()
        self.case.run.status, self.case.ended_at = "open", None
        if self.case.status == "compensation_failed":
            start_compensation(turn, "Once more.")
        else:
            # As `resume_steps` does, but for the row.
            self.case.deadline_at = max(self.case.deadline_at, self.now + timedelta(days=1))
            resume_steps(turn)
        self._go(turn)

    def _go(self, turn: RunUnitOfWork) -> None:
        self.case.next_wake_at = self.now
        self._written(turn)

    def _all_loaded(self) -> RunUnitOfWork:
        turn = self._loaded()
        self.case.steps = dict(self.rows)
        return turn

    def told(self) -> dict[str, tuple[Any, ...]]:
        """How the run and its steps stand."""
        steps = {
            s.path: (s.status, s.waiting_for, s.due_at, s.attempts) for s in self.rows.values()
        }
        return {"run": (self.case.status, self.case.next_wake_at), **steps}

    def next_time(self) -> datetime:
        """When the next of the things that are waited for is due, if any is."""
        due = [at for at in self._due_times() if at > self.now]
        return min(due, default=self.now + timedelta(hours=1))

    def _due_times(self) -> Iterator[datetime]:
        for state in self.rows.values():
            if state.due_at is not None and state.is_open:
                yield state.due_at
