"""The pages of workflows and their versions, as people with and without a right use them."""

from typing import Any

import pytest

from accounts.models import Environment, Groups, User
from actions.models import Action, Run
from approvals.errors import OwnAgent, OwnRequest
from approvals.models import ApprovalRequest
from common.actors import SYSTEM
from tests import factories
from tests import toolbox as box
from tests.factories import Governed
from tests.workflows import workflow_helpers
from tests.workflows.admin_client import NOT_POSSIBLE, REASON, Browser, person, recorded, said
from tests.workflows.assertions import nothing_changed
from tests.workflows.test_undoing import BACK
from tools.connectors.base import Refused
from tools.services.registration import define_tool
from workflows.models import Rollout, Workflow, WorkflowRun, WorkflowVersion
from workflows.services import versions

pytestmark = pytest.mark.django_db

BODY = f"""\
inputs: {{type: object, properties: {{amount: {{type: number, default: 1}}}}}}
steps:
  look: {{title: Look it up, tool: toolbox.read_account, with: {{id: a}}}}
  pay:
    title: Pay the account
    needs: [look]
    tool: toolbox.pay
    with: {{account: a, amount: "${{ inputs.amount }}"}}
    {BACK % 7}
  told: {{title: Be told, needs: [pay], wait: {{signal: paid, timeout: 1h}}}}
"""
MAIL = "steps:\n  mail: {tool: toolbox.mail, with: {to: x}}\n"
REST = "steps:\n  rest: {wait: {for: 2h}}\n"
SCRIPT = "<script>alert(1)</script>"


def draft(body: str = BODY) -> WorkflowVersion:
    return versions.draft_version(workflow_helpers.text_of(body), actor=SYSTEM)


# -- writing a version ---------------------------------------------------------------------------


def test_a_version_is_written_and_becomes_a_draft(governed: Governed, wanda: Browser) -> None:
    assert said("workflow: my-workflow", wanda.shows("workflows_workflow_write"))
    text = workflow_helpers.text_of(BODY).replace("\n", "\r\n")  # as a browser sends it
    html = wanda.does("workflows_workflow_write", text=text, note="To begin with.")
    assert said("The draft is saved. Ask for it to be published.", html)
    version = WorkflowVersion.objects.get()
    assert (version.number, version.status, version.note) == (1, "draft", "To begin with.")
    assert (version.drafted_by, version.workflow.live) == ("wanda", None)
    html = wanda.shows("workflows_workflowversion_change", version.pk)
    assert said("Ask to publish it", html)
    assert said("Pay the account", html)


def test_the_next_version_is_written_from_this_one(governed: Governed, wanda: Browser) -> None:
    first = draft()
    html = wanda.shows("workflows_workflowversion_edit", first.pk)
    assert said("title: Pay the account", html)
    text = first.text.replace("timeout: 1h", "timeout: 2h")
    wanda.does("workflows_workflowversion_edit", first.pk, text=text)
    second = WorkflowVersion.objects.get(number=2)
    html = wanda.shows("workflows_workflowversion_change", second.pk)
    assert said("What changes from version 1", html)
    changed = next(line for line in html.splitlines() if "timeout: 2h" in line)
    assert '<span class="del">' in changed
    assert '<span class="add">' in changed


WRONG = """\
workflow: work
title: Work
schema: 1
roles: [keepers, strangers]
steps:
  pay: {tool: toolbox.play, with: {account: a, amount: 1}}
  tell:
    needs: [pay]
    tool: toolbox.mail
    with: {to: "${ inputs.who }"}
"""


