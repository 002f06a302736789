"""Versions are written by some, published by others, and never changed."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from accounts.models import User
from actions.models import Action, Run
from approvals.errors import AlreadyRequested, NotAnApprover, OwnAgent, OwnRequest
from approvals.models import ApprovalRequest, Tier, Vote
from approvals.services import cast_vote, expire_overdue
from audit.models import Event
from common.actors import SYSTEM, Actor
from common.errors import InvalidInput, NotFound, ReasonRequired
from tests import factories
from tests import toolbox as box
from tests.factories import Governed
from tests.workflows import workflow_helpers
from tests.workflows.test_running import later
from tools.services.registration import define_tool
from workflows.errors import (
    InvalidWorkflow,
    VersionInUse,
    VersionNotADraft,
    VersionOutOfDate,
    WorkflowPaused,
)
from workflows.models import Rollout, Workflow, WorkflowRun, WorkflowVersion
from workflows.services import versions

pytestmark = pytest.mark.django_db

PAY = "steps:\n  pay: {tool: toolbox.pay, with: {account: a, amount: 1}}\n"
MAIL = "steps:\n  mail: {tool: toolbox.mail, with: {to: x}}\n"
REST_AND_PAY = """\
steps:
  rest: {wait: {for: 2h}}
  pay: {needs: [rest], tool: toolbox.pay, with: {account: a, amount: 1}}
"""
FROZEN: dict[str, Any] = {
    "number": 99,
    "text": "changed",
    "spec": {},
    "world": {},
    "digest": "changed",
    "drafted_by": "somebody else",
    "drafted_by_id": "99",
}


def draft(body: str = PAY, actor: Actor = SYSTEM) -> WorkflowVersion:
    return versions.draft_version(workflow_helpers.text_of(body), actor=actor)


def live() -> WorkflowVersion | None:
    return Workflow.objects.select_related("live").get(slug="work").live


def status_of(version: WorkflowVersion) -> str:
    return WorkflowVersion.objects.values_list("status", flat=True).get(pk=version.pk)


def changed(governed: Governed, tool: str) -> None:
    """The tool's definition as somebody changes it, and a policy release that knows of it."""
    attributes = {**box.TOOLS[tool], "description": "Now with a receipt."}
    define_tool(governed.system, tool, actor=SYSTEM, **attributes)
    factories.publish()


def vote(request: ApprovalRequest, user: User, answer: Vote.Answer = Vote.Answer.APPROVE) -> None:
    cast_vote(request.pk, actor=Actor.from_user(user), answer=answer, reason="I have read it.")


def asked(user: User, by: User | None = None) -> tuple[WorkflowVersion, ApprovalRequest]:
    """A draft by the user, and the question whether it may be published."""
    version = draft(actor=Actor.from_user(user))
    return version, versions.ask_to_publish(version.pk, actor=Actor.from_user(by or user))


# -- drafting ------------------------------------------------------------------------------------


def test_a_draft_is_numbered_and_says_who_wrote_it(governed: Governed, olga: User) -> None:
    first = draft()
    second = versions.draft_version(
        workflow_helpers.text_of(MAIL), actor=Actor.from_user(olga), note="A mail does."
    )
    assert (first.number, second.number) == (1, 2)
    second.refresh_from_db()
    assert (second.drafted_by, second.drafted_by_id) == ("olga", str(olga.pk))
    assert (second.text, second.note) == (workflow_helpers.text_of(MAIL), "A mail does.")
    assert (second.status, second.published_at) == ("draft", None)
    assert live() is None
    event = Event.objects.filter(type="workflow.version.drafted").latest("id")
    assert (event.actor_label, event.subject_label) == ("olga", "work version 2")
    assert event.details == {"number": 2, "digest": second.digest}


def test_versions_of_each_workflow_are_numbered_for_themselves(governed: Governed) -> None:
    draft()
    other = versions.draft_version(workflow_helpers.text_of(PAY, "other"), actor=SYSTEM)
    assert (other.workflow.slug, other.number) == ("other", 1)


