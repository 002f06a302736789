"""A run in memory, the laws that its moves keep to, and everything that can happen to it.

The moves of `advance` are made as the engine makes them: turns and what is kept of items are the
engine's own; what it asks of the database, of people and of other systems is answered here.
"""

import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from actions.services.locking import RunRow
from common.ids import uuid7
from tests.workflows.definitions import WORLD
from workflows.advancing import Begin, Moves, advance
from workflows.definitions.compiling import compile_source
from workflows.definitions.source import Source
from workflows.definitions.spec import StepSpec, WorkflowSpec
from workflows.models import StepRun, WorkflowRun
from workflows.services import kinds, taking
from workflows.services.answers import MAX_CRASHES, MAX_PROBES, PROBE_AFTER
from workflows.services.loading import Loaded
from workflows.services.looking import call_of, needs_look
from workflows.services.turns import Turn
from workflows.states import BROKEN, DONE, Case, StepState, forward_path, index_of

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
    return compile_source(Source({**HEAD, **plain}, {}), WORLD)


def new_case(spec: WorkflowSpec, now: datetime = START) -> Case:
    """A run that was started just now."""
    nothing = Decimal(0)
    run = RunRow(uuid7(), 1, "open", "somebody", "", (), 0, 0, nothing, None, None)
    return Case(
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
        wake_at=now,
    )