def test_a_wrong_text_is_shown_with_each_line_marked(governed: Governed, wanda: Browser) -> None:
    with nothing_changed():
        html = wanda.is_refused("workflows_workflow_write", text=WRONG, note="Hm.")
    assert said("Line 4: There is no role strangers.", html)
    assert said("Line 6: There is no tool toolbox.play.", html)
    assert said("Line 10: Undeclared reference to 'inputs.who'", html)
    lines = html.partition('<pre class="code-lines">')[2].partition("</pre>")[0]
    assert lines.count("<span") == len(WRONG.splitlines())
    marked = [part.partition("</span>")[0] for part in lines.split('<span class="wrong">')[1:]]
    assert [line.split(":")[0].strip() for line in marked] == ["roles", "pay", "with"]
    assert said(WRONG.splitlines()[9], html)  # nothing that was typed is lost
    assert said("Hm.", html)


def test_a_text_that_cannot_be_read_says_where(governed: Governed, wanda: Browser) -> None:
    with nothing_changed():
        for text, line in (
            ("workflow: [", 1),
            ("steps:\n  a: &x 1\n  b: *x\n", 2),
            ("workflow: w\nworkflow: w\n", 2),
            ("just text", 1),
            ("a: !!python/object:os.system x", 1),
        ):
            html = wanda.is_refused("workflows_workflow_write", text=text)
            assert said(f"Line {line}: ", html)
            assert html.count('<span class="wrong">') == 1


def test_an_empty_or_endless_text_is_not_taken(governed: Governed, wanda: Browser) -> None:
    with nothing_changed():
        for text in ("", "   ", "#" * 100_001, "a: '\x00'"):
            wanda.is_refused("workflows_workflow_write", text=text)


# -- publishing it -------------------------------------------------------------------------------


def asked(wanda: Browser, share: float = 100) -> tuple[WorkflowVersion, ApprovalRequest]:
    """A version that Wanda wrote and asks to have published."""
    wanda.does("workflows_workflow_write", text=workflow_helpers.text_of(BODY), note="It pays.")
    version = WorkflowVersion.objects.latest("pk")
    html = wanda.does("workflows_workflowversion_ask", version.pk, share=share)
    assert said("Submitted for approval.", html)
    return version, ApprovalRequest.objects.pending().get()


def answers(browser: Browser, request: ApprovalRequest, answer: str = "approve") -> str:
    fields = {"answer": answer, "reason": "I have read it."}
    return browser.does("approvals_approvalrequest_decide", request.pk, **fields)


def test_another_person_publishes_it_from_the_inbox(
    governed: Governed, wanda: Browser, cora: Browser
) -> None:
    version, request = asked(wanda)
    inbox = cora.shows("approvals_approvalrequest_changelist")
    assert said("Publish work version 1", inbox)
    html = cora.shows("approvals_approvalrequest_change", request.pk)
    assert said("title: Pay the account", html)
    assert said("It pays.", html)
    assert said("Your answer is recorded.", answers(cora, request))
    version.refresh_from_db()
    assert (version.status, version.published_by) == ("published", "cora")
    assert workflow_helpers.workflow().live == version
    html = wanda.shows("workflows_workflow_change", version.workflow_id)
    assert said("Version 1, as it runs now", html)
    assert said("Start a run", html)


def test_nobody_publishes_what_they_wrote(governed: Governed, tiers: Any) -> None:
    both = Browser(person("both", "add_workflowversion", groups=(Groups.COMPLIANCE,)))
    _, request = asked(both)
    html = both.shows("approvals_approvalrequest_change", request.pk)
    assert said(OwnRequest.sentence, html)
    with nothing_changed():
        html = both.is_refused(
            "approvals_approvalrequest_decide", request.pk, answer="approve", reason="Mine."
        )
    assert said(OwnRequest.sentence, html)
    assert workflow_helpers.workflow().live is None


def test_nobody_publishes_what_they_wrote_though_another_asked(
    governed: Governed, wanda: Browser, tiers: Any
) -> None:
    both = Browser(person("both", "add_workflowversion", groups=(Groups.COMPLIANCE,)))
    both.does("workflows_workflow_write", text=workflow_helpers.text_of(BODY))
    wanda.does("workflows_workflowversion_ask", WorkflowVersion.objects.get().pk, share=100)
    request = ApprovalRequest.objects.get()
    with nothing_changed():
        html = both.is_refused(
            "approvals_approvalrequest_decide", request.pk, answer="approve", reason="Mine."
        )
    assert said(OwnAgent.sentence, html)