def test_the_digest_is_of_what_is_said_and_of_the_tools_it_was_checked_against(
    governed: Governed,
) -> None:
    first = draft()
    assert draft("# As before.\n" + PAY).digest == first.digest
    assert draft(MAIL).digest != first.digest
    changed(governed, "mail")
    assert draft().digest == first.digest
    changed(governed, "pay")
    assert draft().digest != first.digest


def test_a_version_keeps_the_tools_that_it_calls_and_no_others(governed: Governed) -> None:
    version = draft(
        """\
steps:
  mail: {tool: toolbox.mail, with: {to: x}}
  all:
    foreach:
      in: "${ ['a'] }"
      max_items: 1
      steps:
        look: {tool: toolbox.read_account, with: {id: a}}
  pay:
    tool: toolbox.pay
    with: {account: a, amount: 1}
    compensate: {tool: toolbox.wipe, with: {id: a}}
"""
    )
    assert set(version.world["tools"]) == {f"toolbox.{name}" for name in box.TOOLS}
    assert set(draft(PAY).world["tools"]) == {"toolbox.pay"}
    kept = version.world["tools"]["toolbox.mail"]
    assert kept["digest"] == governed.tool("mail").definition_digest


def test_a_wrong_definition_is_refused_with_every_problem_and_nothing_is_made(
    governed: Governed,
) -> None:
    events = Event.objects.count()
    wrong = PAY.replace("toolbox.pay", "toolbox.pray") + "  mail: {tool: toolbox.mail}\n"
    with pytest.raises(InvalidWorkflow) as refusal:
        draft(wrong)
    assert refusal.value.code == "invalid_workflow_definition"
    problems = refusal.value.details["problems"]
    assert [problem["line"] for problem in problems] == [6, 7]
    assert problems[0]["message"] == "There is no tool toolbox.pray."
    assert str(refusal.value) == "Line 6: There is no tool toolbox.pray."
    assert not Workflow.objects.exists()
    assert not WorkflowVersion.objects.exists()
    assert Event.objects.count() == events


def test_the_database_refuses_to_change_a_version(governed: Governed) -> None:
    version = draft()
    before = WorkflowVersion.objects.values(*FROZEN).get()
    for column, value in FROZEN.items():
        again = WorkflowVersion.objects.get(pk=version.pk)
        setattr(again, column, value)
        with pytest.raises(IntegrityError), transaction.atomic():
            again.save()
        stored = "'{}'" if isinstance(value, dict) else f"'{value}'"
        statement = f"UPDATE workflows_workflowversion SET {column} = {stored}"
        with pytest.raises(IntegrityError), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(statement)
    assert WorkflowVersion.objects.values(*FROZEN).get() == before


def test_a_version_is_never_removed(governed: Governed) -> None:
    version = draft()
    with pytest.raises(TypeError):
        version.delete()
    assert WorkflowVersion.objects.filter(pk=version.pk).exists()


def test_the_database_refuses_to_remove_a_version(governed: Governed) -> None:
    version = draft()
    with pytest.raises(IntegrityError), transaction.atomic():
        WorkflowVersion.objects.filter(pk=version.pk).delete()
    assert WorkflowVersion.objects.filter(pk=version.pk).exists()


def test_a_version_was_published_if_and_only_if_its_status_says_so(governed: Governed) -> None:
    version = draft()
    for status, moment in (
        ("draft", timezone.now()),
        ("rejected", timezone.now()),
        ("published", None),
        ("retired", None),
        ("odd", timezone.now()),
    ):
        with pytest.raises(IntegrityError), transaction.atomic():
            WorkflowVersion.objects.update(status=status, published_at=moment)
    assert status_of(version) == "draft"


# -- asking people -------------------------------------------------------------------------------