class Simulation:
    """One run with the world around it; `rows` are all its steps, `case.steps` those in play."""

    def __init__(self, spec: WorkflowSpec) -> None:
        self.spec = spec
        self.now = START
        self.case = new_case(spec)
        self.rows: dict[str, StepState] = {}
        self.signals = 0
        self.has_other_signals = False

    def advance(self) -> Moves:
        """The moves from here, which are the same each time and leave the case as it was."""
        before = pickle.dumps(self.case)
        moves = advance(self.spec, self.case, self.now)
        assert moves == advance(self.spec, self.case, self.now)
        assert pickle.dumps(self.case) == before
        self.seen(moves)
        return moves

    def seen(self, moves: Moves) -> None:
        """For whoever watches the moves."""

    # -- what drivers do ---------------------------------------------------------------------

    def take_turn(
        self, decision: Decision = "allowed", *, pick: int = 0, claims: bool = True
    ) -> bool:
        """Prepare a call that comes next, move as far as it goes, and claim the call if it still
        comes next; whether there is more to do.

        `decision` is what policy says of it. Each driver may have prepared another one: `pick`.
        """
        turn = self._loaded()
        looked = self._looked(pick) if claims else None
        moves = self._moved_on(turn)
        path = self._claimed(turn, moves, decision, looked)
        if path is not None:
            moves = self._after(turn, moves, path)
        more = taking._calls_left(turn, moves)
        taking._set_alarm(turn, moves, has_more=more > 0, claimed=None)
        self._written(turn)
        return path is not None or more > 0

    def goes_on(self) -> dict[str, str]:
        """Turns are taken as long as there are calls to make; how the steps stand then."""
        for _ in range(taking.MAX_PASSES):
            if not self.take_turn():
                break
        return {path: state.status for path, state in self.rows.items()}

    def turn(self) -> Turn:
        return Turn(self.spec, Loaded(self.case, (), False, ""), LEASE)

    def _loaded(self) -> Turn:
        """The case as it is read under lock: finished items only where undoing needs them."""
        everything = self.case.status in {"compensating", "compensation_failed"}
        self.case.now = self.now
        self.case.steps = {p: s for p, s in self.rows.items() if everything or not s.folded}
        for state in self.case.steps.values():
            has_any = self.signals > 0 or self.has_other_signals
            state.has_signal = state.waits_for == "signal" and has_any
        return self.turn()

    def _written(self, turn: Turn) -> None:
        self.rows.update(self.case.steps)
        if turn.withdraws:
            for state in self.rows.values():
                if state.action_status == "waiting":
                    state.action_status = "withdrawn"

    def _moved_on(self, turn: Turn) -> Moves:
        for _ in range(taking.MAX_PASSES):
            moves = self.advance()
            if moves.end is not None:
                turn.end(moves.end.status, moves.end.reason, moves.end.ending)
                if self.case.status != "compensating":
                    return Moves()
                self.rows.update(self.case.steps)
                self.case.steps = dict(self.rows)
            elif not self._pass(turn, moves):
                return moves
        message = "The run moves for ever."
        raise AssertionError(message)

    def _after(self, turn: Turn, moves: Moves, path: str) -> Moves:
        state = self.case.steps[path]
        if state.status != "running" or state.scope:
            return self._moved_on(turn)
        moves.begin = [one for one in moves.begin if one.path != path]
        moves.go_on = [other for other in moves.go_on if other != path]
        return moves

    # -- moves that need no call ---------------------------------------------------------------

    def _pass(self, turn: Turn, moves: Moves) -> bool:
        steps = self.case.steps
        for one in moves.skip:
            turn.finish(turn.add(one.path, one.step.kind, "skipped", scope=one.scope), "skipped")
        for failure in moves.fail:
            state = steps.get(failure.path) or turn.add(
                failure.path, failure.kind, "failed", scope=failure.scope
            )
            turn.finish(state, "failed", code=failure.code, message=failure.message)
        for scope, good in moves.fold.items():
            kinds.fold_item(turn, scope, good=good)
        for path in moves.settle:
            total, failed = steps[path].total, steps[path].failures
            turn.finish(steps[path], "succeeded", output={"total": total, "failed": failed})
        moved = bool(moves.skip or moves.fail or moves.fold or moves.settle)
        return self._open_ones(turn, moves) or self._new_ones(turn, moves) or moved

    def _open_ones(self, turn: Turn, moves: Moves) -> bool:
        moved = False
        for path in moves.go_on:
            state, step = self.case.steps[path], self.spec.step(forward_path(path))
            if needs_look(state, step) is None:
                before = (state.status, state.due_at, state.waits_for)
                self._go_on(turn, state, step)
                moved = moved or before != (state.status, state.due_at, state.waits_for)
        return moved

    def _new_ones(self, turn: Turn, moves: Moves) -> bool:
        new = [one for one in moves.begin if call_of(one.step, undoes=bool(one.undoes)) is None]
        for one in new:
            self._begin(turn, one)
        return bool(new)

    def _begin(self, turn: Turn, one: Begin) -> None:
        step = one.step
        if step.kind == "foreach" or (step.wait is not None and not step.wait.signal):
            kinds.begin(turn, one)
            return
        state = turn.add(one.path, step.kind, "waiting", scope=one.scope, undoes=one.undoes)
        self.case.steps_count += 0 if one.undoes else 1
        if step.kind == "approval":
            state.approval_id, state.approval_status = uuid7(), "pending"
            turn.wait(state, For.APPROVAL)
        elif step.wait is not None:
            turn.wait(state, For.SIGNAL, until=self.now + (step.wait.timeout or kinds.MAX_WAIT))
            self._took_signal(turn, state)
        else:
            begun = self.case.steps.get(one.undoes)
            state.child_id = begun.child_id if begun else uuid7()
            state.child_status = "compensating" if begun else "running"
            turn.wait(state, For.CHILD)

    def _go_on(self, turn: Turn, state: StepState, step: StepSpec) -> None:
        if call_of(step, undoes=bool(state.undoes)) is not None:
            self._news_of_call(turn, state, step)
        elif step.kind == "approval":
            self._answered(turn, state, step)
        elif step.wait is not None:
            self._waited(turn, state, step)
        else:
            good = state.child_status == ("compensated" if state.undoes else "succeeded")
            turn.finish(state, "succeeded" if good else "failed")

    def _answered(self, turn: Turn, state: StepState, step: StepSpec) -> None:
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

    def _waited(self, turn: Turn, state: StepState, step: StepSpec) -> None:
        if step.wait is None or not step.wait.signal:
            turn.finish(state, "succeeded")
        elif self._took_signal(turn, state):
            return
        elif state.due_at is not None and state.due_at <= self.now:
            goes_on = step.wait.on_timeout == "continue"
            turn.finish(state, "succeeded" if goes_on else "expired")
        else:
            state.has_signal = False

    def _took_signal(self, turn: Turn, state: StepState) -> bool:
        if not self.signals:
            return False
        self.signals -= 1
        turn.finish(state, "succeeded", output={"ok": True})
        return True

    def _news_of_call(self, turn: Turn, state: StepState, step: StepSpec) -> None:
        """What follows from how the action stands, if anything does."""
        ends = {"rejected": "failed", "withdrawn": "cancelled", "halted": "denied"}
        status = state.action_status or ""
        if status in {"succeeded", "failed", "denied", "expired", *ends}:
            turn.finish(state, ends.get(status, status), output={"id": state.path})
        elif status == "unknown" and state.status == "running":
            self._crashed(turn, state, step)

    # -- calls ---------------------------------------------------------------------------------

    def _looked(self, pick: int) -> str | None:
        moves = self.advance()
        calls = self._calls(moves)
        return list(calls)[pick % len(calls)] if calls and moves.end is None else None

    def _claimed(
        self, turn: Turn, moves: Moves, decision: Decision, path: str | None
    ) -> str | None:
        calls = self._calls(moves)
        if path is None or path not in calls or self.case.is_resting:
            return None
        one, state = calls[path], self.case.steps.get(path)
        if state is not None and needs_look(state, self._step(path)) == "probe":
            self._probed(turn, state, decision)
            return path
        if state is None and one is not None:
            state = turn.add(path, one.step.kind, "running", scope=one.scope, undoes=one.undoes)
        assert state is not None
        self._decided(turn, turn.touch(state), decision)
        return path

    def _calls(self, moves: Moves) -> dict[str, Begin | None]:
        """The calls that could be made, by path: of open steps, then of new ones."""
        calls: dict[str, Begin | None] = {
            path: None
            for path in moves.go_on
            if needs_look(self.case.steps[path], self._step(path)) is not None
        }
        new = (one for one in moves.begin if call_of(one.step, undoes=bool(one.undoes)))
        return calls | {one.path: one for one in new}

    def _step(self, path: str) -> StepSpec:
        return self.spec.step(forward_path(path))

    def _decided(self, turn: Turn, state: StepState, decision: Decision) -> None:
        if decision == "not_proposed":
            turn.finish(state, "failed", code="expression_failed")
            return
        if decision == "held_back":
            turn.wait(state, For.BREAKER, until=self.now + LEASE)
            return
        self.case.steps_count += 1 if state.action_id is None else 0
        self.case.run.actions += 1 if state.action_id is None else 0
        state.tries += 1
        state.action_id = state.action_id or uuid7()
        if decision == "allowed":
            state.status, state.waits_for, state.due_at = "running", "", None
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

    def _probed(self, turn: Turn, state: StepState, decision: Decision) -> None:
        """The system is asked by key: it was done, it was not, or it cannot say."""
        if decision == "allowed":
            state.action_status = "succeeded"
            turn.finish(state, "succeeded", output={"id": state.path})
        elif decision == "denied":
            state.action_status, state.status, state.due_at = "ready", "retry", self.now
        else:
            state.done += 1
            wait = PROBE_AFTER * 2**state.done
            state.due_at = self.now + wait if state.done < MAX_PROBES else None
            turn.touch(state)

    def answered(self, path: str, answer: Answer) -> None:
        """A call under way comes back to its driver."""
        turn, state, step = self._loaded(), self.rows[path], self._step(path)
        if answer == "succeeded":
            state.action_status = "succeeded"
            turn.finish(state, "succeeded", output={"id": path}, said=True)
        else:
            self.case.errors_count += 1
            state.error_code = answer
            again = answer == "not_sent" or (answer == "unanswered" and step.on_unknown == "retry")
            if again and state.tries < step.retry.max_attempts:
                self._try_later(turn, state, step, failures=state.tries)
            elif answer == "unanswered":
                state.action_status = "unknown"
                self._ask_what_happened(turn, state, step)
            else:
                state.action_status = "failed"
                turn.finish(state, "failed", code=answer)
        self._written(turn)

    def _crashed(self, turn: Turn, state: StepState, step: StepSpec) -> None:
        state.crashes += 1
        self.case.errors_count += 1
        if step.on_unknown != "retry":
            self._ask_what_happened(turn, state, step)
        elif state.crashes >= MAX_CRASHES:
            state.action_status = "failed"
            turn.finish(state, "failed", code="poison")
        else:
            self._try_later(turn, state, step, failures=state.crashes)

    def _try_later(self, turn: Turn, state: StepState, step: StepSpec, *, failures: int) -> None:
        state.status, state.waits_for, state.action_status = "retry", "", "ready"
        state.due_at = self.now + timedelta(seconds=step.retry.bound(max(failures, 1)))
        turn.touch(state)

    def _ask_what_happened(self, turn: Turn, state: StepState, step: StepSpec) -> None:
        state.status, state.waits_for, state.done = "unknown", "", 0
        is_probed = step.on_unknown == "probe" and not state.undoes
        seconds = step.call.tool.timeout_seconds if step.call else 0.0
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
        return [s for s in self.rows.values() if s.is_open and s.waits_for == "child"]

    def _with_action(self, status: str) -> list[StepState]:
        return [s for s in self.rows.values() if s.action_status == status and s.is_open]

    def decided_by_people(self, state: StepState, answer: str) -> None:
        """`approved`, `rejected` or `expired`."""
        if state.action_status == "waiting":
            state.action_status = "ready" if answer == "approved" else answer
        else:
            state.approval_status = answer

    def child_ended(self, state: StepState, *, good: bool) -> None:
        if state.undoes:
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
        turn.end("compensating", "A mistake.", "compensated")
        self._written(turn)

    def _all_loaded(self) -> Turn:
        turn = self._loaded()
        self.case.steps = dict(self.rows)
        return turn

    def told(self) -> dict[str, tuple[Any, ...]]:
        """How the run and its steps stand."""
        steps = {s.path: (s.status, s.waits_for, s.due_at, s.tries) for s in self.rows.values()}
        return {"run": (self.case.status, self.case.wake_at), **steps}

    def next_time(self) -> datetime:
        """When the next of the things that are waited for is due, if any is."""
        due = [at for at in self._due_times() if at > self.now]
        return min(due, default=self.now + timedelta(hours=1))

    def _due_times(self) -> Iterator[datetime]:
        for state in self.rows.values():
            if state.due_at is not None and state.is_open:
                yield state.due_at


