"""Rights for a while: asked for by an agent, given by people, over by time, run or order."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import User
from actions.models import Action, Run
from actions.services import run_elevations
from agents.services import sponsors
from approvals.errors import NotAnApprover, OwnAgent
from approvals.models import ApprovalRequest, Vote
from approvals.services import cast_vote, expire_overdue
from audit.models import Event
from common.actors import SYSTEM, Actor
from common.errors import InvalidInput
from policies.errors import ElevationExpired, NotGranted, ReservedRole
from policies.models import Elevation
from policies.services import elevations, grants
from tests import factories
from tests.conftest import Api
from tests.factories import Governed
from tests.toolbox import TOOLS
from tools.models import Tool
from tools.services.registration import define_tool

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _only_reading(governed: Governed) -> None:
    """Writing must be elevated for; executing is granted by nobody."""
    grants.mark(
        governed.role,
        governed.system,
        Tool.Access.WRITE,
        actor=SYSTEM,
        by_elevation=True,
        reason="It is rarely needed.",
    )
    grants.revoke(governed.role, governed.system, Tool.Access.EXECUTE, actor=SYSTEM)


def asked(api: Api, run: str, *tools: str, minutes: int = 10, **changes: Any) -> Any:
    body = {
        "run": run,
        "tools": list(tools or ("toolbox.pay",)),
        "minutes": minutes,
        "reason": "An order must be paid.",
        **changes,
    }
    return api.post("elevations", body)


def opened(api: Api) -> str:
    body = {"initiator_kind": "user", "initiator": "somebody", "purpose": "testing"}
    return str(api.post("runs", body).json()["id"])


def pay(api: Api, run: str, key: str, amount: int = 1) -> Any:
    body = {"run": run, "tool": "toolbox.pay", "arguments": {"account": "a", "amount": amount}}
    return api.post("actions", body, key=key).json()


def answered(elevation: Any, *people: User, answer: Vote.Answer = Vote.Answer.APPROVE) -> None:
    for person in people:
        cast_vote(
            elevation["approval"], actor=Actor.from_user(person), answer=answer, reason="As asked."
        )


def rules(action: Any) -> list[str]:
    return [reason["rule"] for reason in action["decision"]["reasons"]]


def at(moment: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timezone, "now", lambda: moment)


def test_people_give_it_and_it_counts_in_its_run_only(
    governed: Governed, api: Api, rosa: User, ruben: User
) -> None:
    run, other = opened(api), opened(api)
    assert rules(pay(api, run, "k1")) == ["chancery:no-grant"]
    response = asked(api, run)
    assert response.status_code == 201
    elevation = response.json()
    assert elevation["status"] == "asked"
    assert rules(pay(api, run, "k2")) == ["chancery:no-grant"]
    answered(elevation, rosa)
    assert pay(api, run, "k3")["status"] == "denied"
    answered(elevation, ruben)
    found = api.get(f"elevations/{elevation['id']}").json()
    assert found["status"] == "active"
    assert pay(api, run, "k4")["status"] == "succeeded"
    assert pay(api, other, "k5")["status"] == "denied"
    assert governed.toolbox.effects == [("pay", {"account": "a", "amount": 1, "note": ""})]
    decisions = Event.objects.filter(type="decision.made").order_by("id")
    assert [row.details.get("elevation", "") for row in decisions] == [
        *[""] * 3,
        elevation["id"],
        "",
    ]


def test_the_rules_still_rule(governed: Governed, api: Api, rosa: User, ruben: User) -> None:
    governed.toolbox.accounts["a"] = {"frozen": True}
    run = opened(api)
    answered(asked(api, run).json(), rosa, ruben)
    assert rules(pay(api, run, "k1")) == ["frozen-accounts"]
    governed.toolbox.accounts["a"] = {"frozen": False}
    assert pay(api, run, "k2", amount=500)["status"] == "waiting"


def test_policies_know_who_is_elevated(
    governed: Governed, api: Api, rosa: User, ruben: User
) -> None:
    factories.publish(
        not_elevated="""@id("not-elevated") @title("Not so much at once")