def test_a_share_of_new_runs_is_asked_for(
    governed: Governed, wanda: Browser, cora: Browser
) -> None:
    first = workflow_helpers.publish(BODY)
    version, request = asked(wanda, share=12.5)
    answers(cora, request)
    rollout = Rollout.objects.get()
    assert (rollout.stable, rollout.candidate, rollout.share) == (first, version, 1_250)
    assert workflow_helpers.workflow().live == first


def test_a_version_that_was_not_approved_is_not_live(
    governed: Governed, wanda: Browser, cora: Browser
) -> None:
    version, request = asked(wanda)
    answers(cora, request, "reject")
    version.refresh_from_db()
    assert (version.status, workflow_helpers.workflow().live) == ("rejected", None)
    html = wanda.does("workflows_workflowversion_ask", version.pk, share=100)
    assert said(NOT_POSSIBLE, html)
    assert not ApprovalRequest.objects.pending().exists()


def test_a_version_is_asked_about_once_and_while_it_is_current(
    governed: Governed, wanda: Browser, cora: Browser
) -> None:
    version, request = asked(wanda)
    with nothing_changed():
        html = wanda.is_refused("workflows_workflowversion_ask", version.pk, share=100)
    assert said("People have already been asked to publish this version.", html)
    define_tool(governed.system, "pay", actor=SYSTEM, **box.TOOLS["pay"], description="Changed.")
    with nothing_changed():
        fields = {"answer": "approve", "reason": "I have read it."}
        html = cora.is_refused("approvals_approvalrequest_decide", request.pk, **fields)
    assert said("toolbox.pay has changed since this version was drafted", html)
    assert workflow_helpers.workflow().live is None


def test_a_share_that_is_none_is_not_asked_for(governed: Governed, wanda: Browser) -> None:
    version = draft()
    with nothing_changed():
        for share in ("", "0", "-1", "100.1", "a lot", "nan", "inf", "0.001"):
            wanda.is_refused("workflows_workflowversion_ask", version.pk, share=share)


def test_a_version_is_retired_when_nothing_needs_it(governed: Governed, oscar: Browser) -> None:
    first, second = workflow_helpers.publish(REST), workflow_helpers.publish(BODY)
    with nothing_changed():
        html = oscar.is_refused("workflows_workflowversion_retire", second.pk, **REASON)
        assert said("it is the one that new runs start on", html)
        oscar.is_refused("workflows_workflowversion_retire", first.pk, reason="  ")
    oscar.does("workflows_workflowversion_retire", first.pk, **REASON)
    first.refresh_from_db()
    assert first.status == "retired"
    assert recorded("workflow.version.retired")[0] == "oscar"


# -- a workflow ----------------------------------------------------------------------------------


def test_a_person_starts_a_run_for_an_agent(governed: Governed, wanda: Browser) -> None:
    workflow = workflow_helpers.publish(BODY).workflow
    assert said("tilda.prod", wanda.shows("workflows_workflow_start", workflow.pk))
    fields = {"inputs": '{"amount": 3}', "purpose": "Ticket 7."}
    html = wanda.does(
        "workflows_workflow_start", workflow.pk, identity=governed.identity.pk, **fields
    )
    assert said("The run is started.", html)
    started = WorkflowRun.objects.get()
    run = Run.objects.get(pk=started.pk)
    assert (started.inputs, started.status) == ({"amount": 3}, "running")
    assert (run.initiator_kind, run.initiator, run.purpose) == ("user", "wanda", "Ticket 7.")
    assert run.agent == "tilda"
    assert workflow_helpers.driven(started).status == "waiting"
    assert governed.toolbox.effects[0][1]["amount"] == 3