def test_compliance_publishes_a_version(governed: Governed, clara: User, olga: User) -> None:
    former = workflow_helpers.publish(MAIL)
    version, request = asked(olga)
    assert request.tier_id == "policy"
    assert request.snapshot == {
        "workflow": "work",
        "version": 2,
        "digest": version.digest,
        "share": 10_000,
        "note": "",
        "text": version.text,
        "replaces": 1,
    }
    assert live() == former
    vote(request, clara)
    assert live() == version
    version.refresh_from_db()
    assert (version.status, version.published_by) == ("published", "clara")
    request.refresh_from_db()
    assert request.status == "approved"
    assert request.spent_at is not None
    event = Event.objects.filter(type="workflow.version.published").latest("id")
    assert event.actor_label == "clara"
    assert event.details == {"number": 2, "digest": version.digest, "share": 10_000}
    assert workflow_helpers.driven(workflow_helpers.begin(governed)).status == "succeeded"
    assert governed.toolbox.calls == ["pay"]


def test_what_people_agreed_to_is_the_share_that_they_were_shown(
    governed: Governed, clara: User, olga: User
) -> None:
    former = workflow_helpers.publish(MAIL)
    version = draft(actor=Actor.from_user(olga))
    request = versions.ask_to_publish(version.pk, actor=Actor.from_user(olga), share=500)
    vote(request, clara)
    rollout = Rollout.objects.get()
    assert (rollout.stable, rollout.candidate, rollout.share) == (former, version, 500)
    assert live() == former


def test_who_wrote_a_version_does_not_approve_it(
    governed: Governed, clara: User, admin_user: User, olga: User
) -> None:
    for writer in (clara, admin_user):
        mine, request = asked(writer)
        with pytest.raises(OwnRequest):
            vote(request, writer)
        theirs, by_another = asked(writer, by=olga)
        with pytest.raises(OwnAgent):
            vote(by_another, writer)
        assert (status_of(mine), status_of(theirs)) == ("draft", "draft")
    assert live() is None
    assert not Vote.objects.exists()
    assert ApprovalRequest.objects.pending().count() == 4


def test_who_is_not_of_compliance_does_not_approve_a_version(
    governed: Governed, rosa: User, olga: User
) -> None:
    version, request = asked(olga)
    with pytest.raises(NotAnApprover):
        vote(request, rosa)
    assert status_of(version) == "draft"
    assert live() is None


def test_a_rejected_version_is_never_published(governed: Governed, clara: User, olga: User) -> None:
    former = workflow_helpers.publish(MAIL)
    version, request = asked(olga)
    vote(request, clara, Vote.Answer.REJECT)
    assert status_of(version) == "rejected"
    assert Event.objects.get(type="workflow.version.rejected").details == {"number": 2}
    with pytest.raises(VersionNotADraft):
        versions.publish(version.pk, actor=SYSTEM)
    with pytest.raises(VersionNotADraft):
        versions.ask_to_publish(version.pk, actor=Actor.from_user(olga))
    assert status_of(version) == "rejected"
    assert live() == former
    assert ApprovalRequest.objects.count() == 1


def test_a_version_that_nobody_decides_on_is_never_published(
    governed: Governed, olga: User
) -> None:
    version, request = asked(olga)
    assert expire_overdue(now=request.expires_at + timedelta(seconds=1)) == 1
    assert status_of(version) == "rejected"
    assert live() is None


def test_people_are_asked_once_at_a_time(governed: Governed, olga: User, clara: User) -> None:
    version, request = asked(olga)
    for person in (olga, clara):
        with pytest.raises(AlreadyRequested) as refusal:
            versions.ask_to_publish(version.pk, actor=Actor.from_user(person), share=10)
        assert refusal.value.code == "already_requested"
    assert ApprovalRequest.objects.get() == request
    vote(request, clara)
    assert live() == version


def test_managers_decide_where_there_is_no_tier_for_policies(
    governed: Governed, olga: User, rosa: User
) -> None:
    Tier.objects.get(slug="policy").delete()
    version, request = asked(olga)
    assert request.tier_id == "manager"
    with pytest.raises(OwnRequest):
        vote(request, olga)
    assert live() is None
    vote(request, rosa)
    assert live() == version


