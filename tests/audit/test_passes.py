"""Auditors from outside: what a pass shows, what it does not, and that it ends."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from io import StringIO
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import Group, Permission
from django.core.management import call_command
from django.db import IntegrityError, transaction
from django.test import Client
from django.utils import timezone

from accounts.models import Groups, User
from actions.events import RUN_STARTED
from approvals.errors import NotAnApprover
from approvals.models import ApprovalRequest, Tier, Vote
from approvals.services import cast_vote
from audit.errors import OutOfScope, PassEnded, PassInForce, PassNotApplicable
from audit.evidence.bundle import range_for, wanted
from audit.models import AuditorPass, Event, Export
from audit.services import auditor_passes, exports, search_index
from audit.services.auditor_passes import Bounds
from audit.services.recorder import Subject, record
from common.actors import SYSTEM, Actor
from common.errors import InvalidInput, NotFound, ReasonRequired
from tests.approvals.conftest import told  # noqa: F401 - a fixture
from tests.approvals.questions import Outcomes, ask
from tests.audit.sealed_log import sealed_all
from tests.audit.test_explorer import OTTO, TILDA, begun, called, indexed
from tests.audit.test_pages import url
from tests.factories import Governed

pytestmark = pytest.mark.django_db


@pytest.fixture
def eva(db: Any) -> User:
    """An auditor with every right that the group gives."""
    call_command("bootstrap", username="first", stdout=StringIO())
    user = User.objects.create_user("eva", is_staff=True)
    user.groups.add(Group.objects.get(name=Groups.AUDITORS))
    return user


@pytest.fixture
def boss(db: Any) -> User:
    return User.objects.create_user("boss", is_staff=True)


def given(
    eva: User,
    boss: User,
    *,
    agents: Sequence[str] = (TILDA.id,),
    days: float = 1,
    since: datetime | None = None,
    until: datetime | None = None,
) -> AuditorPass:
    bounds = Bounds(timezone.now() + timedelta(days=days), agents, since, until)
    return auditor_passes.grant(
        eva.pk, bounds, actor=Actor.from_user(boss), reason="The yearly audit."
    )


def at_work(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def listed(client: Client) -> set[str]:
    page: Any = client.get(url("event_changelist"))
    assert page.status_code == 200
    return {event.actor_id for event in page.context_data["cl"].result_list}


def listed_keys(client: Client) -> list[int]:
    page: Any = client.get(url("event_changelist"))
    return [event.pk for event in page.context_data["cl"].result_list]


def two_agents() -> tuple[Event, Event]:
    for actor in (TILDA, OTTO):
        called(begun(actor), "crm.read", {"of": actor.id})
    indexed()
    mine, other = (
        Event.objects.filter(type="run.started", actor_id=actor.id).get() for actor in (TILDA, OTTO)
    )
    return mine, other


def test_a_pass_shows_its_agents_and_their_runs_and_nothing_else(eva: User, boss: User) -> None:
    mine, other = two_agents()
    assert OTTO.id in listed(at_work(eva))
    given(eva, boss)
    client = at_work(eva)
    assert listed(client) == {TILDA.id, SYSTEM.id}
    page: Any = client.get(url("event_changelist"), {"agent": OTTO.id})
    assert page.context_data["cl"].result_count == 0
    assert client.get(url("event_change", mine.pk)).status_code == 200
    for hidden in (url("event_change", other.pk), url("event_values", other.pk)):
        assert client.get(hidden).status_code in {302, 404}
    assert client.get(f"/api/v1/audit/events/{other.uid}/receipt").status_code == 404
    assert client.get(f"/api/v1/audit/events/{mine.uid}/receipt").status_code == 200


def test_a_pass_does_not_tell_which_names_there_are_beyond_it(eva: User, boss: User) -> None:
    two_agents()
    given(eva, boss)
    client, said = at_work(eva), set()
    for name in (OTTO.id, "nobody.prod"):
        page: Any = client.get(url("event_changelist"), {"agent": name})
        assert page.context_data["cl"].result_count == 0
        said.add(page.content.decode().count("No event names the agent"))
    assert said == {0}


@pytest.mark.parametrize(
    "address",
    [
        "/admin/actions/run/",
        "/admin/agents/agent/",
        "/admin/approvals/approvalrequest/?status__exact=pending",
        "/admin/audit/hold/",
        "/admin/audit/erasure/",
        "/admin/reports/",
        "/admin/reports/R4/",
        "/admin/accounts/user/",
    ],
)
def test_a_pass_closes_the_rest_of_the_portal(eva: User, boss: User, address: str) -> None:
    first = given(eva, boss)
    eva.groups.add(Group.objects.get(name=Groups.COMPLIANCE))
    AuditorPass.objects.filter(pk=first.pk).delete()
    assert at_work(eva).get(address).status_code == 200
    AuditorPass.objects.bulk_create([first])
    client = at_work(eva)
    assert client.get(address).status_code in {302, 403}
    home = client.get("/admin/")
    assert home.status_code == 200
    assert address not in home.content.decode()


def test_a_pass_closes_the_questions_of_the_api_too(eva: User, boss: User) -> None:
    first = given(eva, boss)
    eva.groups.add(Group.objects.get(name=Groups.SUPERVISORS))
    AuditorPass.objects.filter(pk=first.pk).delete()
    assert at_work(eva).get("/api/v1/approvals").status_code == 200
    AuditorPass.objects.bulk_create([first])
    client = at_work(eva)
    assert client.get("/api/v1/approvals").status_code == 403
    vote = f"/api/v1/approvals/{uuid4()}/votes"
    assert client.post(vote, {"answer": "approve", "reason": "x"}).status_code == 403


def test_nobody_votes_with_a_pass_by_whatever_way(
    eva: User,
    boss: User,
    told: Outcomes,  # noqa: F811
) -> None:
    given(eva, boss)
    eva.groups.add(*Group.objects.filter(name=Groups.SUPERVISORS))
    question = ask()
    assert question.tier.groups.filter(user=eva).exists()
    with pytest.raises(NotAnApprover):
        cast_vote(question.pk, actor=Actor.from_user(eva), answer=Vote.Answer.APPROVE, reason="x")
    assert not Vote.objects.exists()
    assert not ApprovalRequest.objects.pending().for_approver(eva).exists()


def test_a_vote_with_a_credential_is_refused_and_recorded(
    rosa: User,
    told: Outcomes,  # noqa: F811
) -> None:
    question = ask()
    body = {"answer": "approve", "reason": "with AKIAIOSFODNN7EXAMPLE"}
    answer: Any = at_work(rosa).post(
        f"/api/v1/approvals/{question.pk}/votes", body, content_type="application/json"
    )
    assert (answer.status_code, answer.json()["code"]) == (400, "secret_in_request")
    assert not Vote.objects.exists()
    [event] = Event.objects.filter(type="request.secret_refused").with_values()
    assert (event.actor_kind, event.actor_id) == ("human", str(rosa.pk))
    assert event.details["kind"] == "aws_key"
    assert "AKIA" not in str(event.details)


def test_a_pass_shows_its_time_only(eva: User, boss: User) -> None:
    mine, _ = two_agents()
    given(eva, boss, agents=(), until=mine.recorded_at)
    assert listed(at_work(eva)) & {TILDA.id, OTTO.id} == set()
    given(eva, boss, agents=(), since=mine.recorded_at)
    assert listed(at_work(eva)) >= {TILDA.id, OTTO.id}


def test_a_pass_ends_and_what_it_opened_stays_closed(eva: User, boss: User) -> None:
    two_agents()
    one = given(eva, boss)
    client = at_work(eva)
    assert client.get("/admin/").status_code == 200
    AuditorPass.objects.update(
        granted_at=timezone.now() - timedelta(days=3), ends_at=timezone.now() - timedelta(days=1)
    )
    assert client.get("/admin/").status_code in {302, 403}
    assert client.get(url("event_changelist")).status_code in {302, 403}
    assert not eva.has_perm("audit.view_event") or eva.is_superuser
    # Not even a withdrawal makes it wider again.
    auditor_passes.withdraw(one.pk, actor=Actor.from_user(boss), reason="Over.")
    assert at_work(eva).get(url("event_changelist")).status_code in {302, 403}
    given(eva, boss, days=1)
    assert at_work(eva).get(url("event_changelist")).status_code == 200
    assert AuditorPass.objects.filter(withdrawn_at=None).count() == 1


def test_withdrawn_it_opens_nothing_from_the_next_click_on(eva: User, boss: User) -> None:
    one = given(eva, boss)
    client = at_work(eva)
    assert client.get(url("event_changelist")).status_code == 200
    auditor_passes.withdraw(one.pk, actor=Actor.from_user(boss), reason="They left.")
    assert client.get(url("event_changelist")).status_code in {302, 403}
    with pytest.raises(PassEnded):
        auditor_passes.withdraw(one.pk, actor=Actor.from_user(boss), reason="Again.")


def test_evidence_is_asked_for_within_the_pass(eva: User, boss: User) -> None:
    mine, other = two_agents()
    since = mine.recorded_at - timedelta(hours=1)
    given(eva, boss, since=since)
    actor = Actor.from_user(eva)
    for beyond in (
        exports.Wanted(agents=[OTTO.id]),
        exports.Wanted(runs=[other.run_id] if other.run_id else []),
    ):
        with pytest.raises(OutOfScope):
            exports.ask(beyond, actor=actor, purpose="More.")
    assert not Export.objects.exists()
    export = exports.ask(
        exports.Wanted(since=since - timedelta(days=9)), actor=actor, purpose="Audit."
    )
    assert (export.agents, export.since) == ([TILDA.id], since)
    of_run = exports.ask(exports.Wanted(runs=[mine.run_id or uuid4()]), actor=actor, purpose="One.")
    assert (of_run.runs, of_run.agents) == ([str(mine.run_id)], [])
    with pytest.raises(OutOfScope):
        exports.ask(exports.Wanted(runs=[uuid4()]), actor=actor, purpose="Of nothing.")
    elsewhere = exports.ask(exports.Wanted(), actor=Actor.from_user(boss), purpose="Ours.")
    client = at_work(eva)
    assert client.get(url("export_change", export.pk)).status_code == 200
    assert client.get(url("export_change", elsewhere.pk)).status_code in {302, 404}


def test_who_can_be_given_one(eva: User, boss: User, admin_user: User) -> None:
    by_boss = Actor.from_user(boss)
    bounds = Bounds(timezone.now() + timedelta(days=1))
    for who, refusal in (
        (boss.pk, PassNotApplicable),
        (admin_user.pk, PassNotApplicable),
        (10**9, NotFound),
    ):
        with pytest.raises(refusal):
            auditor_passes.grant(who, bounds, actor=by_boss, reason="Why not.")
    with pytest.raises(InvalidInput):
        auditor_passes.grant(eva.pk, Bounds(timezone.now()), actor=by_boss, reason="It ends now.")
    with pytest.raises(ReasonRequired):
        auditor_passes.grant(eva.pk, bounds, actor=by_boss, reason=" ")
    assert not AuditorPass.objects.exists()
    assert not Event.objects.filter(type="audit.pass_granted").exists()
    one = given(eva, boss)
    with pytest.raises(IntegrityError), transaction.atomic():
        AuditorPass.objects.filter(pk=one.pk).update(granted_by=eva)


@pytest.mark.parametrize(
    "group", [Groups.COMPLIANCE, Groups.SUPERVISORS, Groups.AGENT_OWNERS, Groups.SECURITY]
)
def test_nobody_with_work_of_their_own_here_is_bound(eva: User, boss: User, group: str) -> None:
    colleague = User.objects.create_user("colleague", is_staff=True)
    colleague.groups.add(Group.objects.get(name=group))
    bounds = Bounds(timezone.now() + timedelta(days=1))
    with pytest.raises(PassNotApplicable):
        auditor_passes.grant(
            colleague.pk, bounds, actor=Actor.from_user(boss), reason="To be rid of them."
        )
    permitted = User.objects.create_user("permitted", is_staff=True)
    permitted.user_permissions.add(Permission.objects.get(codename="resolve_action"))
    with pytest.raises(PassNotApplicable):
        auditor_passes.grant(permitted.pk, bounds, actor=Actor.from_user(boss), reason="Them too.")
    assert not AuditorPass.objects.exists()
    # Whose account is bound already can be given another one, whatever was added since.
    given(eva, boss)
    eva.groups.add(Group.objects.get(name=group))
    given(eva, boss, days=2)
    assert AuditorPass.objects.filter(withdrawn_at=None).count() == 1


def test_nobody_whom_a_record_names_is_bound(
    eva: User, boss: User, governed: Governed, olga: User
) -> None:
    """Owners of agents and approvers have work, whatever groups they are in."""
    bounds, by = Bounds(timezone.now() + timedelta(days=1)), Actor.from_user(boss)
    olga.groups.clear()
    olga.user_permissions.clear()
    with pytest.raises(PassNotApplicable):
        auditor_passes.grant(olga.pk, bounds, actor=by, reason="Rid of them.")
    Tier.objects.all()[0].groups.add(Group.objects.get(name=Groups.AUDITORS))
    with pytest.raises(PassNotApplicable):
        auditor_passes.grant(eva.pk, bounds, actor=by, reason="Rid of them.")
    assert not AuditorPass.objects.exists()


def test_a_name_of_digits_is_a_name_and_a_number_too_long_is_nobody(
    eva: User, admin_user: User
) -> None:
    digits = User.objects.create_user(str(admin_user.pk), is_staff=True)
    office = at_work(admin_user)
    ends_at = f"{timezone.now() + timedelta(days=2):%Y-%m-%dT%H:%M}"
    form = {"ends_at": ends_at, "reason": "The yearly audit."}
    office.post(url("auditorpass_grant"), {**form, "person": digits.username})
    assert AuditorPass.objects.get().person == digits
    erasure = {"about": "person", "basis": "objection", "purpose": "Asked for."}
    answer = office.post(url("erasure_ask"), {**erasure, "about_id": digits.username})
    assert "which is meant" in answer.content.decode()
    for nobody in ("9" * 30, "²", str(digits.pk)):
        answer = office.post(url("auditorpass_grant"), {**form, "person": nobody})
        assert "Nobody has that name" in answer.content.decode()


def taken(export: Export, user: User) -> Export:
    actor = Actor.from_user(user)
    of = range_for(export)
    return exports.take(export.pk, actor=actor, start=of.start, end=of.end, size=of.checkpoint.size)


def approved(wanted: exports.Wanted, user: User, boss: User) -> Export:
    export = exports.ask(wanted, actor=Actor.from_user(user), purpose="Audit.")
    exports.decide_export(export.pk, actor=Actor.from_user(boss), approve=True, reason="Yes.")
    sealed_all()
    return Export.objects.get(pk=export.pk)


def test_what_was_approved_before_a_pass_is_not_taken_under_it(eva: User, boss: User) -> None:
    two_agents()
    wide = approved(exports.Wanted(), eva, boss)
    others = approved(exports.Wanted(agents=(OTTO.id,)), eva, boss)
    mine = approved(exports.Wanted(agents=(TILDA.id,)), eva, boss)
    given(eva, boss)
    for export in (wide, others):
        with pytest.raises(OutOfScope):
            exports.take(export.pk, actor=Actor.from_user(eva), start=0, end=1, size=1)
    taken(mine, eva)
    one = AuditorPass.objects.get()
    auditor_passes.withdraw(one.pk, actor=Actor.from_user(boss), reason="Over.")
    with pytest.raises(OutOfScope):
        exports.take(mine.pk, actor=Actor.from_user(eva), start=0, end=1, size=1)
    assert Event.objects.filter(type="audit.exported").count() == 1


def test_a_bundle_shows_what_the_pass_shows(eva: User, boss: User) -> None:
    mine, _ = two_agents()
    given(eva, boss)
    export = approved(exports.Wanted(), eva, boss)
    shown = set(wanted(export).values_list("pk", flat=True))
    assert shown == set(listed_keys(at_work(eva)))
    # The range ends with what the index knows.
    end = range_for(export).end
    called(mine.run_id or uuid4(), "crm.read", {"of": "late"})
    sealed_all()
    assert range_for(approved(exports.Wanted(), eva, boss)).end == end
    search_index.index()
    assert range_for(approved(exports.Wanted(), eva, boss)).end > end


def test_runs_that_a_schedule_began_are_the_agents(eva: User, boss: User) -> None:
    run = uuid4()
    with transaction.atomic():
        record(
            RUN_STARTED, actor=SYSTEM, subject=Subject("actions.run", str(run), "run"),
            run_id=run, agent=TILDA.id,
        )  # fmt: skip
    called(run, "crm.read")
    indexed()
    given(eva, boss)
    events = Event.objects.filter(pk__in=listed_keys(at_work(eva)))
    assert set(events.values_list("type", flat=True)) == {"run.started", "tool.call.completed"}


def test_a_pass_is_given_and_withdrawn_on_its_pages(eva: User, admin_user: User) -> None:
    office = at_work(admin_user)
    form = {
        "person": "eva",
        "ends_at": f"{timezone.now() + timedelta(days=2):%Y-%m-%dT%H:%M}",
        "agents": "tilda.prod\notto.prod",
        "reason": "The yearly audit.",
    }
    assert office.post(url("auditorpass_grant"), form).status_code == 302
    one = AuditorPass.objects.get()
    assert (one.person, one.agents) == (eva, ["tilda.prod", "otto.prod"])
    assert "in force" in office.get(url("auditorpass_changelist")).content.decode()
    office.post(url("auditorpass_withdraw", one.pk), {"reason": "Over."})
    assert "withdrawn" in office.get(url("auditorpass_change", one.pk)).content.decode()
    wrong = office.post(url("auditorpass_grant"), {**form, "person": "nobody"})
    assert "Nobody has that name" in wrong.content.decode()
    assert at_work(eva).get(url("auditorpass_changelist")).status_code in {302, 403}
    types = Event.objects.filter(type__startswith="audit.pass_").order_by("id")
    assert list(types.values_list("type", flat=True)) == [
        "audit.pass_granted",
        "audit.pass_withdrawn",
    ]


def test_the_rights_of_an_own_account_come_back_by_command(eva: User, boss: User) -> None:
    one = given(eva, boss)
    actor = Actor.from_user(boss)
    with pytest.raises(PassInForce):
        auditor_passes.restore_rights(one.pk, actor=actor, reason="Too early.")
    auditor_passes.withdraw(one.pk, actor=actor, reason="Over.")
    with pytest.raises(PassNotApplicable):
        auditor_passes.restore_rights(one.pk, actor=Actor.from_user(eva), reason="By herself.")
    assert at_work(eva).get(url("event_changelist")).status_code != 200
    auditor_passes.restore_rights(one.pk, actor=actor, reason="She is of the house.")
    assert at_work(eva).get(url("event_changelist")).status_code == 200
    said = Event.objects.filter(type="audit.rights_restored").get()
    assert (said.subject_id, said.actor_id) == (str(one.pk), str(boss.pk))
    with pytest.raises(PassEnded):
        auditor_passes.restore_rights(one.pk, actor=actor, reason="Again.")


def test_a_former_pass_restores_nothing_while_another_one_is_in_force(
    eva: User, boss: User
) -> None:
    former = given(eva, boss)
    given(eva, boss)  # in place of the former one
    with pytest.raises(PassEnded):
        auditor_passes.restore_rights(former.pk, actor=Actor.from_user(boss), reason="By mistake.")
    assert at_work(eva).get("/admin/accounts/user/").status_code == 403


def test_the_pages_say_what_a_pass_takes_away_and_offer_to_restore_it(
    eva: User, boss: User, admin_client: Client
) -> None:
    page = admin_client.get(url("auditorpass_grant")).content.decode()
    assert "The rights of their own account do not count from now on" in page
    one = given(eva, boss)
    own = url("auditorpass_change", one.pk)
    assert "Restore the rights" not in admin_client.get(own).content.decode()
    auditor_passes.withdraw(one.pk, actor=Actor.from_user(boss), reason="Over.")
    assert "Restore the rights" in admin_client.get(own).content.decode()
    admin_client.post(url("auditorpass_restore", one.pk), {"reason": "She is of the house."})
    one.refresh_from_db()
    assert one.restored_at is not None