MISFITS = [
    ("{", "This is not JSON."),
    ("[1]", "This must be a JSON object"),
    ("7", "This must be a JSON object"),
    ('{"amount": "x"}', "amount: breaks the rule"),
    ('{"more": 1}', "breaks the rule"),
    ('{"amount": NaN}', "Numbers must be finite."),
    ('{"amount": "\\u0000"}', "Text must be valid Unicode"),
]


def test_a_run_is_not_started_with_inputs_that_do_not_fit(
    governed: Governed, wanda: Browser
) -> None:
    workflow = workflow_helpers.publish(BODY).workflow
    fields = {"identity": governed.identity.pk, "purpose": "Ticket 7."}
    with nothing_changed():
        for inputs, why in MISFITS:
            html = wanda.is_refused(
                "workflows_workflow_start", workflow.pk, inputs=inputs, **fields
            )
            assert said(why, html)


def test_inputs_may_be_nested_too_deep_to_be_read(governed: Governed, wanda: Browser) -> None:
    workflow = workflow_helpers.publish(BODY).workflow
    fields = {"identity": governed.identity.pk, "inputs": "[" * 50_000, "purpose": "Ticket 7."}
    with nothing_changed():
        html = wanda.is_refused("workflows_workflow_start", workflow.pk, **fields)
    assert said("This is not JSON.", html)


def test_a_run_is_started_only_within_the_agents_rights(
    governed: Governed, wanda: Browser, olga: User, prod: Environment
) -> None:
    workflow = workflow_helpers.publish(BODY).workflow
    bob = factories.identity("bob", owner=olga, environment=prod)
    with nothing_changed():
        fields = {"inputs": "{}", "purpose": "Ticket 7."}
        html = wanda.is_refused("workflows_workflow_start", workflow.pk, identity=bob.pk, **fields)
        assert said("No role of this agent may start this workflow.", html)
        for wrong in ({"identity": ""}, {"identity": 0}, {"purpose": ""}):
            wanda.is_refused(
                "workflows_workflow_start",
                workflow.pk,
                **{"identity": governed.identity.pk, **fields, **wrong},
            )


def test_a_workflow_is_paused_and_started_again(
    governed: Governed, oscar: Browser, wanda: Browser
) -> None:
    workflow = workflow_helpers.publish(BODY).workflow
    html = oscar.does("workflows_workflow_pause", workflow.pk, **REASON)
    assert said("paused", html)
    assert recorded("workflow.paused") == ("oscar", REASON)
    assert not said("Start a run", wanda.shows("workflows_workflow_change", workflow.pk))
    with nothing_changed():
        html = wanda.does("workflows_workflow_start", workflow.pk, identity="1", purpose="x")
        assert said("Start a run: this is not possible as things are now.", html)
        oscar.is_refused("workflows_workflow_unpause", workflow.pk, reason=" ")
    oscar.does("workflows_workflow_unpause", workflow.pk, reason="It works again.")
    assert not Workflow.objects.get().paused
    assert recorded("workflow.unpaused") == ("oscar", {"reason": "It works again."})


# -- a rollout -----------------------------------------------------------------------------------


@pytest.fixture
def rollout(governed: Governed) -> Rollout:
    """Version 2 for 30 % of new runs, beside version 1."""
    workflow_helpers.publish(REST)
    workflow_helpers.publish(MAIL, share=3_000)
    return Rollout.objects.get()


def test_a_rollouts_share_is_changed(rollout: Rollout, oscar: Browser) -> None:
    assert said("30 %", oscar.shows("workflows_rollout_change", rollout.pk))
    oscar.does("workflows_rollout_share", rollout.pk, share="62.5")
    rollout.refresh_from_db()
    assert rollout.share == 6_250
    assert recorded("workflow.rollout.changed") == ("oscar", {"share": 6_250})
    with nothing_changed():
        for share in ("0", "100", "-5", "nan", "", "half"):
            oscar.is_refused("workflows_rollout_share", rollout.pk, share=share)


