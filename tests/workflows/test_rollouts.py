"""A new version is given to a part of new runs, and taken back when it does badly."""

from itertools import count
from typing import Any
from uuid import UUID

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from audit.models import Event
from common.actors import SYSTEM
from common.errors import GovernanceError, InvalidInput, ReasonRequired
from common.ids import uuid7
from tests.actions.test_races import THREADS, at_once
from tests.factories import Governed
from tests.workflows import workflow_helpers
from tests.workflows.test_running import later
from tools.connectors.base import Refused
from workflows.errors import NoRolloutUnderWay, RolloutUnderWay
from workflows.models import Rollout, WorkflowRun, WorkflowVersion
from workflows.services import rollouts, versions
from workflows.services.runs import bucket

pytestmark = pytest.mark.django_db

SHARE = 3_000
REST = "steps:\n  rest: {wait: {for: 2h}}\n"
MAIL = "steps:\n  mail: {tool: toolbox.mail, with: {to: x}}\n"
REST_AND_MAIL = """\
steps:
  rest: {wait: {for: 2h}}
  mail: {needs: [rest], tool: toolbox.mail, with: {to: x}}
"""
PAY_EACH = """\
on_denied: fail
inputs: {type: object, required: [accounts], properties: {accounts: {type: array}}}
steps:
  all:
    foreach:
      in: "${ inputs.accounts }"
      max_items: 9
      fail: collect
      steps:
        pay: {tool: toolbox.pay, with: {account: "${ item }", amount: 1}}
"""


def id_between(low: int, high: int) -> UUID:
    """The identifier of a run that falls among these parts of 10,000."""
    return next(one for one in (uuid7() for _ in count()) if low <= bucket("work", one) < high)


def begun(governed: Governed, low: int = 0, high: int = SHARE, **inputs: Any) -> WorkflowRun:
    """A run that falls among these parts; without any, one of the new version's share."""
    return workflow_helpers.begin(governed, inputs, id=id_between(low, high))


def rolled_out(candidate: str, stable: str = REST, **limits: int) -> Rollout:
    """The stable version 1, and the candidate for 30 % of new runs."""
    workflow_helpers.publish(stable)
    workflow_helpers.publish(candidate, share=SHARE)
    if limits:
        Rollout.objects.update(**limits)
    return Rollout.objects.get()


def told(event: str) -> list[tuple[str, str, Any]]:
    found = Event.objects.filter(type=f"workflow.rollout.{event}").order_by("id")
    return [(e.actor_kind, e.subject_label, e.details) for e in found.with_values()]


# -- which version a run gets --------------------------------------------------------------------


def test_where_a_run_falls_depends_on_its_workflow_and_identifier_only() -> None:
    ids = [uuid7() for _ in range(50)]
    first = [bucket("work", one) for one in ids]
    assert [bucket("work", one) for one in ids] == first
    assert [bucket("other", one) for one in ids] != first
    known = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
    assert bucket("work", known) == 955


@pytest.mark.parametrize("share", [100, 1_000, 5_000, 9_000])
def test_about_as_many_runs_fall_into_a_share_as_it_says(share: int) -> None:
    number = 20_000
    found = sum(bucket("work", uuid7()) < share for _ in range(number))
    expected = number * share / 10_000
    # Six standard deviations: by chance about once in a billion.
    assert abs(found - expected) < 6 * (expected * (1 - share / 10_000)) ** 0.5


def test_a_share_of_new_runs_gets_the_new_version(governed: Governed) -> None:
    rollout = rolled_out(MAIL)
    assert begun(governed, 0, 100).version == rollout.candidate
    assert begun(governed, SHARE - 20, SHARE).version == rollout.candidate
    assert begun(governed, SHARE, SHARE + 20).version == rollout.stable
    assert begun(governed, 9_900, 10_000).version == rollout.stable
    assert workflow_helpers.workflow().live == rollout.stable


def test_a_run_asked_for_again_stays_on_its_version(governed: Governed) -> None:
    rollout = rolled_out(MAIL)
    run = workflow_helpers.begin(governed, key="k", id=id_between(5_000, 6_000))
    rollouts.change_share(rollout.pk, actor=SYSTEM, share=9_000)
    again = workflow_helpers.begin(governed, key="k", id=id_between(0, 100))
    assert (again.pk, again.version) == (run.pk, rollout.stable)