# -- the laws --------------------------------------------------------------------------------------


class Watched(Simulation):
    """A run whose every move is held against the laws."""

    def seen(self, moves: Moves) -> None:
        if self.case.is_resting:
            assert moves == Moves(), "a run that rests moved"
            return
        self._nothing_moves_twice(moves)
        self._needs_are_done(moves)
        self._items_keep_to_their_limit(moves)
        self._items_are_written_down(moves)
        if self._is_broken() and self.case.status != "compensating":
            assert not moves.begin, "something began after a step had broken"
            assert not moves.skip
        if self.case.status == "compensating":
            self._one_is_undone_at_a_time(moves)
        elif moves.end is None:
            assert moves.due_at is not None
            assert moves.due_at <= self.case.deadline_at
        if moves.end is not None:
            self._the_end_is_right(moves.end.status, moves.end.reason)

    @property
    def steps(self) -> Iterable[StepState]:
        return self.case.steps.values()

    def _is_broken(self) -> bool:
        return any(s.status in BROKEN and not s.scope and not s.undoes for s in self.steps)

    def _nothing_moves_twice(self, moves: Moves) -> None:
        new = [one.path for one in (*moves.begin, *moves.skip)]
        assert not set(new) & set(self.case.steps), "a step began again"
        assert len({*new, *moves.go_on}) == len(new) + len(moves.go_on)
        for state in (self.case.steps[path] for path in moves.go_on):
            assert state.is_open
            if state.action_status == "ready" and (state.status, state.waits_for) in NOT_BEFORE:
                assert state.due_at is not None
                assert state.due_at <= self.now, f"{state.path} did not wait for its time"

    def _needs_are_done(self, moves: Moves) -> None:
        done = {s.path for s in self.steps if s.status in DONE}
        done |= {one.path for one in moves.skip}
        for one in (*moves.begin, *moves.skip):
            if one.undoes:
                continue
            before: Iterable[str] = one.step.needs
            if one.scope:
                foreach = self.spec.steps[one.scope.split("[")[0]].foreach
                assert foreach is not None
                inner = list(foreach.steps)
                before = [f"{one.scope}.{name}" for name in inner[: inner.index(one.step.name)]]
            assert done.issuperset(before), f"{one.path} did not wait for what it needs"

    def _items_keep_to_their_limit(self, moves: Moves) -> None:
        for name, step in self.spec.steps.items():
            if step.foreach is None or self.case.status == "compensating":
                continue
            scopes = {s.scope for s in self.steps if s.is_open and not s.undoes}
            scopes |= {one.scope for one in moves.begin}
            mine = [scope for scope in scopes if scope.startswith(f"{name}[")]
            assert len(mine) <= step.foreach.parallel, f"{name} has too many items under way"
            assert all(index_of(scope) < self.case.steps[name].total for scope in mine)

    def _items_are_written_down(self, moves: Moves) -> None:
        """An item is counted once it has steps, and a foreach is over once all are counted."""
        if self._is_broken() or any(not failure.scope for failure in moves.fail):
            return  # not so: test_an_item_is_not_counted_again_and_again_while_a_run_winds_up
        known = {s.scope for s in self.steps} | {f.scope for f in moves.fail}
        known |= {one.scope for one in moves.skip}
        assert known.issuperset(moves.fold), "an item was counted that has no steps"
        for path in moves.settle:
            state = self.case.steps[path]
            folded = [scope for scope in moves.fold if scope.startswith(f"{path}[")]
            assert state.done + state.failures + len(folded) == state.total

    def _one_is_undone_at_a_time(self, moves: Moves) -> None:
        assert not moves.skip
        assert len(moves.begin) <= 1
        undoing = [s for s in self.steps if s.undoes and s.is_open]
        assert len(undoing) + len(moves.begin) <= 1
        for one in moves.begin:
            state = self.case.steps[one.undoes]
            assert state.status == "succeeded"
            assert one.step.compensate is not None or state.child_id is not None
            assert not any(map(_may_be_happening, self.steps))
            assert state.finished_seq == max(s.finished_seq or 0 for s in self._not_undone())

    def _not_undone(self) -> list[StepState]:
        """What was done, can be taken back and has not been."""
        done = [s for s in self.steps if s.status == "succeeded" and not s.undoes]
        mine = [s for s in done if s.child_id or self._step(s.path).compensate]
        undone = {s.undoes for s in self.steps if s.status == "succeeded"}
        return [s for s in mine if s.path not in undone]

    def _the_end_is_right(self, status: str, reason: str) -> None:
        is_stopped = reason.startswith(STOPS) and self.case.status != "compensating"
        if status in {"succeeded", "failed", "compensated"} and not is_stopped:
            assert not any(map(_may_be_happening, self.steps)), f"{status} before all was settled"
        if status == "succeeded":
            assert all(self.case.steps[name].status in DONE for name in self.spec.steps)
            assert not any(s.is_open for s in self.steps)
        if status == "compensated":
            assert not self._not_undone()

    # -- between turns -------------------------------------------------------------------------

    def is_never_stuck(self) -> None:
        """What has nothing to do waits for somebody, or will be looked at in time."""
        moves = self.advance()
        if self.case.is_resting:
            assert self.case.wake_at is None
            return
        assert self.case.wake_at is not None
        if self.case.status != "compensating":
            assert self.case.wake_at <= self.case.deadline_at
        if moves.end or moves.begin or any(self._is_call(path) for path in moves.go_on):
            assert self.case.wake_at <= self.now
            return
        looked_at = [s for s in self.steps if s.is_open and self._matters(s)]
        assert looked_at, "nothing will ever move this run"
        for state in looked_at:
            assert self._waits(state), f"nothing will ever move {state.path}"
            assert state.due_at is None or self.case.wake_at <= state.due_at

    def _is_call(self, path: str) -> bool:
        return needs_look(self.case.steps[path], self._step(path)) is not None

    def _matters(self, state: StepState) -> bool:
        if self.case.status == "compensating" and state.undoes:
            return True
        if self.case.status == "compensating" or self._is_broken():
            return state.in_flight or _may_be_happening(state)
        return state.kind != "foreach"

    def _waits(self, state: StepState) -> bool:
        """Whether there is something yet to come that moves it: a time, people, another run."""
        if state.due_at is not None:
            return state.due_at > self.now
        if state.waits_for == "child":
            return state.child_status in {"running", "compensating"}
        if state.approval_id is not None:
            return state.approval_status == "pending"
        still = {"running": "executing", "unknown": "unknown", "waiting": "waiting"}
        return state.action_status == still.get(state.status)