@pytest.mark.parametrize(
    ("page", "status", "live"), [("complete", "completed", 2), ("roll_back", "rolled_back", 1)]
)
def test_a_rollout_is_ended_with_a_reason(
    rollout: Rollout, oscar: Browser, page: str, status: str, live: int
) -> None:
    with nothing_changed():
        oscar.is_refused(f"workflows_rollout_{page}", rollout.pk, reason="")
    oscar.does(f"workflows_rollout_{page}", rollout.pk, **REASON)
    rollout.refresh_from_db()
    assert (rollout.status, rollout.reason) == (status, REASON["reason"])
    assert recorded(f"workflow.rollout.{status}")[0] == "oscar"
    found = workflow_helpers.workflow().live
    assert found is not None
    assert found.number == live
    with nothing_changed():
        for other in ("share", "complete", "roll_back"):
            html = oscar.does(f"workflows_rollout_{other}", rollout.pk, share="50", **REASON)
            assert said(NOT_POSSIBLE, html)


def test_a_rollout_shows_how_both_versions_do(
    rollout: Rollout, governed: Governed, oscar: Browser
) -> None:
    Rollout.objects.update(share=9_999)
    governed.toolbox.fail_with = [Refused("No.")]
    workflow_helpers.driven(workflow_helpers.begin(governed))
    workflow_helpers.driven(workflow_helpers.begin(governed))
    html = oscar.shows("workflows_rollout_change", rollout.pk)
    assert said("Version 2 (new)", html)
    assert '<p class="figure">50.0 %</p>' in html
    assert '<p class="figure">2</p>' in html


# -- who may -------------------------------------------------------------------------------------


def test_who_may_only_look_does_nothing(governed: Governed, vera: Browser) -> None:
    stable = workflow_helpers.publish(REST)
    run = workflow_helpers.driven(workflow_helpers.begin(governed))
    rollout = workflow_helpers.publish(BODY, share=1_000).workflow.rollouts.get()
    commands: list[tuple[str, tuple[Any, ...]]] = [
        ("workflows_workflow_write", ()),
        ("workflows_workflow_start", (stable.workflow_id,)),
        ("workflows_workflow_pause", (stable.workflow_id,)),
        ("workflows_workflow_unpause", (stable.workflow_id,)),
        ("workflows_workflowversion_ask", (draft().pk,)),
        ("workflows_workflowversion_edit", (stable.pk,)),
        ("workflows_workflowversion_retire", (stable.pk,)),
        *((f"workflows_rollout_{x}", (rollout.pk,)) for x in ("share", "complete", "roll_back")),
        *((f"workflows_workflowrun_{x}", (run.pk,)) for x in ("resume", "undo", "cancel")),
        ("workflows_workflowrun_signal", (run.pk,)),
    ]
    fields = {
        "identity": governed.identity.pk,
        "inputs": "{}",
        "purpose": "To see.",
        "share": 50,
        "text": workflow_helpers.text_of(BODY),
        "name": "paid",
        **REASON,
    }
    with nothing_changed():
        for page, args in commands:
            assert vera.is_kept_out(page, *args, **fields), page


