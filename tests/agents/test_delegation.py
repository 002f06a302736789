"""Acting for another agent: within the rights of both, and no longer than either stands."""

from typing import Any
from uuid import UUID

import pytest
from django.conf import settings
from hypothesis import given
from hypothesis import strategies as st

from accounts.models import Environment, User
from actions.models import Run
from actions.services import decisions, redecision
from agents.services import federation, lifecycle
from agents.tokens import covers, jwt_claims, meet
from audit.models import Event
from common.actors import SYSTEM
from common.errors import InvalidInput
from policies.services import grants
from tests import factories
from tests.agents.runtimes import Runtime, enrolled
from tests.conftest import Api
from tests.factories import Governed
from tests.workflows.test_running import vote

pytestmark = pytest.mark.django_db
PAY = {"tool": "toolbox.pay", "arguments": {"account": "a", "amount": 1}}


@pytest.fixture
def planner(governed: Governed) -> Runtime:
    """Tilda, who may use the toolbox."""
    return enrolled(governed.identity)


@pytest.fixture
def helper(governed: Governed, olga: User, prod: Environment) -> Runtime:
    """Otto, who may use the toolbox too."""
    identity = factories.identity("otto", owner=olga, environment=prod)
    grants.add_member(governed.role, identity, actor=SYSTEM)
    return enrolled(identity)


def allow(subject: Runtime, actor: Runtime, *, scope: str = "tools", depth: int = 1) -> Any:
    return federation.allow_delegation(
        subject.identity.agent_id,
        actor=SYSTEM,
        acting_agent=actor.identity.agent,
        scope=scope,
        max_depth=depth,
        reason="It helps.",
    )


def token_of(answer: Any) -> str:
    assert answer.status_code == 200, answer.content
    return str(answer.json()["access_token"])


def paid_by(api: Api, run: str) -> Any:
    return api.post("actions", {"run": run, **PAY}, key="k")


def opened(api: Api) -> str:
    body = {"initiator_kind": "agent", "initiator": "x", "purpose": "p"}
    return str(api.post("runs", body).json()["id"])


def test_a_token_is_exchanged_for_one_to_act_for_another(planner: Runtime, helper: Runtime) -> None:
    allow(planner, helper, scope="system:toolbox system:bank")
    parent = token_of(planner.ask(scope="system:toolbox"))
    answer = helper.exchange(parent)
    claims = jwt_claims(token_of(answer))
    assert answer.json()["issued_token_type"].endswith("access_token")
    assert (claims["client_id"], claims["scope"]) == ("otto.prod", "system:toolbox")
    assert claims["sub"] == f"{settings.ISSUER}/agents/prod/tilda"
    assert claims["act"] == {"sub": f"{settings.ISSUER}/agents/prod/otto"}
    assert (claims["chain"], set(claims["eps"])) == (["tilda.prod"], {"tilda.prod", "otto.prod"})
    assert claims["exp"] <= jwt_claims(parent)["exp"]
    event = Event.objects.filter(type="credential.issued").latest("id")
    assert event.details["chain"] == ["tilda.prod"]


def test_what_is_done_for_another_is_decided_for_both(
    planner: Runtime, helper: Runtime, governed: Governed
) -> None:
    allow(planner, helper)
    api = Api(token_of(helper.exchange(token_of(planner.ask()))))
    run = opened(api)
    assert Run.objects.get(pk=run).chain == ["tilda.prod"]
    assert paid_by(api, run).json()["status"] == "succeeded"
    grants.remove_member(governed.role, planner.identity, actor=SYSTEM)
    denied = api.post("actions", {"run": run, **PAY}, key="other").json()
    assert (denied["status"], governed.toolbox.calls) == ("denied", ["pay"])


def test_a_token_to_act_for_another_is_of_no_use_in_a_run_of_ones_own(
    planner: Runtime, helper: Runtime, governed: Governed
) -> None:
    allow(planner, helper)
    own = opened(Api(token_of(helper.ask())))
    api = Api(token_of(helper.exchange(token_of(planner.ask()))))
    assert paid_by(api, own).status_code == 404
    assert governed.toolbox.calls == []


@pytest.mark.parametrize("stopped", ["planner", "helper"])
def test_it_dies_with_either(planner: Runtime, helper: Runtime, stopped: str) -> None:
    allow(planner, helper)
    api = Api(token_of(helper.exchange(token_of(planner.ask()))))
    assert api.get("tools").status_code == 200
    identity = {"planner": planner, "helper": helper}[stopped].identity
    lifecycle.suspend_identity(identity.pk, actor=SYSTEM, reason="Odd.")
    assert api.get("tools").status_code == 401
    lifecycle.resume_identity(identity.pk, actor=SYSTEM, reason="Fine.")
    assert api.get("tools").status_code == 401


def test_what_was_asked_for_another_does_not_count_once_that_one_was_stopped(
    planner: Runtime, helper: Runtime, governed: Governed, rosa: User
) -> None:
    """Also when it is active again by the time that people have said yes."""
    allow(planner, helper)
    api = Api(token_of(helper.exchange(token_of(planner.ask()))))
    body = {**PAY, "run": opened(api), "arguments": {"account": "a", "amount": 500}}
    asked = api.post("actions", body, key="k").json()
    assert asked["status"] == "waiting"
    lifecycle.suspend_identity(planner.identity.pk, actor=SYSTEM, reason="Odd.")
    lifecycle.resume_identity(planner.identity.pk, actor=SYSTEM, reason="Fine.")
    vote(rosa)
    action = redecision.resume(UUID(asked["id"]))
    assert action is not None
    assert (action.status, governed.toolbox.calls) == ("denied", [])
    again = action.redecision
    assert again is not None
    assert again["reasons"][0]["rule"] == decisions.STOPPED_SINCE.rule


def test_nothing_is_exchanged_without_a_rule_or_for_oneself_or_on_and_on(
    planner: Runtime, helper: Runtime, olga: User, prod: Environment
) -> None:
    third = enrolled(factories.identity("third", owner=olga, environment=prod))
    token = token_of(planner.ask())
    assert helper.exchange(token).json()["error"] == "invalid_grant"
    allow(planner, helper)
    allow(helper, third)
    lent = token_of(helper.exchange(token))
    for answer in (
        third.exchange(token),  # no rule
        third.exchange(lent),  # the second hand, where the first is allowed
        planner.exchange(lent),  # a circle
        planner.exchange(token),  # oneself
        helper.exchange("x"),
    ):
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")


def test_a_rule_that_ends_ends_what_was_lent(planner: Runtime, helper: Runtime) -> None:
    rule = allow(planner, helper)
    with pytest.raises(InvalidInput):
        allow(planner, helper)
    api = Api(token_of(helper.exchange(token_of(planner.ask()))))
    federation.end_delegation(rule.pk, actor=SYSTEM, reason="Enough.")
    assert api.get("tools").status_code == 401
    assert helper.exchange(token_of(planner.ask())).status_code == 400


SCOPES = st.sets(
    st.sampled_from(["tools", "system:a", "system:b", "tool:a.x", "tool:a.y", "tool:b.x"])
)


@given(one=SCOPES, other=SCOPES)
def test_what_two_have_in_common_is_within_both(one: set[str], other: set[str]) -> None:
    both = meet(one, other)
    assert both == meet(other, one)
    assert covers(one, both)
    assert covers(other, both)
    assert all(covers(both, [scope]) for scope in one if covers(other, [scope]))