def _may_be_happening(state: StepState) -> bool:
    waits_for_child = state.status == "waiting" and state.waits_for == "child"
    return not state.undoes and (state.status in {"running", "unknown"} or waits_for_child)


# -- any definition --------------------------------------------------------------------------------

T = TypeVar("T")
CALLS: dict[str, dict[str, Any]] = {
    "erp.get": {"id": "x"},
    "erp.credit": {"invoice": "x", "amount": 1},
    "erp.book": {"id": "x"},
    "mail.send": {"to": "x"},
}
UNDO = {"compensate": {"tool": "erp.void", "with": {"credit": "x"}}}
WHENS = (
    "${ true }",
    "${ false }",
    "${ false }",
    "${ run.steps % 2 == 0 }",
    "${ 1 / run.denials > 0 }",
)
ENDINGS = st.sampled_from(["fail", "halt", "compensate", "compensate", "compensate"])
QUIET: list[dict[str, Any]] = [
    {"wait": {"for": "1h"}},
    {"wait": {"signal": "paid", "timeout": "2h"}},
    {"wait": {"signal": "paid", "timeout": "2h", "on_timeout": "continue"}},
    *(
        {"approval": {"tier": "dual", "question": "May it", "on_expiry": then}}
        for then in ("fail", "halt", "continue")
    ),
]


