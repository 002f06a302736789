"""The five questions, answered from the log alone: who began it, what was read, what was done and
by which rules, who answered for it, what changed.
"""

import re

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import User
from actions.admin.run_chart import picture
from actions.models import Run
from actions.run_history import RecordedCall, RunHistory, run_history
from actions.services import recovery, redecision, runs
from actions.services.recovery import Resolution
from approvals.models import ApprovalRequest, Vote
from approvals.services import cast_vote
from audit.models import Event
from common.actors import Actor
from policies.models import PolicyRelease
from tests import factories
from tests.factories import Governed
from tests.toolbox import TOOLS
from tools.connectors.base import NoResponse
from tools.services.registration import define_tool

pytestmark = pytest.mark.django_db


def with_things(governed: Governed) -> None:
    """The tools of the toolbox say what their arguments and answers identify."""
    for name in ("read_account", "pay"):
        given = dict(TOOLS[name])
        key = "id" if name == "read_account" else "account"
        schema = dict(given.pop("input_schema"))
        named = {**schema["properties"][key], "x-identifies": "account"}
        schema["properties"] = {**schema["properties"], key: named}
        if name == "read_account":
            given["output_schema"] = {
                "type": "object",
                "properties": {"holder": {"type": "string", "x-data-class": "personal"}},
            }
        define_tool(governed.system, name, actor=governed.actor, input_schema=schema, **given)
    factories.publish()


def a_day(governed: Governed, rosa: User) -> Run:
    with_things(governed)
    governed.toolbox.accounts["a"] = {"frozen": False, "holder": "Ada Example"}
    run = governed.run(reference="INV-7")
    governed.toolbox.fail_with = [NoResponse("no answer")]
    mail = governed.propose(run, "toolbox.mail", {"to": "a@example.org"}).action
    recovery.resolve_unknown(
        mail.pk, actor=Actor.from_user(rosa), answer=Resolution.FAILED, reason="Not in the outbox."
    )
    governed.propose(run, "toolbox.read_account", {"id": "a"})
    paid = governed.pay(run, 500).action
    cast_vote(
        ApprovalRequest.objects.get().pk,
        actor=Actor.from_user(rosa),
        answer=Vote.Answer.APPROVE,
        reason="I know the customer.",
    )
    redecision.resume(paid.pk)
    governed.propose(run, "toolbox.mail", {"to": "b@example.org"})
    runs.close_run(
        run.pk, actor=governed.actor, identity_id=governed.identity.pk, outcome="settled"
    )
    return run


def told(run: Run) -> RunHistory:
    """The story, made from nothing but the tables of the log."""
    with CaptureQueriesContext(
        connection,
    ) as queries:
        story = run_history(Event.objects.of_run(run.pk).with_values())
    read = {name for one in queries for name in re.findall(r'"(\w+_\w+)"\.', one["sql"])}
    assert read == {"audit_event", "audit_eventpayload"}
    return story


def test_who_began_it(governed: Governed, rosa: User) -> None:
    story = told(a_day(governed, rosa))
    assert story.agent == governed.identity.client_id
    assert story.begun_at is not None
    begun = story.begun
    assert (begun["initiator_kind"], begun["initiator"]) == ("user", "somebody")
    assert (begun["purpose"], begun["reference"]) == ("testing", "INV-7")


def test_what_it_read(governed: Governed, rosa: User) -> None:
    [read] = told(a_day(governed, rosa)).sources
    assert (read.tool, read.labels, read.classes) == (
        "toolbox.read_account",
        ("confidential",),
        ("personal",),
    )
    assert read.things == [{"kind": "account", "id": "a"}]
    assert read.result == {"frozen": False, "holder": "[personal]"}


