"""The laws that the moves of a run keep to, whatever happens to it."""

from collections.abc import Iterable

from tests.workflows.simulation import NOT_BEFORE, STOPS, Simulation
from workflows.planning import Plan
from workflows.run_state import BROKEN, DONE, StepState, index_of
from workflows.services.preparation import required_preparation


class Watched(Simulation):
    """A run whose every move is held against the laws."""

    def seen(self, moves: Plan) -> None:
        if self.case.is_resting:
            assert moves == Plan(go_on=moves.go_on), "a run that rests moved"
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
        return any(s.status in BROKEN and not s.scope and not s.compensates for s in self.steps)

    def _nothing_moves_twice(self, moves: Plan) -> None:
        new = [one.path for one in (*moves.begin, *moves.skip)]
        known = {state.path for state in self.steps if not state.is_anew}
        assert not set(new) & known, "a step began again"
        assert len({*new, *moves.go_on}) == len(new) + len(moves.go_on)
        for state in (self.case.steps[path] for path in moves.go_on):
            assert state.is_open
            if state.action_status == "ready" and (state.status, state.waiting_for) in NOT_BEFORE:
                assert state.due_at is not None
                assert state.due_at <= self.now, f"{state.path} did not wait for its time"

    def _needs_are_done(self, moves: Plan) -> None:
        done = {s.path for s in self.steps if s.status in DONE}
        done |= {one.path for one in moves.skip}
        for one in (*moves.begin, *moves.skip):
            if one.compensates:
                continue
            before: Iterable[str] = one.step.needs
            if one.scope:
                foreach = self.spec.steps[one.scope.split("[")[0]].foreach
                assert foreach is not None
                inner = list(foreach.steps)
                before = [f"{one.scope}.{name}" for name in inner[: inner.index(one.step.name)]]
            assert done.issuperset(before), f"{one.path} did not wait for what it needs"

    def _items_keep_to_their_limit(self, moves: Plan) -> None:
        for name, step in self.spec.steps.items():
            if step.foreach is None or self.case.status == "compensating":
                continue
            scopes = {s.scope for s in self.steps if s.is_open and not s.compensates}
            scopes |= {one.scope for one in moves.begin}
            mine = [scope for scope in scopes if scope.startswith(f"{name}[")]
            assert len(mine) <= step.foreach.parallel, f"{name} has too many items under way"
            assert all(index_of(scope) < self.case.steps[name].total for scope in mine)

    def _items_are_written_down(self, moves: Plan) -> None:
        """An item is counted once it has steps, and a foreach is over once all are counted."""
        known = {s.scope for s in self.steps} | {f.scope for f in moves.fail}
        known |= {one.scope for one in moves.skip}
        assert known.issuperset(moves.fold), "an item was counted that has no steps"
        for path in moves.settle:
            state = self.case.steps[path]
            folded = [scope for scope in moves.fold if scope.startswith(f"{path}[")]
            assert state.done + state.failures + len(folded) == state.total

    def _one_is_undone_at_a_time(self, moves: Plan) -> None:
        assert not moves.skip
        assert len(moves.begin) <= 1
        undoing = [s for s in self.steps if s.compensates and s.is_open and not s.is_anew]
        assert len(undoing) + len(moves.begin) <= 1
        for one in moves.begin:
            state = self.case.steps[one.compensates]
            assert state.status == "succeeded"
            assert one.step.compensate is not None or state.child_id is not None
            assert not any(map(_may_be_happening, self.steps))
            assert state.finished_seq == max(s.finished_seq or 0 for s in self._not_undone())

    def _not_undone(self) -> list[StepState]:
        """What was done, can be taken back and has not been."""
        done = [s for s in self.steps if s.status == "succeeded" and not s.compensates]
        mine = [s for s in done if s.child_id or self._step(s.path).compensate]
        undone = {s.compensates for s in self.steps if s.status == "succeeded"}
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
            assert self.case.next_wake_at is None
            return
        assert self.case.next_wake_at is not None
        if self.case.status != "compensating":
            assert self.case.next_wake_at <= self.case.deadline_at
        if moves.end or moves.begin or any(self._is_call(path) for path in moves.go_on):
            assert self.case.next_wake_at <= self.now
            return
        looked_at = [s for s in self.steps if s.is_open and self._matters(s)]
        assert looked_at, "nothing will ever move this run"
        for state in looked_at:
            assert self._waits(state), f"nothing will ever move {state.path}"
            assert state.due_at is None or self.case.next_wake_at <= state.due_at

    def _is_call(self, path: str) -> bool:
        return required_preparation(self.case.steps[path], self._step(path)) is not None

    def _matters(self, state: StepState) -> bool:
        if self.case.status == "compensating" and state.compensates:
            return True
        if self.case.status == "compensating" or self._is_broken():
            return state.in_flight or _may_be_happening(state)
        return state.kind != "foreach"

    def _waits(self, state: StepState) -> bool:
        """Whether there is something yet to come that moves it: a time, people, another run."""
        if state.due_at is not None:
            return state.due_at > self.now
        if state.waiting_for == "child":
            return state.child_status in {"running", "compensating"}
        if state.approval_id is not None:
            return state.approval_status == "pending"
        still = {"running": "executing", "unknown": "unknown", "waiting": "waiting"}
        return state.action_status == still.get(state.status)


def _may_be_happening(state: StepState) -> bool:
    waits_for_child = state.status == "waiting" and state.waiting_for == "child"
    is_uncertain = state.is_open and state.in_doubt
    return not state.compensates and (
        state.status in {"running", "unknown"} or waits_for_child or is_uncertain
    )
