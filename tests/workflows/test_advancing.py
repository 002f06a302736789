"""The laws of `plan()`, for made-up definitions whatever befalls their runs, and by example.

The moves are made by the engine's own turns; what it asks of the database, of people and of other
systems is answered in memory, as Hypothesis likes (see `simulation` and `state_machine`).
"""

from datetime import timedelta

import pytest
from hypothesis import settings
from hypothesis.stateful import (
    run_state_machine_as_test,
)

from tests.workflows.invariants import Watched
from tests.workflows.simulation import Answer, compiled
from tests.workflows.state_machine import Events, comes_to_rest
from workflows.definitions.source import read


def test_no_order_of_events_breaks_the_laws() -> None:
    run_state_machine_as_test(
        Events, settings=settings(max_examples=200, stateful_step_count=40, deadline=None)
    )


# -- by example ------------------------------------------------------------------------------------

MAIL = "tool: mail.send, with: {to: x}, irreversible: It is out."
BACK = "compensate: {tool: erp.void, with: {credit: x}}"
PAY = f"tool: erp.credit, with: {{invoice: x, amount: 1}}, {BACK}"


def started(body: str) -> Watched:
    return Watched(compiled(read(body).value))


def test_a_diamond_is_joined_when_both_its_sides_are_done() -> None:
    run = started(
        f"""
        steps:
          join: {{needs: [left, right], {MAIL}}}
          left: {{needs: [top], {MAIL}}}
          right: {{needs: [top], {MAIL}}}
          top: {{{MAIL}}}
        """
    )
    assert run.goes_on() == {"top": "running"}
    run.answered("top", "succeeded")
    assert run.goes_on() == {"top": "succeeded", "left": "running", "right": "running"}
    run.answered("right", "succeeded")
    assert "join" not in run.goes_on()
    run.answered("left", "succeeded")
    assert run.goes_on()["join"] == "running"
    run.answered("join", "succeeded")
    run.goes_on()
    assert run.case.status == "succeeded"


def test_a_branch_that_is_skipped_joins_all_the_same() -> None:
    run = started(
        f"""
        steps:
          gate: {{when: "${{ false }}", approval: {{tier: dual, question: May it}}}}
          after: {{needs: [gate], when: "${{ steps.gate.status == 'succeeded' }}", {MAIL}}}
          join: {{needs: [after], when: "${{ steps.after.status == 'skipped' }}", {MAIL}}}
        """
    )
    # One look is enough for all that follows from what is skipped.
    moves = run.advance()
    assert [one.path for one in moves.skip] == ["gate", "after"]
    assert [one.path for one in moves.begin] == ["join"]
    assert run.goes_on() == {"gate": "skipped", "after": "skipped", "join": "running"}


EACH = """
        on_failure: {then}
        steps:
          all:
            foreach:
              in: "${{ [1, 2, 3, 4] }}"
              max_items: 4
              parallel: 2
              fail: {fail}
              steps: {{one: {{{call}}}}}
        """


def test_an_item_that_fails_stops_the_others_once_those_under_way_are_settled() -> None:
    run = started(EACH.format(then="fail", fail="stop", call=MAIL))
    assert list(run.goes_on()) == ["all", "all[0].one", "all[1].one"]
    run.answered("all[0].one", "refused")
    steps = run.goes_on()
    assert (steps["all"], steps["all[1].one"], run.case.status) == ("failed", "running", "running")
    run.answered("all[1].one", "unanswered")
    assert (run.goes_on()["all[1].one"], run.case.status) == ("unknown", "waiting")
    run.rows["all[1].one"].action_status = "succeeded"
    assert run.goes_on()["all[1].one"] == "succeeded"
    assert (run.case.status, run.case.is_partial) == ("failed", True)
    assert "all[2].one" not in run.rows


def test_an_item_that_fails_is_counted_where_failures_are_collected() -> None:
    run = started(EACH.format(then="fail", fail="collect", call=MAIL))
    answers: list[Answer] = ["succeeded", "refused", "succeeded", "refused"]
    for index, answer in enumerate(answers):
        run.goes_on()
        run.answered(f"all[{index}].one", answer)
    run.goes_on()
    assert run.case.status == "succeeded"
    assert run.rows["all"].output == {"total": 4, "failed": 2}