def mostly(
    usual: st.SearchStrategy[T], rare: st.SearchStrategy[T], *others: st.SearchStrategy[T]
) -> st.SearchStrategy[T]:
    """`one_of` takes what is repeated once only."""
    return st.sampled_from([usual] * 4 + [rare, *others]).flatmap(lambda chosen: chosen)


@st.composite
def calls(draw: st.DrawFn) -> dict[str, Any]:
    tool = draw(st.sampled_from(sorted(CALLS)))
    back = UNDO if draw(mostly(st.just(True), st.just(False))) else {"irreversible": "It is out."}
    retry = {"max_attempts": draw(st.integers(1, 3))}
    return {"tool": tool, "with": CALLS[tool], "retry": retry, **back}


def with_condition(
    kinds: st.SearchStrategy[dict[str, Any]], *more: str
) -> st.SearchStrategy[dict[str, Any]]:
    when = mostly(st.just(""), st.sampled_from([*WHENS, *more]))
    return st.builds(lambda step, text: {**step, "when": text} if text else step, kinds, when)


SIMPLE = mostly(calls(), st.sampled_from(QUIET))
INNER = with_condition(SIMPLE, "${ item > 1 }", "${ index == 0 }", "${ 2 / item > 0 }")


@st.composite
def foreaches(draw: st.DrawFn) -> dict[str, Any]:
    items = [draw(st.sampled_from(range(4))) for _ in range(draw(st.sampled_from(range(6))))]
    inner = draw(st.lists(INNER, min_size=1, max_size=2))
    return {
        "foreach": {
            "in": f"${{ {items} }}",
            "max_items": 5,
            "parallel": draw(st.integers(1, 3)),
            "fail": draw(st.sampled_from(["stop", "collect"])),
            "steps": {f"s{place}": step for place, step in enumerate(inner)},
        }
    }