def test_a_rollout_of_one_workflow_leaves_others_alone(governed: Governed) -> None:
    other = workflow_helpers.publish(REST, slug="other")
    rolled_out(MAIL)
    runs = [workflow_helpers.begin(governed, slug="other") for _ in range(10)]
    assert {run.version for run in runs} == {other}


# -- widening and completing ---------------------------------------------------------------------


def test_a_wider_share_takes_more_runs_and_keeps_those_it_had(governed: Governed) -> None:
    rollout = rolled_out(MAIL)
    rollouts.change_share(rollout.pk, actor=SYSTEM, share=6_000)
    assert begun(governed, 0, SHARE).version == rollout.candidate
    assert begun(governed, SHARE, 6_000).version == rollout.candidate
    assert begun(governed, 6_000, 10_000).version == rollout.stable
    assert told("changed") == [("system", "work version 2", {"share": 6_000})]
    rollout.refresh_from_db()
    assert (rollout.share, rollout.status, rollout.ended_at) == (6_000, "running", None)


def test_a_share_that_is_no_part_is_refused(governed: Governed) -> None:
    rollout = rolled_out(MAIL)
    for share in (0, -1, 10_000):
        with pytest.raises(InvalidInput) as refusal:
            rollouts.change_share(rollout.pk, actor=SYSTEM, share=share)
        assert refusal.value.code == "invalid_input"
    assert Rollout.objects.get().share == SHARE
    assert told("changed") == []


def test_a_completed_version_takes_all_new_runs_and_old_ones_finish(governed: Governed) -> None:
    rollout = rolled_out(MAIL, REST_AND_MAIL)
    old = workflow_helpers.driven(begun(governed, SHARE, 10_000))
    rollouts.complete(rollout.pk, actor=SYSTEM, reason="It does well.")
    rollout.refresh_from_db()
    assert (rollout.status, rollout.reason) == ("completed", "It does well.")
    assert rollout.ended_at is not None
    assert workflow_helpers.workflow().live == rollout.candidate
    assert begun(governed, SHARE, 10_000).version == rollout.candidate
    assert told("completed") == [("system", "work version 2", {"number": 2})]
    old = later(old, hours=2)
    assert (old.version, old.status) == (rollout.stable, "succeeded")


def test_a_completed_version_gives_the_workflow_its_title(governed: Governed) -> None:
    workflow_helpers.publish(REST)
    text = workflow_helpers.text_of(MAIL).replace("title: work", "title: Work by mail")
    version = versions.draft_version(text, actor=SYSTEM)
    versions.publish(version.pk, actor=SYSTEM, share=SHARE)
    assert workflow_helpers.workflow().title == "work"
    rollouts.complete(Rollout.objects.get().pk, actor=SYSTEM, reason="It does well.")
    assert workflow_helpers.workflow().title == "Work by mail"


# -- rolling back --------------------------------------------------------------------------------


def test_a_version_is_rolled_back_by_hand_and_its_runs_finish(governed: Governed) -> None:
    rollout = rolled_out(REST_AND_MAIL)
    under_way = workflow_helpers.driven(begun(governed))
    assert (under_way.version, under_way.status) == (rollout.candidate, "waiting")
    rollouts.roll_back(rollout.pk, actor=SYSTEM, reason="People complain.")
    rollout.refresh_from_db()
    assert (rollout.status, rollout.reason) == ("rolled_back", "People complain.")
    assert rollout.ended_at is not None
    assert told("rolled_back") == [
        ("system", "work version 2", {"number": 2, "reason": "People complain."})
    ]
    assert begun(governed).version == rollout.stable
    assert workflow_helpers.workflow().live == rollout.stable
    under_way = later(under_way, hours=2)
    assert (under_way.version, under_way.status) == (rollout.candidate, "succeeded")
    assert governed.toolbox.calls == ["mail"]


