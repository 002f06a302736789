"""Who may start a run of what, with which inputs; and that asking twice starts one."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from accounts.models import Environment, User
from actions.models import Run
from actions.services.runs import Budget
from agents.errors import InvalidToken
from agents.models import AgentIdentity
from agents.services import lifecycle
from agents.tokens import Caller
from audit.models import Event
from common.actors import SYSTEM, Actor
from common.errors import GovernanceError
from policies.services import grants
from tests import factories
from tests.actions.test_races import THREADS, at_once
from tests.conftest import Hints
from tests.factories import Governed
from tests.workflows import workflow_helpers
from workflows.errors import (
    InvalidWorkflowInputs,
    NotAllowedToStart,
    NothingPublished,
    RunKeyReused,
    UnknownWorkflow,
    WorkflowPaused,
)
from workflows.models import WorkflowRun
from workflows.services import runs, versions
from workflows.services.runs import Start

pytestmark = pytest.mark.django_db

BODY = """\
inputs:
  type: object
  required: [account]
  additionalProperties: false
  properties:
    account: {type: string, maxLength: 20}
    amount: {type: number, maximum: 50, default: 5}
    tags: {type: array, items: {type: string}, default: [new]}
limits: {deadline: 3h, actions: 10, amount: 100}
steps:
  pay:
    tool: toolbox.pay
    with: {account: "${ inputs.account }", amount: "${ inputs.amount }"}