CHILD = st.just({"workflow": {"workflow": "other"}})
STEPS = with_condition(mostly(SIMPLE, foreaches(), foreaches(), foreaches(), CHILD))


@st.composite
def definitions(draw: st.DrawFn) -> dict[str, Any]:
    """Steps in any order, of which each needs some of those that have a smaller name."""
    names = list("abcdefgh"[: draw(st.sampled_from([1, 2, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8]))])
    steps = {}
    for name in draw(st.permutations(names)):
        # A few edges only: what runs side by side is where things go wrong.
        before = st.sampled_from([one for one in names if one < name] or [name])
        needs = {draw(before) for _ in range(draw(st.sampled_from([0, 0, 1, 1, 2])))} - {name}
        steps[name] = {**draw(STEPS), "needs": sorted(needs)}
    plain: dict[str, Any] = {"steps": steps, "limits": {"deadline": "7d"}}
    plain["on_failure"] = draw(ENDINGS)
    plain["on_denied"] = draw(st.sampled_from(["halt", "fail"]))
    if draw(mostly(st.just(False), st.just(True))):
        plain["limits"]["max_steps"] = 6
    then = draw(mostly(st.just(""), ENDINGS))
    if then:
        plain["stop_when"] = [{"if": "${ run.errors >= 3 }", "reason": "errors", "then": then}]
    return plain


# -- any order of events ---------------------------------------------------------------------------

PLACES = st.integers(0, 7)
DECISIONS: st.SearchStrategy[Decision] = st.sampled_from(
    ["allowed"] * 12 + ["asked", "asked", "denied", "halted", "held_back", "not_proposed"]
)
ANSWERS: st.SearchStrategy[Answer] = st.sampled_from(
    ["succeeded"] * 8 + ["refused", "refused", "not_sent", "unanswered", "unanswered"]
)