def test_what_was_done_and_by_which_rules(governed: Governed, rosa: User) -> None:
    story = told(a_day(governed, rosa))
    release = PolicyRelease.objects.live().get().number
    first, _, paid, refused = story.calls.values()
    assert first.decisions[0]["arguments"] == {"to": "a@example.org"}
    assert [made["outcome"] for made in paid.decisions] == ["needs_approval", "allowed"]
    assert paid.decisions[0]["rules"] == ["large-payments"]
    assert paid.decisions[0]["arguments"] == {"account": "a", "amount": 500, "note": ""}
    assert paid.decisions[0]["facts"] == {"frozen": False, "large": True, "huge": False}
    assert {made["release"] for made in paid.decisions} == {release}
    assert (paid.end, paid.result) == ("succeeded", {"done": "pay"})
    assert (refused.outcome, refused.end) == ("denied", "denied")
    assert refused.decisions[0]["reasons"][0]["rule"] == "no-confidential-mail"
    assert story.end["outcome"] == "settled"


def test_who_answered_for_it(governed: Governed, rosa: User) -> None:
    story = told(a_day(governed, rosa))
    [asked] = list(story.calls.values())[2].questions
    assert (asked.end, asked.tier) == ("approved", "supervisor")
    assert asked.shown["run"]["purpose"] == "testing"
    assert asked.shown["tool_title"] == "Pay"
    [answer] = asked.answers
    assert (answer.person, answer.answer, answer.reason) == (
        "rosa",
        "approve",
        "I know the customer.",
    )
    [(_, what, who, details)] = story.overrides
    assert (what, who) == ("tool.call.resolved", "rosa")
    assert (details["answer"], details["reason"]) == ("did_not_take_effect", "Not in the outbox.")


def test_what_changed(governed: Governed, rosa: User) -> None:
    story = told(a_day(governed, rosa))
    assert story.effects == [("toolbox.pay", {"kind": "account", "id": "a"})]
    assert story.end["events"] == len(Event.objects.filter(run_id__isnull=False)) - 1


def test_without_values_it_says_codes_and_no_words(governed: Governed, rosa: User) -> None:
    run = a_day(governed, rosa)
    story = run_history(Event.objects.of_run(run.pk).with_values(), with_values=False)
    assert "purpose" not in story.begun
    paid = list(story.calls.values())[2]
    assert (paid.end, paid.result, paid.questions[0].answers[0].reason) == ("succeeded", None, "")


def test_the_picture_has_a_row_for_each_action_and_a_mark_for_each_moment(
    governed: Governed, rosa: User
) -> None:
    run = a_day(governed, rosa)
    story = run_history(Event.objects.of_run(run.pk).with_values(), with_values=False)
    drawn = picture(story)
    assert drawn.count('class="name"') == 4
    assert drawn.count("<polygon") == sum(len(call.decisions) for call in story.calls.values())
    assert drawn.count('is-wait question"') == 1
    assert "rosa: approve" in drawn
    assert "Decided: needs approval by large-payments" in drawn
    assert "Decided: denied by no-confidential-mail" in drawn
    assert drawn.count(' call"') == 3
    assert picture(RunHistory()) == ""


def test_names_in_a_picture_are_text(governed: Governed) -> None:
    call = RecordedCall("1", "<script>alert(1)</script>", timezone.now())
    call.decisions.append({"outcome": "allowed", "rules": ["<b>"], "at": timezone.now()})
    drawn = picture(RunHistory(calls={"1": call}))
    assert "<script" not in drawn
    assert "<b>" not in drawn


def test_the_runs_page_shows_it_to_whoever_may_see_events(
    governed: Governed, rosa: User, admin_user: User
) -> None:
    run = a_day(governed, rosa)
    office = Client()
    office.force_login(admin_user)
    address = f"/admin/actions/run/{run.pk}/change/"
    assert 'class="picture"' in office.get(address).content.decode()
    sam = User.objects.create_user("looker", is_staff=True)
    sam.user_permissions.add(Permission.objects.get(codename="view_run"))
    office.force_login(sam)
    page = office.get(address)
    assert page.status_code == 200
    assert 'class="picture"' not in page.content.decode()