def test_a_rollout_ends_with_a_reason(governed: Governed) -> None:
    rollout = rolled_out(MAIL)
    for command in (rollouts.complete, rollouts.roll_back):
        with pytest.raises(ReasonRequired):
            command(rollout.pk, actor=SYSTEM, reason="  ")
    rollout.refresh_from_db()
    assert (rollout.status, rollout.ended_at) == ("running", None)
    assert workflow_helpers.workflow().live == rollout.stable
    assert told("completed") == told("rolled_back") == []


def test_a_rollout_that_is_over_stays_as_it_is(governed: Governed) -> None:
    rollout = rolled_out(MAIL)
    rollouts.roll_back(rollout.pk, actor=SYSTEM, reason="People complain.")
    for command, given in (
        (rollouts.complete, {"reason": "After all."}),
        (rollouts.roll_back, {"reason": "Again."}),
        (rollouts.change_share, {"share": 9_000}),
    ):
        with pytest.raises(NoRolloutUnderWay) as refusal:
            command(rollout.pk, actor=SYSTEM, **given)
        assert refusal.value.code == "no_rollout_under_way"
    rollout.refresh_from_db()
    assert (rollout.status, rollout.reason) == ("rolled_back", "People complain.")
    assert rollout.share == SHARE
    assert workflow_helpers.workflow().live == rollout.stable
    assert len(told("rolled_back")) == 1


def test_another_version_is_rolled_out_after_one_was_taken_back(governed: Governed) -> None:
    first = rolled_out(MAIL)
    rollouts.roll_back(first.pk, actor=SYSTEM, reason="People complain.")
    third = workflow_helpers.publish(REST_AND_MAIL, share=SHARE)
    assert begun(governed).version == third
    assert begun(governed, SHARE, 10_000).version == first.stable


# -- the guard -----------------------------------------------------------------------------------


def good(governed: Governed, number: int = 1) -> None:
    for _ in range(number):
        assert workflow_helpers.driven(begun(governed)).status == "succeeded"


def bad(governed: Governed) -> None:
    governed.toolbox.fail_with = [Refused("no")]
    assert workflow_helpers.driven(begun(governed)).status == "failed"


def test_the_guard_takes_back_a_version_whose_runs_fail(governed: Governed) -> None:
    rollout = rolled_out(MAIL, min_runs=4)
    bad(governed)
    good(governed, 2)
    assert rollouts.guard() == 0  # three runs say nothing yet
    assert begun(governed).version == rollout.candidate  # not yet ended: not judged
    assert rollouts.guard() == 0
    good(governed)
    assert rollouts.guard() == 1
    rollout.refresh_from_db()
    reason = "The guard: 1 of 4 runs failed."
    assert (rollout.status, rollout.reason) == ("rolled_back", reason)
    assert told("rolled_back") == [("system", "work version 2", {"number": 2, "reason": reason})]
    assert rollouts.guard() == 0
    assert len(told("rolled_back")) == 1


def test_after_the_guard_new_runs_are_stable_and_old_ones_finish(governed: Governed) -> None:
    rollout = rolled_out(REST_AND_MAIL, min_runs=1)
    under_way = workflow_helpers.driven(begun(governed))
    failing = workflow_helpers.driven(begun(governed))
    governed.toolbox.fail_with = [Refused("no")]
    assert later(failing, hours=2).status == "failed"
    assert rollouts.guard() == 1
    assert begun(governed).version == rollout.stable
    under_way = later(under_way, hours=2)
    assert (under_way.version, under_way.status) == (rollout.candidate, "succeeded")


def test_the_guard_takes_back_a_version_whose_runs_are_denied_something(
    governed: Governed,
) -> None:
    governed.toolbox.accounts["b"] = {"frozen": True}
    rollout = rolled_out(PAY_EACH, min_runs=3, max_denied_percent=40)
    for accounts in (["a"], ["a", "b"]):
        assert workflow_helpers.driven(begun(governed, accounts=accounts)).status == "succeeded"
    assert rollouts.guard() == 0
    assert workflow_helpers.driven(begun(governed, accounts=["b", "b"])).status == "succeeded"
    assert rollouts.guard() == 1
    rollout.refresh_from_db()
    assert rollout.status == "rolled_back"
    [(_, _, details)] = told("rolled_back")
    assert details["reason"] == "The guard: 2 of 3 runs were denied something."
    assert begun(governed).version == rollout.stable