def there_are(what: Callable[[Simulation], list[StepState]]) -> Callable[[Any], bool]:
    return lambda machine: bool(what(machine.run))


class Events(RuleBasedStateMachine):
    """Everything that can happen to a run, in any order, as often as it likes."""

    run: Watched

    @initialize(plain=definitions())
    def a_run_is_started(self, plain: dict[str, Any]) -> None:
        self.run = Watched(compiled(plain))

    @rule(decision=DECISIONS, pick=PLACES)
    def a_driver_takes_a_turn(self, decision: Decision, pick: int) -> None:
        self.run.take_turn(decision, pick=pick)
        self.run.is_never_stuck()

    @rule(work=st.lists(st.tuples(DECISIONS, ANSWERS, PLACES), min_size=2, max_size=8))
    def drivers_work(self, work: list[tuple[Decision, Answer, int]]) -> None:
        for decision, answer, pick in work:
            self.run.take_turn(decision, pick=pick)
            calls = self.run.under_way()
            if calls:
                self.run.answered(calls[pick % len(calls)].path, answer)
        self.run.take_turn(claims=False)
        self.run.is_never_stuck()

    @rule()
    def a_hint_too_many_does_nothing(self) -> None:
        self.run.take_turn(claims=False)
        before = self.run.told()
        self.run.take_turn(claims=False)
        assert self.run.told() == before

    @precondition(there_are(Simulation.under_way))
    @rule(answer=ANSWERS, pick=PLACES)
    def a_call_answers(self, answer: Answer, pick: int) -> None:
        calls = self.run.under_way()
        self.run.answered(calls[pick % len(calls)].path, answer)

    @precondition(there_are(Simulation.under_way))
    @rule(pick=PLACES)
    def a_driver_goes_away_during_a_call(self, pick: int) -> None:
        calls = self.run.under_way()
        calls[pick % len(calls)].action_status = "unknown"

    @precondition(there_are(Simulation.unresolved))
    @rule(pick=PLACES, answer=st.sampled_from(["succeeded", "failed", "ready"]))
    def a_person_says_what_a_call_had_done(self, pick: int, answer: str) -> None:
        calls = self.run.unresolved()
        calls[pick % len(calls)].action_status = answer

    @precondition(there_are(Simulation.questions))
    @rule(pick=PLACES, answer=st.sampled_from(["approved", "approved", "rejected", "expired"]))
    def people_answer(self, pick: int, answer: str) -> None:
        questions = self.run.questions()
        self.run.decided_by_people(questions[pick % len(questions)], answer)

    @precondition(there_are(Simulation.children))
    @rule(pick=PLACES, good=st.booleans())
    def a_run_within_it_ends(self, pick: int, good: bool) -> None:
        children = self.run.children()
        self.run.child_ended(children[pick % len(children)], good=good)

    @rule(is_other=st.booleans())
    def a_signal_arrives(self, is_other: bool) -> None:
        self.run.signals += 0 if is_other else 1
        self.run.has_other_signals = self.run.has_other_signals or is_other

    @rule()
    def time_passes(self) -> None:
        self.run.now = self.run.next_time()

    @rule(event=st.sampled_from(["nothing"] * 36 + ["deadline", "halt", "cancel", "undo"]))
    def something_rare_happens(self, event: str) -> None:
        run = self.run
        if event == "deadline":
            run.now = max(run.now, run.case.deadline_at)
        elif event == "halt":
            run.case.run.status = "halted"
        elif event == "cancel" and run.case.status not in WorkflowRun.ENDED:
            run.cancelled()
        elif event == "undo" and run.case.status not in {"compensating", "compensated"}:
            run.undone()

    def teardown(self) -> None:
        """Whatever has happened: if all goes well from here, the run comes to rest."""
        if hasattr(self, "run"):
            comes_to_rest(self.run)


def comes_to_rest(run: Watched) -> None:
    """Good answers bring a run to rest from wherever it has got to."""
    if run.now < run.case.deadline_at:  # which is not what is to bring it there
        run.case.deadline_at += timedelta(days=1_000)
    for _ in range(300):
        if run.case.is_resting:
            return
        run.all_answers_well()
        if not run.take_turn() and not run.under_way():
            run.now = run.next_time()
    message = f"The run does not come to rest: {run.told()}"
    raise AssertionError(message)