# -- publishing ----------------------------------------------------------------------------------


def test_only_a_draft_is_published(governed: Governed) -> None:
    version = workflow_helpers.publish(PAY)
    before = Event.objects.count()
    for command in (versions.publish, versions.ask_to_publish):
        with pytest.raises(VersionNotADraft) as refusal:
            command(version.pk, actor=SYSTEM)
        assert refusal.value.code == "workflow_version_not_a_draft"
        with pytest.raises(NotFound):
            command(0, actor=SYSTEM)
    assert live() == version
    assert Event.objects.count() == before
    assert not ApprovalRequest.objects.exists()


def test_a_version_is_out_of_date_once_a_tool_that_it_calls_has_changed(
    governed: Governed, olga: User
) -> None:
    former, version = workflow_helpers.publish(MAIL), draft()
    changed(governed, "pay")
    before = Event.objects.count()
    for command in (versions.publish, versions.ask_to_publish):
        with pytest.raises(VersionOutOfDate, match=r"toolbox\.pay has changed") as refusal:
            command(version.pk, actor=SYSTEM)
        assert refusal.value.code == "workflow_version_out_of_date"
    version.refresh_from_db()
    assert (version.status, version.published_at, version.published_by) == ("draft", None, "")
    assert live() == former
    assert not ApprovalRequest.objects.exists()
    assert Event.objects.count() == before
    assert workflow_helpers.publish(PAY) == live()


def test_a_tool_that_a_version_does_not_call_may_change(governed: Governed) -> None:
    version = draft(PAY)
    changed(governed, "mail")
    versions.publish(version.pk, actor=SYSTEM)
    assert live() == version


def test_an_approval_of_an_outdated_version_is_refused_whole(
    governed: Governed, clara: User, olga: User
) -> None:
    version, request = asked(olga)
    changed(governed, "pay")
    with pytest.raises(VersionOutOfDate):
        vote(request, clara)
    request.refresh_from_db()
    assert (request.status, request.spent_at) == ("pending", None)
    assert not Vote.objects.exists()
    assert status_of(version) == "draft"
    assert live() is None


def test_the_first_version_takes_every_run_whatever_its_share(governed: Governed) -> None:
    version = workflow_helpers.publish(PAY, share=1)
    assert live() == version
    assert not Rollout.objects.exists()


NO_PART = (0, -1, 10_001)


def test_nothing_is_published_for_a_share_that_is_no_part(governed: Governed) -> None:
    former, version = workflow_helpers.publish(MAIL), draft()
    for share in NO_PART:
        with pytest.raises(InvalidInput) as refusal:
            versions.publish(version.pk, actor=SYSTEM, share=share)
        assert refusal.value.code == "invalid_input"
    assert status_of(version) == "draft"
    assert live() == former
    assert not Rollout.objects.exists()


def test_people_are_not_asked_about_a_share_that_is_no_part(governed: Governed, olga: User) -> None:
    workflow_helpers.publish(MAIL)
    version = draft(actor=Actor.from_user(olga))
    for share in NO_PART:
        with pytest.raises(InvalidInput):
            versions.ask_to_publish(version.pk, actor=Actor.from_user(olga), share=share)
    assert not ApprovalRequest.objects.exists()


# -- what runs go by -----------------------------------------------------------------------------


def test_a_run_is_halted_where_a_tool_is_not_the_one_it_was_checked_against(
    governed: Governed,
) -> None:
    workflow_helpers.publish(PAY)
    changed(governed, "pay")
    run = workflow_helpers.driven(workflow_helpers.begin(governed))
    step = workflow_helpers.step(run, "pay")
    assert (run.status, step.status, step.error_code) == ("halted", "denied", "tool_changed")
    assert "toolbox.pay has changed" in run.reason
    assert governed.toolbox.calls == []
    assert not Action.objects.exists()
    assert governed.pay(governed.run()).action.outcome == "allowed"  # the rules have nothing
    workflow_helpers.publish(PAY)
    assert workflow_helpers.driven(workflow_helpers.begin(governed)).status == "succeeded"
    assert governed.toolbox.calls == ["pay", "pay"]