def test_a_right_opens_its_own_pages_and_no_others(
    governed: Governed, wanda: Browser, oscar: Browser, tina: Browser
) -> None:
    version = workflow_helpers.publish(BODY)
    run = workflow_helpers.driven(workflow_helpers.begin(governed))
    fields = {"text": workflow_helpers.text_of(BODY), "share": 50, "name": "paid", **REASON}
    closed: list[tuple[Browser, str, tuple[Any, ...]]] = [
        (wanda, "workflows_workflow_pause", (version.workflow_id,)),
        (wanda, "workflows_workflowversion_retire", (version.pk,)),
        (wanda, "workflows_workflowrun_cancel", (run.pk,)),
        (oscar, "workflows_workflow_write", ()),
        (oscar, "workflows_workflow_start", (version.workflow_id,)),
        (oscar, "workflows_workflowversion_ask", (draft().pk,)),
        (tina, "workflows_workflow_write", ()),
        (tina, "workflows_workflow_start", (version.workflow_id,)),
        (tina, "workflows_workflowrun_signal", (run.pk,)),
    ]
    with nothing_changed():
        for browser, page, args in closed:
            assert browser.is_kept_out(page, *args, **fields), page


# -- what people wrote ---------------------------------------------------------------------------

STRANGE = f"""\
workflow: work
title: "{SCRIPT}"
description: "{SCRIPT}"
schema: 1
roles: [keepers]
inputs: {{type: object, properties: {{why: {{type: string, default: "{SCRIPT}"}}}}}}
steps:
  mail:
    title: "{SCRIPT}"
    tool: toolbox.mail
    with: {{to: "{SCRIPT}"}}
    irreversible: "{SCRIPT}"
  ask:
    needs: [mail]
    approval: {{tier: supervisor, question: "{SCRIPT}", show: {{why: "${{ inputs.why }}"}}}}
output: {{why: "${{ inputs.why }}"}}
"""


@pytest.fixture
def strange(governed: Governed, wanda: Browser, oscar: Browser) -> list[tuple[str, Any]]:
    """Pages that show what somebody wrote as if it were a script."""
    wanda.does("workflows_workflow_write", text=STRANGE, note=SCRIPT)
    first = WorkflowVersion.objects.get()
    versions.publish(first.pk, actor=SYSTEM)
    fields = {"identity": governed.identity.pk, "inputs": "{}", "purpose": SCRIPT}
    wanda.does("workflows_workflow_start", first.workflow_id, **fields)
    governed.toolbox.fail_with = [Refused(SCRIPT)]
    failed = workflow_helpers.driven(WorkflowRun.objects.get())
    waiting = workflow_helpers.driven(workflow_helpers.begin(governed, purpose=SCRIPT))
    assert (failed.status, waiting.status) == ("failed", "waiting")
    versions.publish(draft(MAIL).pk, actor=SYSTEM, share=100)
    rollout = Rollout.objects.get()
    oscar.does("workflows_rollout_roll_back", rollout.pk, reason=SCRIPT)
    return [
        ("workflows_workflow_changelist", ()),
        ("workflows_workflow_change", (first.workflow_id,)),
        ("workflows_workflowversion_changelist", ()),
        ("workflows_workflowversion_change", (first.pk,)),
        ("workflows_workflowversion_edit", (first.pk,)),
        ("workflows_rollout_changelist", ()),
        ("workflows_rollout_change", (rollout.pk,)),
        ("workflows_workflowrun_changelist", ()),
        ("workflows_workflowrun_change", (failed.pk,)),
        ("workflows_workflowrun_change", (waiting.pk,)),
        ("actions_run_change", (failed.pk,)),
        ("actions_action_change", (Action.objects.get(run_id=failed.pk).pk,)),
        ("approvals_approvalrequest_changelist", ()),
        ("approvals_approvalrequest_change", (ApprovalRequest.objects.get().pk,)),
    ]


def test_pages_show_what_people_wrote_as_text(
    strange: list[tuple[str, Any]], wanda: Browser, admin_user: User
) -> None:
    office = Browser(admin_user)
    for page, args in strange:
        html = office.shows(page, *args)
        assert "<script>alert" not in html, page
        assert "alert(1)" in html, page
    html = wanda.is_refused("workflows_workflow_write", text=f"{SCRIPT}: [", note=SCRIPT)
    assert "<script>alert" not in html
    assert said(f"{SCRIPT}: [", html)