def test_the_guard_allows_as_much_as_it_is_said_to(governed: Governed) -> None:
    rolled_out(MAIL, min_runs=2, max_failed_percent=50)
    good(governed)
    bad(governed)
    assert rollouts.guard() == 0
    bad(governed)
    assert rollouts.guard() == 1


def test_a_halted_run_counts_as_failed(governed: Governed) -> None:
    rolled_out("stop_when:\n  - {if: '${ true }', reason: never}\n" + MAIL, min_runs=1)
    assert workflow_helpers.driven(begun(governed)).status == "halted"
    assert rollouts.guard() == 1


def test_the_guard_does_not_blame_a_version_for_the_runs_of_another(governed: Governed) -> None:
    rollout = rolled_out(MAIL, MAIL, min_runs=1)
    governed.toolbox.fail_with = [Refused("no")]
    assert workflow_helpers.driven(begun(governed, SHARE, 10_000)).status == "failed"
    good(governed)
    assert rollouts.guard() == 0
    assert Rollout.objects.get().status == "running"
    stable = rollouts.record_of(rollout, rollout.stable)
    candidate = rollouts.record_of(rollout, rollout.candidate)
    assert (stable.ended, stable.failed_percent) == (1, 100)
    assert (candidate.ended, candidate.failed_percent) == (1, 0)


# -- one at a time -------------------------------------------------------------------------------


def test_nothing_is_published_while_another_version_is_rolled_out(governed: Governed) -> None:
    rollout = rolled_out(MAIL)
    version = versions.draft_version(workflow_helpers.text_of(PAY_EACH), actor=SYSTEM)
    for share in (500, 10_000):
        with pytest.raises(RolloutUnderWay) as refusal:
            versions.publish(version.pk, actor=SYSTEM, share=share)
        assert refusal.value.code == "rollout_under_way"
    version.refresh_from_db()
    assert (version.status, version.published_at) == ("draft", None)
    assert Rollout.objects.get() == rollout
    assert workflow_helpers.workflow().live == rollout.stable


def test_the_database_keeps_one_rollout_at_a_time(governed: Governed) -> None:
    rollout = rolled_out(MAIL)
    again = {"workflow": rollout.workflow, "stable": rollout.stable}
    with pytest.raises(IntegrityError), transaction.atomic():
        Rollout.objects.create(**again, candidate=rollout.candidate, share=10)
    for share in (0, 10_000):
        with pytest.raises(IntegrityError), transaction.atomic():
            Rollout.objects.update(share=share)
    for status, ended_at in (("running", timezone.now()), ("completed", None)):
        with pytest.raises(IntegrityError), transaction.atomic():
            Rollout.objects.update(status=status, ended_at=ended_at)
    found = Rollout.objects.get()
    assert (found.share, found.status, found.ended_at) == (SHARE, "running", None)


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_of_several_who_publish_at_once_one_begins_a_rollout(governed: Governed) -> None:
    stable = workflow_helpers.publish(REST)
    drafts = [
        versions.draft_version(workflow_helpers.text_of(MAIL), actor=SYSTEM).pk
        for _ in range(THREADS)
    ]
    results = at_once(lambda number: versions.publish(drafts[number], actor=SYSTEM, share=SHARE))
    [published] = [found for found in results if isinstance(found, WorkflowVersion)]
    refused = [found for found in results if isinstance(found, GovernanceError)]
    assert [type(found) for found in refused] == [RolloutUnderWay] * (THREADS - 1)
    rollout = Rollout.objects.get()
    assert (rollout.stable, rollout.candidate) == (stable, published)
    assert WorkflowVersion.objects.drafts().count() == THREADS - 1


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_several_guards_take_a_version_back_once(governed: Governed) -> None:
    rolled_out(MAIL, min_runs=1)
    bad(governed)
    assert sorted(at_once(lambda number: rollouts.guard())) == [0] * (THREADS - 1) + [1]
    assert len(told("rolled_back")) == 1