def test_items_are_undone_like_steps_the_last_to_finish_first() -> None:
    run = started(EACH.format(then="compensate", fail="stop", call=PAY))
    for index in (1, 0):
        run.goes_on()
        run.answered(f"all[{index}].one", "succeeded")
    run.goes_on()
    run.answered("all[2].one", "refused")
    assert run.goes_on()["all[3].one"] == "running"
    assert (run.case.status, "undo:all[0].one" in run.rows) == ("running", False)
    run.answered("all[3].one", "succeeded")
    undone = []
    while run.goes_on() and not run.case.is_resting:
        [state] = run.under_way()
        undone.append(state.compensates)
        run.answered(state.path, "succeeded")
    assert undone == ["all[3].one", "all[0].one", "all[1].one"]
    assert run.case.status == "compensated"


TWO = """
        on_failure: {then}
        on_denied: {denied}
        steps:
          one: {{{first}}}
          two: {{{second}}}
        """


def two(first: str, second: str, *, then: str = "fail", denied: str = "halt") -> Watched:
    return started(TWO.format(first=first, second=second, then=then, denied=denied))


def test_a_run_does_not_fail_while_it_is_unknown_what_a_step_did() -> None:
    run = two(MAIL, MAIL)
    run.goes_on()
    run.answered("one", "unanswered")
    run.answered("two", "refused")
    assert run.goes_on() == {"one": "unknown", "two": "failed"}
    assert run.case.status == "waiting"
    run.rows["one"].action_status = "failed"
    assert run.goes_on() == {"one": "failed", "two": "failed"}
    assert run.case.status == "failed"


def test_what_is_settled_late_is_undone_first() -> None:
    run = two(PAY, f"needs: [one], {PAY}", then="compensate")
    run.goes_on()
    run.answered("one", "succeeded")
    run.goes_on()
    run.undone()
    assert run.goes_on() == {"one": "succeeded", "two": "running"}
    run.answered("two", "succeeded")
    assert run.goes_on()["undo:two"] == "running"
    assert "undo:one" not in run.rows


def test_what_cannot_be_undone_stops_the_undoing() -> None:
    run = two(PAY, f"needs: [one], {PAY}")
    for path in ("one", "two"):
        run.goes_on()
        run.answered(path, "succeeded")
    run.goes_on()
    run.undone()
    run.goes_on()
    run.answered("undo:two", "refused")
    assert "undo:one" not in run.goes_on()
    assert (run.case.status, run.case.reason) == ("compensation_failed", "two could not be undone.")


def test_what_policy_denies_halts_at_once_whatever_else_is_under_way() -> None:
    run = two(MAIL, MAIL)
    run.take_turn()
    run.take_turn("denied")
    assert (run.case.status, run.rows["one"].status) == ("halted", "running")
    run.answered("one", "succeeded")  # what comes now is kept, and nothing follows
    assert run.goes_on() == {"one": "succeeded", "two": "denied"}
    assert run.case.status == "halted"


def test_what_policy_denies_is_a_failure_where_that_is_said() -> None:
    run = two(MAIL, f"needs: [one], {MAIL}", denied="fail")
    run.take_turn("denied")
    assert (run.case.status, list(run.rows)) == ("failed", ["one"])


@pytest.mark.parametrize(
    ("then", "status"), [("fail", "failed"), ("halt", "halted"), ("compensate", "compensating")]
)
def test_nothing_begins_after_the_deadline(then: str, status: str) -> None:
    run = two(PAY, f"needs: [one], {MAIL}", then=then)
    run.goes_on()
    run.now = run.case.deadline_at - timedelta(seconds=1)
    run.answered("one", "succeeded")
    assert run.advance().begin
    run.now += timedelta(seconds=1)
    run.take_turn()
    assert (run.case.status, "two" in run.rows) == (status, False)
    assert run.case.reason == "The time limit of the run has passed."
    if then == "compensate":  # which the deadline does not cut short
        run.now += timedelta(days=9)
        assert run.goes_on()["undo:one"] == "running"


@pytest.mark.parametrize(
    ("condition", "then", "status"),
    [
        ("run.actions >= 1", "fail", "failed"),
        ("run.actions >= 1", "halt", "halted"),
        ("run.actions >= 1", "compensate", "compensating"),
        ("1 / run.denials > 0", "fail", "halted"),  # what cannot be told does not go on
    ],
)
def test_a_stop_condition_is_looked_at_before_a_step_begins(
    condition: str, then: str, status: str
) -> None:
    rule = f'{{if: "${{ run.steps > 0 && {condition} }}", reason: enough, then: {then}}}'
    run = started(f"stop_when: [{rule}]\nsteps: {{one: {{{PAY}}}, two: {{needs: [one], {MAIL}}}}}")
    assert run.goes_on()["one"] == "running"
    run.answered("one", "succeeded")
    run.take_turn()
    assert (run.case.status, "two" in run.rows) == (status, False)


