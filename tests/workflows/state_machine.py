"""Any definition, and any order of what can happen to a run of it."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.workflows.invariants import Watched
from tests.workflows.simulation import Answer, Decision, Simulation, compiled
from workflows.models import WorkflowRun
from workflows.run_state import StepState
from workflows.services.operator_commands import STOPPED

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

    @rule(
        event=st.sampled_from(
            ["nothing"] * 24 + ["deadline", "halt", "cancel", "undo", *["resume"] * 8]
        )
    )
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
        elif event == "resume" and run.case.status in STOPPED:
            run.resumed()

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