def test_a_tool_that_changes_under_a_run_is_not_called_by_it(governed: Governed) -> None:
    run = workflow_helpers.done(governed, REST_AND_PAY)
    assert run.status == "waiting"
    changed(governed, "pay")
    run = later(run, hours=2)
    assert (run.status, workflow_helpers.step(run, "pay").error_code) == ("halted", "tool_changed")
    assert governed.toolbox.calls == []


def test_a_tool_that_changes_while_people_are_asked_is_not_called(
    governed: Governed, rosa: User
) -> None:
    run = workflow_helpers.done(governed, PAY.replace("amount: 1", "amount: 500"))
    request = ApprovalRequest.objects.pending().get()
    changed(governed, "pay")
    vote(request, rosa)
    run = workflow_helpers.driven(run)
    assert (run.status, workflow_helpers.steps(run)) == ("halted", {"pay": "denied"})
    action = Action.objects.get()
    assert action.redecision is not None
    assert action.redecision["reasons"][0]["rule"] == "chancery:tool-changed"
    assert governed.toolbox.calls == []


def test_a_run_finishes_on_the_version_that_it_was_started_on(governed: Governed) -> None:
    first = workflow_helpers.publish(REST_AND_PAY)
    run = workflow_helpers.driven(workflow_helpers.begin(governed))
    second = workflow_helpers.publish(MAIL)
    assert live() == second
    new = workflow_helpers.driven(workflow_helpers.begin(governed))
    assert (new.version, new.status) == (second, "succeeded")
    run = later(run, hours=2)
    assert (run.version, run.status) == (first, "succeeded")
    assert workflow_helpers.steps(run) == {"rest": "succeeded", "pay": "succeeded"}
    assert governed.toolbox.calls == ["mail", "pay"]


def test_steps_that_do_not_need_one_another_are_taken_as_they_are_written(
    governed: Governed,
) -> None:
    written = ["zeta_first", "mid", "a"]
    lines = [f"  {name}: {{tool: toolbox.mail, with: {{to: {name}}}}}\n" for name in written]
    workflow_helpers.publish("steps:\n" + "".join(lines))
    assert workflow_helpers.driven(workflow_helpers.begin(governed)).status == "succeeded"
    assert [arguments["to"] for _, arguments in governed.toolbox.effects] == written


# -- retiring and pausing ------------------------------------------------------------------------


def retire(version: WorkflowVersion, reason: str = "It is replaced.") -> WorkflowVersion:
    return versions.retire_version(version.pk, actor=SYSTEM, reason=reason)


def test_a_version_is_retired_once_all_its_runs_are_finished(governed: Governed) -> None:
    first = workflow_helpers.publish(REST_AND_PAY)
    run = workflow_helpers.driven(workflow_helpers.begin(governed))
    workflow_helpers.publish(MAIL)
    with pytest.raises(VersionInUse) as refusal:
        retire(first)
    assert refusal.value.code == "workflow_version_in_use"
    assert status_of(first) == "published"
    assert later(run, hours=2).status == "succeeded"
    retire(first)
    assert status_of(first) == "retired"
    event = Event.objects.get(type="workflow.version.retired")
    assert event.details == {"number": 1, "reason": "It is replaced."}


def test_a_version_with_a_halted_run_is_not_retired(governed: Governed) -> None:
    first = workflow_helpers.publish(PAY)
    changed(governed, "pay")
    assert workflow_helpers.driven(workflow_helpers.begin(governed)).status == "halted"
    workflow_helpers.publish(MAIL)
    with pytest.raises(VersionInUse):
        retire(first)
    assert status_of(first) == "published"