def test_a_run_that_was_halted_or_closed_elsewhere_goes_no_further() -> None:
    run = two(PAY, MAIL)
    run.case.run.status = "halted"
    assert run.goes_on() == {}
    assert run.case.status == "halted"


def test_a_run_that_is_halted_while_it_is_undone_is_left_to_people() -> None:
    run = two(PAY, MAIL)
    run.goes_on()
    run.answered("one", "succeeded")
    run.undone()
    run.case.run.status = "halted"
    assert "undo:one" not in run.goes_on()
    assert run.case.status == "compensation_failed"


def test_a_run_within_it_is_waited_for_before_a_run_fails() -> None:
    run = two("workflow: {workflow: other}", MAIL)
    run.goes_on()
    run.answered("two", "refused")
    assert run.goes_on() == {"one": "waiting", "two": "failed"}
    run.child_ended(run.rows["one"], good=True)
    assert run.goes_on() == {"one": "succeeded", "two": "failed"}
    assert run.case.status == "failed"


def test_a_run_takes_no_more_steps_than_it_may() -> None:
    run = started(f"limits: {{max_steps: 1}}\nsteps: {{one: {{{PAY}}}, two: {{{MAIL}}}}}")
    assert run.goes_on() == {"one": "running"}
    assert (run.case.status, run.case.reason) == (
        "failed",
        "The run has taken all the steps it may.",
    )


@pytest.mark.parametrize(
    ("answer", "status"),
    [("approved", "running"), ("rejected", "failed"), ("expired", "expired")],
)
def test_a_call_goes_on_when_people_have_answered(answer: str, status: str) -> None:
    run = two(MAIL, MAIL)
    run.take_turn("asked")
    assert run.goes_on() == {"one": "waiting", "two": "running"}
    run.decided_by_people(run.rows["one"], answer)
    assert run.goes_on()["one"] == status


def test_a_call_is_made_again_when_a_person_says_so_and_then_only() -> None:
    run = two(MAIL, f"needs: [one], {MAIL}")
    run.goes_on()
    run.answered("one", "unanswered")
    run.now += timedelta(days=1)
    assert run.goes_on() == {"one": "unknown"}
    run.rows["one"].action_status = "ready"
    assert run.goes_on() == {"one": "running"}


def test_a_call_is_tried_again_when_its_time_has_come() -> None:
    run = two(PAY, f"needs: [one], {MAIL}")
    run.goes_on()
    run.answered("one", "not_sent")
    assert run.goes_on() == {"one": "retry"}
    run.now = run.next_time()
    run.take_turn("held_back")
    assert run.rows["one"].waiting_for == "breaker"
    assert run.goes_on() == {"one": "waiting"}
    run.rows["one"].action_status = "withdrawn"  # what ends it is not waited for
    assert run.goes_on() == {"one": "cancelled"}


def test_a_signal_is_taken_when_it_comes_and_others_are_not() -> None:
    run = two("wait: {signal: paid, timeout: 1h}", "wait: {signal: paid, timeout: 2h}")
    run.has_other_signals = True
    assert run.goes_on() == {"one": "waiting", "two": "waiting"}
    run.signals = 1
    assert run.goes_on() == {"one": "succeeded", "two": "waiting"}
    run.now += timedelta(hours=2)
    assert run.goes_on() == {"one": "succeeded", "two": "expired"}


def test_an_item_is_not_counted_again_and_again_while_a_run_winds_up() -> None:
    run = started(
        f"""
        steps:
          one: {{{MAIL}}}
          two: {{{MAIL}}}
          all:
            foreach:
              in: "${{ [1, 0, 2, 3] }}"
              max_items: 4
              steps: {{mail: {{when: "${{ item > 0 }}", {MAIL}}}}}
        """
    )
    run.goes_on()
    run.answered("one", "unanswered")
    run.answered("two", "refused")
    run.answered("all[0].mail", "succeeded")
    run.goes_on()
    each = run.rows["all"]
    assert each.status == "waiting"  # two of its items have never begun
    assert each.done <= each.begun


@pytest.mark.parametrize("how", ["unanswered", "crashed"])
def test_what_may_have_taken_effect_is_settled_before_all_is_taken_back(how: str) -> None:
    run = two(PAY, MAIL, then="compensate")
    run.goes_on()
    if how == "unanswered":
        run.answered("one", "unanswered")
    else:
        run.rows["one"].action_status = "unknown"
    assert run.goes_on()["one"] == "retry"
    run.answered("two", "refused")
    comes_to_rest(run)
    assert run.case.status == "compensated"
    assert run.rows["one"].status == "succeeded"
    assert run.rows["undo:one"].status == "succeeded"