@reason("What is done by elevation is small.")
forbid(principal in Role::"elevated", action == Action::"toolbox.pay", resource)
when { context.facts.large };"""
    )
    run = opened(api)
    answered(asked(api, run).json(), rosa, ruben)
    assert rules(pay(api, run, "k1", amount=500)) == ["not-elevated"]
    assert pay(api, run, "k2")["status"] == "succeeded"
    with pytest.raises(ReservedRole):
        grants.create_role("elevated", actor=SYSTEM, title="Mine")


def test_it_ends_by_time(
    governed: Governed, api: Api, rosa: User, ruben: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = opened(api)
    elevation = asked(api, run, minutes=1).json()
    answered(elevation, rosa, ruben)
    row = Elevation.objects.get()
    assert row.ends_at is not None
    at(row.ends_at - timedelta(seconds=1), monkeypatch)
    assert governed.pay(runs_of(run)).action.status == "succeeded"
    # The row still says that it is in force: its end is looked at with every call.
    at(row.ends_at, monkeypatch)
    assert governed.pay(runs_of(run)).action.status == "denied"
    assert run_elevations.end_due() == 1
    row.refresh_from_db()
    assert (row.status, row.ended_because) == ("ended", "Its time was over.")


def runs_of(run: str) -> Any:
    return Run.objects.get(pk=run)


def test_it_ends_with_its_run(api: Api, rosa: User, ruben: User) -> None:
    run, waiting = opened(api), opened(api)
    answered(asked(api, run).json(), rosa, ruben)
    still = asked(api, waiting).json()
    assert run_elevations.end_due() == 0
    for one in (run, waiting):
        api.post(f"runs/{one}/close", {"outcome": "done"})
    assert run_elevations.end_due() == 2
    assert sorted(Elevation.objects.values_list("status", flat=True)) == ["ended", "refused"]
    assert ApprovalRequest.objects.get(pk=still["approval"]).status == "withdrawn"


def test_it_ends_by_hand(governed: Governed, api: Api, rosa: User, ruben: User) -> None:
    run = opened(api)
    for _ in range(2):
        elevation = asked(api, run).json()
        answered(elevation, rosa, ruben)
        assert pay(api, run, elevation["id"])["status"] == "succeeded"
        given_back = api.post(f"elevations/{elevation['id']}/revoke")
        assert given_back.json()["status"] == "ended"
        assert pay(api, run, f"after {elevation['id']}".replace(" ", "-"))["status"] == "denied"
        assert (
            api.post(f"elevations/{elevation['id']}/revoke").json()["code"] == "elevation_expired"
        )
    with pytest.raises(ElevationExpired):
        elevations.end(Elevation.objects.latest("pk").pk, actor=SYSTEM, reason="Again.")


@pytest.mark.parametrize("how", ["reject", "expire"])
def test_without_a_yes_nothing_is_given(api: Api, rosa: User, how: str) -> None:
    run = opened(api)
    elevation = asked(api, run).json()
    if how == "reject":
        answered(elevation, rosa, answer=Vote.Answer.REJECT)
    else:
        request = ApprovalRequest.objects.get(pk=elevation["approval"])
        expire_overdue(now=request.expires_at)
    assert api.get(f"elevations/{elevation['id']}").json()["status"] == "refused"
    assert pay(api, run, "k1")["status"] == "denied"


def test_who_answers_for_the_agent_does_not_answer(
    api: Api, olga: User, sam: User, rosa: User
) -> None:
    elevation = asked(api, opened(api)).json()
    for person, refusal in ((olga, OwnAgent), (sam, NotAnApprover)):
        with pytest.raises(refusal):
            answered(elevation, person)
    assert ApprovalRequest.objects.get(pk=elevation["approval"]).votes.count() == 0


def test_naming_another_sponsor_makes_nobody_uninvolved(
    governed: Governed, api: Api, rosa: User, ruben: User
) -> None:
    agent_id = governed.identity.agent_id
    sponsors.change_sponsor(agent_id, actor=SYSTEM, sponsor=rosa, reason="Rosa does it.")
    sponsors.change_sponsor(
        agent_id, actor=Actor.from_user(rosa), sponsor=ruben, reason="Now Ruben does."
    )
    elevation = asked(api, opened(api)).json()
    for person in (rosa, ruben):
        with pytest.raises(OwnAgent):
            answered(elevation, person)


def test_whoever_the_run_is_for_does_not_answer(governed: Governed, api: Api, rosa: User) -> None:
    body = {"initiator_kind": "user", "initiator": "rosa", "purpose": "testing"}
    run = api.post("runs", body).json()["id"]
    elevation = asked(api, run).json()
    with pytest.raises(OwnAgent):
        answered(elevation, rosa)


def test_nobody_asks_all_the_time(api: Api) -> None:
    run = opened(api)
    codes = {asked(api, run, "toolbox.nothing").status_code for _ in range(25)}
    assert codes == {404, 429}


def test_reading_is_answered_by_one_manager(governed: Governed, api: Api, rosa: User) -> None:
    grants.revoke(governed.role, governed.system, Tool.Access.READ, actor=SYSTEM)
    run = opened(api)
    answered(asked(api, run, "toolbox.read_account").json(), rosa)
    assert Elevation.objects.get().status == "active"


def test_a_tool_that_changed_since_is_not_given(
    governed: Governed, api: Api, rosa: User, ruben: User
) -> None:
    run = opened(api)
    elevation = asked(api, run).json()
    answered(elevation, rosa)
    define_tool(governed.system, "pay", actor=SYSTEM, **TOOLS["pay"], description="And more.")
    answered(elevation, ruben)
    row = Elevation.objects.get()
    assert (row.status, row.starts_at) == ("refused", None)
    assert ApprovalRequest.objects.get(pk=elevation["approval"]).spent_at is not None


def test_a_row_that_was_changed_since_gives_nothing(api: Api, rosa: User, ruben: User) -> None:
    run = opened(api)
    elevation = asked(api, run).json()
    Elevation.objects.update(tools=["toolbox.pay", "toolbox.wipe"])
    answered(elevation, rosa, ruben)
    assert Elevation.objects.get().status == "refused"


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"tools": ["toolbox.nothing"]}, 404, "unknown_tool"),
        ({"tools": []}, 400, "invalid_input"),
        ({"minutes": 0}, 400, "invalid_input"),
        ({"minutes": 481}, 400, "invalid_input"),
        ({"reason": "  "}, 400, "invalid_input"),
    ],
)
def test_what_cannot_be_asked_is_refused(
    api: Api, changes: dict[str, Any], status: int, code: str
) -> None:
    run = opened(api)
    before = Event.objects.count()
    response = asked(api, run, **changes)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert not Elevation.objects.exists()
    assert not ApprovalRequest.objects.exists()
    assert Event.objects.count() == before


def test_only_in_an_open_run_of_its_own(governed: Governed, api: Api, olga: User) -> None:
    bob = factories.identity("bob", owner=olga, environment=governed.identity.environment)
    theirs = factories.run(factories.caller_for(bob))
    closed = opened(api)
    api.post(f"runs/{closed}/close", {"outcome": "done"})
    assert asked(api, str(theirs.pk)).status_code == 404
    assert asked(api, closed).status_code == 409
    elevation = asked(api, opened(api)).json()
    others = Api(factories.token_for(bob))
    assert others.get(f"elevations/{elevation['id']}").status_code == 404
    assert others.post(f"elevations/{elevation['id']}/revoke").status_code == 404


def test_a_narrow_token_asks_within_its_scope(governed: Governed) -> None:
    narrow = Api(factories.token_for(governed.identity, scope="tool:toolbox.read_account"))
    run = opened(narrow)
    assert asked(narrow, run).status_code == 400
    with pytest.raises(InvalidInput):
        run_elevations.request_elevation(
            factories.caller_for(governed.identity, "tool:toolbox.mail"),
            runs_of(run).pk,
            actor=SYSTEM,
            tools=["toolbox.pay"],
            minutes=1,
            reason="To see.",
        )


def test_people_are_not_flooded(api: Api) -> None:
    run = opened(api)
    assert asked(api, run).status_code == 201
    assert asked(api, run).json()["code"] == "already_requested"
    for _ in range(elevations.MAX_ASKED - 1):
        assert asked(api, opened(api)).status_code == 201
    refused = asked(api, opened(api))
    assert refused.json()["code"] == "too_many_questions"
    assert Elevation.objects.count() == ApprovalRequest.objects.count() == elevations.MAX_ASKED


def test_a_stopped_agent_has_no_use_of_it(
    governed: Governed, api: Api, rosa: User, ruben: User
) -> None:
    from agents.services import lifecycle  # noqa: PLC0415 - only here

    run = opened(api)
    answered(asked(api, run).json(), rosa, ruben)
    caller = governed.caller
    lifecycle.suspend_identity(governed.identity.pk, actor=SYSTEM, reason="Look into it.")
    body = {"run": run, "tool": "toolbox.pay", "arguments": {"account": "a", "amount": 1}}
    assert api.post("actions", body, key="k1").status_code == 401
    assert not Action.objects.exists()
    assert caller.epoch == 1


def test_a_mark_needs_a_grant_and_can_be_taken_off(governed: Governed, api: Api) -> None:
    with pytest.raises(NotGranted):
        grants.mark(
            governed.role,
            governed.system,
            Tool.Access.EXECUTE,
            actor=SYSTEM,
            by_elevation=True,
            reason="No.",
        )
    grants.mark(
        governed.role,
        governed.system,
        Tool.Access.WRITE,
        actor=SYSTEM,
        by_elevation=False,
        reason="It is often needed.",
    )
    assert pay(api, opened(api), "k1")["status"] == "succeeded"


def test_pages(governed: Governed, api: Api, rosa: User, ruben: User, admin_user: User) -> None:
    office = Client()
    office.force_login(admin_user)
    run = opened(api)
    elevation = asked(api, run).json()
    asked_page = office.get(f"/admin/approvals/approvalrequest/{elevation['approval']}/change/")
    assert b"An order must be paid." in asked_page.content
    answered(elevation, rosa, ruben)
    page = f"/admin/policies/elevation/{elevation['id']}"
    assert b"Time left" in office.get(f"{page}/change/").content
    assert b"toolbox.pay" in office.get("/admin/policies/elevation/").content
    office.post(f"{page}/end/", {"reason": "Enough."})
    assert Elevation.objects.get().status == "ended"
    role = f"/admin/policies/role/{governed.role.pk}"
    assert b"only by elevation" in office.get(f"{role}/change/").content
    form = office.get(f"{role}/mark/").context["form"]
    named = next(key for key, label in form.fields["grant"].choices if label.startswith("write"))
    office.post(f"{role}/mark/", {"grant": named, "reason": "Often needed."})
    assert pay(api, run, "k1")["status"] == "succeeded"
