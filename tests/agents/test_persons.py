"""A person at the root of the line: what an agent does in their name, and when that ends."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from chancery_client import Chancery, PortalRefused
from django.contrib.auth.models import Permission
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from accounts.models import User
from actions.models import Run
from actions.services import redecision
from agents.directory import directory
from agents.errors import InvalidLifecycleTransition, InvalidScope, NotResponsibleForAgent
from agents.models import PersonDelegation
from agents.services import enrolment, federation, user_delegations
from agents.tokens import jwt_claims
from approvals.errors import OwnAgent
from approvals.models import ApprovalRequest, Vote
from approvals.services import cast_vote
from audit.models import Event
from common.actors import SYSTEM, Actor
from common.errors import InvalidInput, NotFound
from policies.services import grants
from tests import factories
from tests.agents.runtimes import TOKEN_EXCHANGE, Runtime, enrolled
from tests.conftest import Api
from tests.factories import Governed

pytestmark = pytest.mark.django_db
PERSON_CODE = "urn:chancery:params:oauth:token-type:person-delegation"
PAY = {"tool": "toolbox.pay", "arguments": {"account": "a", "amount": 1}}


@pytest.fixture
def runtime(governed: Governed) -> Runtime:
    return enrolled(governed.identity)


def given(governed: Governed, person: User, scope: str = "tools", minutes: int = 60) -> str:
    _, code = user_delegations.grant_delegation(
        governed.identity.pk,
        actor=Actor.from_user(person),
        scope=scope,
        minutes=minutes,
        reason="It books for me.",
    )
    return code


def exchanged(runtime: Runtime, code: str, **changes: str) -> Any:
    return runtime.ask(
        grant_type=TOKEN_EXCHANGE, subject_token=code, subject_token_type=PERSON_CODE, **changes
    )


def acting(runtime: Runtime, code: str) -> Api:
    return Api(exchanged(runtime, code).json()["access_token"])


def opened(api: Api) -> str:
    body = {"initiator_kind": "event", "initiator": "somebody else", "purpose": "testing"}
    return str(api.post("runs", body).json()["id"])


def test_a_token_names_the_person_and_not_their_name(
    governed: Governed, runtime: Runtime, sam: User, settings: Settings
) -> None:
    answer = exchanged(runtime, given(governed, sam, "tool:toolbox.pay system:crm")).json()
    claims = jwt_claims(answer["access_token"])
    assert claims["sub"] == f"{settings.ISSUER}/people/{sam.pk}"
    assert claims["act"] == {"sub": f"{settings.ISSUER}/agents/prod/tilda"}
    assert claims["scope"] == "system:crm tool:toolbox.pay"
    assert "sam" not in str(claims)
    issued = Event.objects.get(type="credential.issued")
    assert issued.details["delegation"] == str(PersonDelegation.objects.get().pk)


def test_what_it_does_is_the_persons(governed: Governed, runtime: Runtime, sam: User) -> None:
    api = acting(runtime, given(governed, sam))
    run = opened(api)
    row = Run.objects.get()
    assert (row.initiator_kind, row.initiator) == ("user", "sam")
    assert api.post("actions", {"run": run, **PAY}, key="k1").json()["status"] == "succeeded"
    delegation = str(PersonDelegation.objects.get().pk)
    for kind in ("run.started", "decision.made"):
        assert Event.objects.get(type=kind).details["delegation"] == delegation


def test_the_person_approves_nothing_of_it(
    governed: Governed, runtime: Runtime, rosa: User, ruben: User
) -> None:
    api = acting(runtime, given(governed, rosa))
    body = {"run": opened(api), "tool": "toolbox.pay", "arguments": {"account": "a", "amount": 500}}
    assert api.post("actions", body, key="k1").json()["status"] == "waiting"
    request = ApprovalRequest.objects.get()
    yes = Vote.Answer.APPROVE
    with pytest.raises(OwnAgent):
        cast_vote(request.pk, actor=Actor.from_user(rosa), answer=yes, reason="Yes.")
    cast_vote(request.pk, actor=Actor.from_user(ruben), answer=yes, reason="Yes.")


def test_the_scope_is_what_both_allow(governed: Governed, runtime: Runtime, sam: User) -> None:
    api = acting(runtime, given(governed, sam, "tool:toolbox.read_account"))
    answer = api.post("actions", {"run": opened(api), **PAY}, key="k1").json()
    assert [reason["rule"] for reason in answer["decision"]["reasons"]] == ["chancery:out-of-scope"]
    code = given(governed, sam, "tool:toolbox.pay")
    assert exchanged(runtime, code, scope="tool:toolbox.mail").json()["error"] == "invalid_grant"


def test_a_persons_word_is_of_use_in_their_run_only(
    governed: Governed, runtime: Runtime, sam: User, rosa: User
) -> None:
    own = Api(factories.token_for(governed.identity))
    sams, rosas = acting(runtime, given(governed, sam)), acting(runtime, given(governed, rosa))
    runs = {own: opened(own), sams: opened(sams), rosas: opened(rosas)}
    for api in runs:
        for other, run in runs.items():
            answer = api.post("actions", {"run": run, **PAY}, key="k")
            assert answer.status_code == (201 if api is other else 404)


@pytest.mark.parametrize("how", ["taken back", "person gone", "time"])
def test_it_ends(
    governed: Governed,
    runtime: Runtime,
    sam: User,
    rosa: User,
    how: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code = given(governed, sam)
    api = acting(runtime, code)
    run = opened(api)
    asked = {"run": run, "tool": "toolbox.pay", "arguments": {"account": "a", "amount": 500}}
    waiting = api.post("actions", asked, key="k1").json()
    delegation = PersonDelegation.objects.get()
    if how == "taken back":
        user_delegations.revoke_delegation(
            delegation.pk, actor=Actor.from_user(sam), reason="Enough."
        )
    elif how == "person gone":
        sam.is_active = False
        sam.save()
    else:
        PersonDelegation.objects.update(
            made_at=timezone.now() - timedelta(hours=2), ends_at=timezone.now() - timedelta(hours=1)
        )
        directory.forget()
        from policies.snapshot import snapshot  # noqa: PLC0415 - only here

        snapshot.forget()
    assert api.post("actions", {"run": run, **PAY}, key="k2").status_code == 401
    assert exchanged(runtime, code).json()["error"] == "invalid_grant"
    # What was asked for in their name does not count any more either.
    cast_vote(
        waiting["approval"],
        actor=Actor.from_user(rosa),
        answer=Vote.Answer.APPROVE,
        reason="Yes.",
    )
    redecision.resume(waiting["id"])
    assert governed.toolbox.effects == []


def test_a_token_does_not_outlive_the_word(governed: Governed, runtime: Runtime, sam: User) -> None:
    code = given(governed, sam, minutes=1)
    assert 55 <= exchanged(runtime, code).json()["expires_in"] <= 60


def test_a_code_is_its_agents_alone(
    governed: Governed, runtime: Runtime, sam: User, olga: User
) -> None:
    code = given(governed, sam)
    other = enrolled(
        factories.identity("otto", owner=olga, environment=governed.identity.environment)
    )
    for asked, what in ((other, code), (runtime, "x" * 32), (runtime, "é"), (runtime, "")):
        assert exchanged(asked, what).json()["error"] == "invalid_grant"
    stored = PersonDelegation.objects.get()
    assert code not in str(vars(stored)) + factories.everything_recorded()


def test_it_is_handed_on_within_the_line(
    governed: Governed, runtime: Runtime, sam: User, olga: User
) -> None:
    helper_identity = factories.identity(
        "helper", owner=olga, environment=governed.identity.environment
    )
    grants.add_member(governed.role, helper_identity, actor=SYSTEM)
    helper = enrolled(helper_identity)
    federation.allow_delegation(
        governed.identity.agent_id,
        actor=SYSTEM,
        acting_agent=helper_identity.agent,
        scope="tools",
        max_depth=1,
        reason="It helps.",
    )
    parent = exchanged(runtime, given(governed, sam)).json()["access_token"]
    answer = helper.exchange(parent).json()
    claims = jwt_claims(answer["access_token"])
    assert claims["sub"].endswith(f"/people/{sam.pk}")
    assert claims["act"]["sub"].endswith("/agents/prod/helper")
    assert claims["act"]["act"]["sub"].endswith("/agents/prod/tilda")
    api = Api(answer["access_token"])
    run = opened(api)
    row = Run.objects.get()
    assert (row.initiator, row.chain) == ("sam", ["tilda.prod"])
    assert api.post("actions", {"run": run, **PAY}, key="k1").json()["status"] == "succeeded"
    user_delegations.revoke_delegation(
        PersonDelegation.objects.get().pk, actor=Actor.from_user(sam), reason="Enough."
    )
    assert api.post("actions", {"run": run, **PAY}, key="k2").status_code == 401


def test_who_may_give_and_take_back(governed: Governed, sam: User, rosa: User) -> None:
    for actor in (SYSTEM, governed.actor, Actor("human", "1000000", "x")):
        with pytest.raises(NotResponsibleForAgent):
            user_delegations.grant_delegation(
                governed.identity.pk, actor=actor, scope="tools", minutes=5, reason="So."
            )
    by_sam = Actor.from_user(sam)
    for changes, refusal in (
        ({"minutes": 0}, InvalidInput),
        ({"minutes": 481}, InvalidInput),
        ({"scope": "everything"}, InvalidScope),
    ):
        terms: dict[str, Any] = {"scope": "tools", "minutes": 5, "reason": "So."} | changes
        with pytest.raises(refusal):
            user_delegations.grant_delegation(governed.identity.pk, actor=by_sam, **terms)
    with pytest.raises(NotFound):
        user_delegations.grant_delegation(0, actor=by_sam, scope="tools", minutes=5, reason="So.")
    assert not PersonDelegation.objects.exists()
    given(governed, sam)
    row = PersonDelegation.objects.get()
    with pytest.raises(NotResponsibleForAgent):
        user_delegations.revoke_delegation(row.pk, actor=Actor.from_user(rosa), reason="Mine now.")
    user_delegations.revoke_delegation(row.pk, actor=by_sam, reason="Enough.")
    with pytest.raises(InvalidLifecycleTransition):
        user_delegations.revoke_delegation(row.pk, actor=by_sam, reason="Enough.")


def test_pages(governed: Governed, sam: User) -> None:
    sam.user_permissions.add(
        *Permission.objects.filter(codename__in=["add_persondelegation", "view_persondelegation"])
    )
    office = Client()
    office.force_login(sam)
    form = {
        "identity": governed.identity.pk,
        "scope": "tools",
        "minutes": 5,
        "reason": "It books for me.",
    }
    shown = office.post("/admin/agents/persondelegation/let/", form).content.decode()
    assert "tilda.prod" in shown
    row = PersonDelegation.objects.get()
    assert row.person == sam
    page = f"/admin/agents/persondelegation/{row.pk}"
    assert "It books for me." in office.get(f"{page}/change/").content.decode()
    office.post(f"{page}/end/", {"reason": "Enough."})
    row.refresh_from_db()
    assert row.ended_at is not None


@pytest.mark.django_db(transaction=True)
def test_the_client_acts_for_a_person(
    governed: Governed, live_server: Any, settings: Settings, sam: User, tmp_path: Path
) -> None:
    settings.ISSUER = live_server.url
    with Chancery(live_server.url, tmp_path) as agent:
        agent.enrol(enrolment.issue_enrolment_code(governed.identity.pk, actor=SYSTEM))
    with Chancery(live_server.url, tmp_path, person_code=given(governed, sam)) as agent:
        agent.run("Pay", initiator="the agent").call("toolbox.pay", account="a", amount=1)
    assert Run.objects.get().initiator == "sam"
    wrong = Chancery(live_server.url, tmp_path, person_code="wrong")
    with wrong, pytest.raises(PortalRefused):
        wrong.tools()