"""
SECRET = "4711-secret"


@pytest.fixture
def published(governed: Governed) -> Governed:
    """Tilda, and a workflow that she may start."""
    workflow_helpers.publish(BODY)
    return governed


@pytest.fixture
def bob(governed: Governed, olga: User, prod: Environment) -> AgentIdentity:
    """Bob, another agent in production, in no role."""
    return factories.identity("bob", owner=olga, environment=prod)


def asked(inputs: Any = None, **given: Any) -> Start:
    return Start(
        workflow=given.pop("workflow", "work"),
        inputs={"account": "a"} if inputs is None else inputs,
        key=given.pop("key", "k"),
        initiator_kind=Run.Initiator.USER,
        initiator="somebody",
        **given,
    )


def start(caller: Caller, what: Start) -> tuple[WorkflowRun, bool]:
    client_id = caller.identity.client_id
    return runs.start(caller, what, actor=Actor("agent", client_id, client_id))


def made() -> tuple[set[Any], set[Any], int]:
    runs = set(Run.objects.values_list("pk", flat=True))
    return runs, set(WorkflowRun.objects.values_list("pk", flat=True)), Event.objects.count()


@contextmanager
def refused(refusal: type[GovernanceError], code: str) -> Iterator[list[str]]:
    """The block is refused so, and made no run, no workflow run and no event of one."""
    before = made()
    said: list[str] = []
    with pytest.raises(refusal) as found:
        yield said
    said.append(f"{found.value} {found.value.details}")
    assert found.value.code == code
    assert made() == before


# -- a run ---------------------------------------------------------------------------------------


def test_a_run_is_started_within_a_run_of_its_agent(
    published: Governed, hints: Hints, django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        run, is_new = start(published.caller, asked(reference="INV-1", labels=("b", "a")))
    assert is_new
    assert hints.of("workflows.drive") == [str(run.pk)]
    opened = Run.objects.get(pk=run.pk)
    assert (opened.identity, opened.status) == (published.identity, "open")
    assert (opened.purpose, opened.reference) == ("work", "INV-1")
    assert opened.labels == ["a", "b"]
    assert (run.status, run.ended_at) == ("running", None)
    assert run.deadline_at - run.started_at == timedelta(hours=3)
    assert run.next_wake_at == run.started_at
    events = Event.objects.of_run(run.pk).order_by("id")
    assert [event.type for event in events] == ["run.started", "workflow.run.started"]
    assert events[1].details == {
        "workflow": "work",
        "version": run.version_id,
        "digest": run.version.digest,
        "inputs": {"account": "a", "amount": 5, "tags": ["new"]},
        "parent": "",
    }


def test_the_smaller_of_two_budgets_holds(published: Governed) -> None:
    for given, actions, amount in (
        (Budget(), 10, 100),
        (Budget(actions=3), 3, 100),
        (Budget(actions=30, amount=Decimal(200)), 10, 100),
        (Budget(amount=Decimal(7)), 10, 7),
    ):
        run, _ = start(published.caller, asked(budget=given, key=str(given)))
        opened = Run.objects.get(pk=run.pk)
        assert opened.budget_actions == actions
        assert opened.budget_amount == amount


# -- asking twice --------------------------------------------------------------------------------


def test_the_same_key_gives_the_same_run_again(
    published: Governed, hints: Hints, django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        run, _ = start(published.caller, asked({"account": "a", "amount": 7}))
        again, is_new = start(published.caller, asked({"amount": 7.0, "account": "a"}))
    assert (again, is_new) == (run, False)
    assert WorkflowRun.objects.get() == run
    assert Run.objects.count() == 1
    assert hints.of("workflows.drive") == [str(run.pk)]


def test_the_same_key_for_other_inputs_is_refused(published: Governed) -> None:
    run, _ = start(published.caller, asked())
    for inputs in ({"account": "b"}, {"account": "a", "amount": 5}, {}):
        with refused(RunKeyReused, "idempotency_key_reused"):
            start(published.caller, asked(inputs))
    assert WorkflowRun.objects.get().inputs == run.inputs


def test_a_key_is_its_agents_and_its_workflows_own(published: Governed, bob: AgentIdentity) -> None:
    grants.add_member(published.role, bob, actor=SYSTEM)
    workflow_helpers.publish(BODY, slug="other")
    runs = {
        start(published.caller, asked())[0].pk,
        start(published.caller, asked(workflow="other"))[0].pk,
        start(factories.caller_for(bob), asked())[0].pk,
        start(published.caller, asked(key="another"))[0].pk,
    }
    assert len(runs) == 4


def test_a_known_key_is_answered_whatever_has_changed_since(published: Governed) -> None:
    run, _ = start(published.caller, asked())
    versions.pause_workflow(
        workflow_helpers.workflow().pk, actor=SYSTEM, paused=True, reason="An audit is on."
    )
    assert start(published.caller, asked()) == (run, False)
    assert WorkflowRun.objects.count() == 1


def test_a_refused_start_leaves_its_key_free(published: Governed) -> None:
    with refused(InvalidWorkflowInputs, "invalid_workflow_inputs"):
        start(published.caller, asked({}))
    run, is_new = start(published.caller, asked())
    assert is_new
    assert WorkflowRun.objects.get() == run


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_eight_with_one_key_start_one_run(published: Governed, hints: Hints) -> None:
    results = at_once(lambda number: start(published.caller, asked()))
    run = WorkflowRun.objects.get()
    assert [found.pk for found, _ in results] == [run.pk] * THREADS
    assert [is_new for _, is_new in results].count(True) == 1
    assert Run.objects.get().pk == run.pk
    assert Event.objects.filter(type="workflow.run.started").count() == 1
    assert hints.of("workflows.drive") == [str(run.pk)]


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_of_eight_with_one_key_and_other_inputs_one_starts(published: Governed) -> None:
    results = at_once(
        lambda number: start(published.caller, asked({"account": f"account-{number}"}))
    )
    refusals = [found for found in results if isinstance(found, Exception)]
    assert [type(found) for found in refusals] == [RunKeyReused] * (THREADS - 1)
    assert WorkflowRun.objects.count() == Run.objects.count() == 1


# -- inputs --------------------------------------------------------------------------------------


def test_what_is_not_given_has_its_default(published: Governed) -> None:
    run, _ = start(published.caller, asked({"account": "a"}))
    assert run.inputs == {"account": "a", "amount": 5, "tags": ["new"]}
    given = {"account": "a", "amount": 7, "tags": []}
    run, _ = start(published.caller, asked(given, key="another"))
    assert run.inputs == given
    assert workflow_helpers.driven(run).status == "succeeded"
    assert published.toolbox.effects == [("pay", {"account": "a", "amount": 7, "note": ""})]


WRONG: list[tuple[Any, str]] = [
    ({}, "account is required."),
    ({"amount": 1}, "account is required."),
    ({"account": 4711}, "account: breaks the rule 'type'."),
    ({"account": SECRET * 9}, "account: breaks the rule 'maxLength'."),
    ({"account": "a", "amount": 4711}, "amount: breaks the rule 'maximum'."),
    ({"account": "a", "tags": ["x", 4711]}, "tags/1: breaks the rule 'type'."),
    ({"account": "a", "more": SECRET}, "breaks the rule 'additionalProperties'."),
    ({"account": "a", "amount": float("nan")}, "Numbers must be finite."),
    ({"account": f"{SECRET}\x00"}, "Text must be valid Unicode without NUL."),
    ({"account": "a", "tags": [SECRET] * 9_000}, "do not fit"),
    ([SECRET], "do not fit"),
    (SECRET, "do not fit"),
]


def test_inputs_that_do_not_fit_are_refused_without_being_quoted(published: Governed) -> None:
    for inputs, sentence in WRONG:
        with refused(InvalidWorkflowInputs, "invalid_workflow_inputs") as said:
            start(published.caller, asked(inputs))
        assert sentence in said[0]
        assert "4711" not in said[0]


# -- who and what --------------------------------------------------------------------------------


def test_an_agent_in_none_of_the_roles_starts_nothing(
    published: Governed, bob: AgentIdentity
) -> None:
    others = grants.create_role("others", actor=SYSTEM, title="Others")
    with refused(NotAllowedToStart, "not_allowed_to_start"):
        start(factories.caller_for(bob), asked())
    grants.add_member(others, bob, actor=SYSTEM)
    with refused(NotAllowedToStart, "not_allowed_to_start"):
        start(factories.caller_for(bob), asked())
    grants.add_member(published.role, bob, actor=SYSTEM)
    assert start(factories.caller_for(bob), asked())[1]


def test_an_agent_taken_from_the_role_starts_nothing_more(published: Governed) -> None:
    grants.remove_member(published.role, published.identity, actor=SYSTEM)
    with refused(NotAllowedToStart, "not_allowed_to_start"):
        start(published.caller, asked())


def test_a_workflow_that_there_is_not_is_not_started(published: Governed) -> None:
    with refused(UnknownWorkflow, "unknown_workflow"):
        start(published.caller, asked(workflow="nothing"))


def test_a_draft_is_not_started(governed: Governed) -> None:
    versions.draft_version(workflow_helpers.text_of(BODY), actor=SYSTEM)
    with refused(NothingPublished, "workflow_not_published"):
        start(governed.caller, asked())


def test_a_paused_workflow_is_not_started(published: Governed) -> None:
    versions.pause_workflow(
        workflow_helpers.workflow().pk, actor=SYSTEM, paused=True, reason="An audit is on."
    )
    with refused(WorkflowPaused, "workflow_paused"):
        start(published.caller, asked())


def test_a_suspended_agent_starts_nothing(published: Governed) -> None:
    earlier, agent_id = published.caller, published.identity.agent_id
    lifecycle.suspend(agent_id, actor=SYSTEM, reason="It misbehaves.")
    for caller in (earlier, published.caller):
        with refused(InvalidToken, "invalid_token"):
            start(caller, asked())
    lifecycle.activate(agent_id, actor=SYSTEM, reason="It was a mistake.")
    with refused(InvalidToken, "invalid_token"):
        start(earlier, asked())  # what it was given before does not count any more
    assert start(published.caller, asked())[1]


def test_an_identity_suspended_in_its_environment_starts_nothing(published: Governed) -> None:
    lifecycle.suspend_identity(published.identity.pk, actor=SYSTEM, reason="It misbehaves.")
    with refused(InvalidToken, "invalid_token"):
        start(published.caller, asked())


def test_an_agent_that_nobody_knows_starts_nothing(published: Governed) -> None:
    nobody = replace(published.caller.identity, client_id="nobody.prod")
    with refused(InvalidToken, "invalid_token"):
        start(replace(published.caller, identity=nobody), asked())