def test_what_new_runs_start_on_is_not_retired(governed: Governed) -> None:
    stable = workflow_helpers.publish(PAY)
    candidate = workflow_helpers.publish(MAIL, share=500)
    for version in (stable, candidate):
        with pytest.raises(VersionInUse):
            retire(version)
        assert status_of(version) == "published"
    assert not Event.objects.filter(type="workflow.version.retired").exists()


def test_retiring_needs_a_published_version_and_a_reason(governed: Governed) -> None:
    first, second = workflow_helpers.publish(PAY), workflow_helpers.publish(MAIL)
    with pytest.raises(ReasonRequired):
        retire(first, reason="  ")
    assert status_of(first) == "published"
    retire(first)
    for version in (first, draft()):
        before = status_of(version)
        with pytest.raises(NotFound):
            retire(version)
        assert status_of(version) == before
    with pytest.raises(NotFound):
        versions.retire_version(0, actor=SYSTEM, reason="Why not.")
    assert live() == second


def pause(*, paused: bool, reason: str = "An audit is on.") -> Workflow:
    found = workflow_helpers.workflow()
    return versions.pause_workflow(found.pk, actor=SYSTEM, paused=paused, reason=reason)


def test_a_paused_workflow_starts_nothing_and_lets_runs_go_on(governed: Governed) -> None:
    run = workflow_helpers.done(governed, REST_AND_PAY)
    pause(paused=True)
    with pytest.raises(WorkflowPaused) as refusal:
        workflow_helpers.begin(governed)
    assert refusal.value.code == "workflow_paused"
    assert (WorkflowRun.objects.get(), Run.objects.get().pk) == (run, run.pk)
    assert later(run, hours=2).status == "succeeded"
    assert governed.toolbox.calls == ["pay"]
    pause(paused=False, reason="It is over.")
    assert workflow_helpers.driven(workflow_helpers.begin(governed)).status == "waiting"
    told = Event.objects.about("workflows.workflow", workflow_helpers.workflow().pk)
    told = told.filter(type__startswith="workflow.").order_by("id")
    assert [(event.type, event.details) for event in told] == [
        ("workflow.paused", {"reason": "An audit is on."}),
        ("workflow.unpaused", {"reason": "It is over."}),
    ]


def test_pausing_needs_a_workflow_and_a_reason(governed: Governed) -> None:
    workflow_helpers.publish(PAY)
    with pytest.raises(ReasonRequired):
        pause(paused=True, reason=" ")
    with pytest.raises(NotFound):
        versions.pause_workflow(0, actor=SYSTEM, paused=True, reason="Why not.")
    assert not workflow_helpers.workflow().paused
    assert not Event.objects.filter(type="workflow.paused").exists()


def test_a_later_version_that_is_live_hides_no_writer(
    governed: Governed, olga: User, clara: User, rosa: User
) -> None:
    draft(actor=Actor.from_user(clara))
    second = draft(actor=Actor.from_user(olga))
    third = draft(MAIL, actor=Actor.from_user(rosa))
    versions.publish(third.pk, actor=SYSTEM)
    request = versions.ask_to_publish(second.pk, actor=Actor.from_user(olga))
    with pytest.raises(OwnAgent):
        vote(request, clara)
    assert status_of(second) == "draft"


def test_a_publication_that_was_compared_with_a_former_version_is_not_done(
    governed: Governed, clara: User, olga: User
) -> None:
    _, waiting = asked(olga)
    assert versions.PUBLICATION.outdated([waiting]) == {}
    other = draft(MAIL)
    versions.publish(other.pk, actor=SYSTEM)

    with pytest.raises(VersionOutOfDate, match=f"New runs start on version {other.number}"):
        vote(waiting, clara)
    assert live() == other
    waiting.refresh_from_db()
    assert (waiting.status, waiting.votes.count()) == ("pending", 0)
    assert list(versions.PUBLICATION.outdated([waiting])) == [waiting.pk]
