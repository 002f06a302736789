"""Rules are written by some, released by others, and never changed once released."""

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.test import Client
from django.utils import timezone

from accounts.models import Environment, Groups, User
from approvals.errors import NotAnApprover, OwnAgent, OwnRequest
from approvals.models import ApprovalRequest, Tier, Vote
from approvals.services import cast_vote, expire_overdue
from audit.generation import current_mark
from audit.models import Event
from common.actors import SYSTEM, Actor
from common.errors import NotFound, ReasonRequired
from policies.errors import (
    InvalidPolicy,
    NothingToRelease,
    ReleaseNotADraft,
    ReleaseOutOfDate,
    ReleaseUnchanged,
    UnknownRelease,
)
from policies.models import Policy, PolicyRelease
from policies.services import release_writers, releases
from tests import factories
from tests import toolbox as box
from tests.factories import Governed
from tools.models import System
from tools.services.registration import define_tool

pytestmark = pytest.mark.django_db

NO_PAYMENTS = """@id("no-payments") @reason("Payments are closed.")
forbid(principal, action == Action::"toolbox.pay", resource);"""
FROZEN: dict[str, Any] = {
    "number": 99,
    "text": "changed",
    "schema": {},
    "tools": {},
    "digest": "changed",
    "drafted_by": "somebody else",
    "drafted_by_id": "99",
    "writers": [99],
}


@pytest.fixture
def released(prod: Environment, tiers: dict[str, Tier]) -> System:
    """The toolbox with rules and a live release; nobody to call it."""
    system = factories.toolbox_system(prod)
    factories.publish()
    return system


def live() -> PolicyRelease:
    return PolicyRelease.objects.live().get()


def status_of(release: PolicyRelease) -> str:
    return PolicyRelease.objects.values_list("status", flat=True).get(pk=release.pk)


def draft(actor: Actor = SYSTEM, **texts: str) -> PolicyRelease:
    for slug, text in texts.items():
        releases.save_policy(slug.replace("_", "-"), text, actor=actor)
    return releases.draft_release(actor=actor)


def changed_pay_tool(system: System) -> None:
    attributes = {**box.TOOLS["pay"], "description": "Now with a receipt."}
    define_tool(system, "pay", actor=SYSTEM, **attributes)


def vote(request: ApprovalRequest, user: User, answer: Vote.Answer = Vote.Answer.APPROVE) -> Any:
    return cast_vote(
        request.pk, actor=Actor.from_user(user), answer=answer, reason="I have read it."
    )


def asked(user: User, actor: Actor | None = None) -> tuple[PolicyRelease, ApprovalRequest]:
    """A draft by the user without payments, and the question whether it may go live."""
    release = draft(Actor.from_user(user), no_payments=NO_PAYMENTS)
    return release, releases.ask_to_publish(release.pk, actor=actor or Actor.from_user(user))


def test_an_invalid_rule_is_refused_and_nothing_is_saved(released: System) -> None:
    events = Event.objects.count()
    wrong = box.POLICIES["large-payments"].replace("facts.large", "facts.lage")
    with pytest.raises(InvalidPolicy) as refusal:
        releases.save_policy("large-payments", wrong, actor=SYSTEM)
    [problem] = refusal.value.details["problems"]
    assert (problem["policy"], problem["line"]) == ("large-payments", 3)
    assert str(refusal.value).startswith("Line 3: ")
    assert Policy.objects.get(slug="large-payments").text == box.POLICIES["large-payments"]
    with pytest.raises(InvalidPolicy):
        releases.save_policy("new", "permit(principal, action, resource);", actor=SYSTEM)
    assert not Policy.objects.filter(slug="new").exists()
    assert Event.objects.count() == events


def test_a_saved_rule_takes_effect_with_the_next_release_only(governed: Governed) -> None:
    release = draft(no_payments=NO_PAYMENTS)
    assert governed.pay(governed.run()).action.outcome == "allowed"
    releases.publish(release.pk, actor=SYSTEM)
    action = governed.pay(governed.run()).action
    assert (action.outcome, action.release) == ("denied", release.number)
    assert action.reasons[0]["rule"] == "no-payments"
    assert governed.toolbox.effects == [("pay", {"account": "a", "amount": 1, "note": ""})]


def test_a_draft_names_every_problem_of_every_rule(released: System) -> None:
    without_facts = {**box.TOOLS["pay"], "facts": []}
    define_tool(released, "pay", actor=SYSTEM, **without_facts)
    with pytest.raises(InvalidPolicy) as refusal:
        releases.draft_release(actor=SYSTEM)
    named = {problem["policy"] for problem in refusal.value.details["problems"]}
    assert named == {"frozen-accounts", "large-payments", "huge-payments"}
    assert PolicyRelease.objects.count() == 1


def test_there_is_no_release_of_nothing(released: System) -> None:
    for policy in Policy.objects.all():
        releases.switch_policy(policy.pk, actor=SYSTEM, enabled=False, reason="Not needed.")
    with pytest.raises(NothingToRelease):
        releases.draft_release(actor=SYSTEM)
    assert PolicyRelease.objects.count() == 1


def test_a_rule_that_is_switched_off_is_left_out_until_it_is_switched_on(
    governed: Governed,
) -> None:
    permit = Policy.objects.get(slug="permit-toolbox")
    releases.switch_policy(permit.pk, actor=SYSTEM, enabled=False, reason="An audit is on.")
    factories.publish("large-payments")
    assert governed.pay(governed.run()).action.outcome == "denied"
    releases.switch_policy(permit.pk, actor=SYSTEM, enabled=True, reason="It is over.")
    factories.publish("large-payments")
    assert governed.pay(governed.run()).action.outcome == "allowed"
    types = Event.objects.about("policies.policy", permit.pk).values_list("type", flat=True)
    switches = [name for name in types if name.startswith("policy.switched")]
    assert switches == ["policy.switched_on", "policy.switched_off"]


def test_switching_needs_a_reason_and_a_rule(released: System) -> None:
    permit = Policy.objects.get(slug="permit-toolbox")
    with pytest.raises(ReasonRequired):
        releases.switch_policy(permit.pk, actor=SYSTEM, enabled=False, reason="  ")
    with pytest.raises(NotFound):
        releases.switch_policy(0, actor=SYSTEM, enabled=False, reason="Why not.")
    assert Policy.objects.get(pk=permit.pk).enabled


def one_more_rule() -> None:
    text = f'@id("more") @reason("More.") {MAIL};'
    releases.save_policy("more", text, actor=SYSTEM)


def test_releases_are_numbered_and_bound_to_their_tools(released: System) -> None:
    first = live()
    with pytest.raises(ReleaseUnchanged):
        releases.draft_release(actor=SYSTEM)
    assert PolicyRelease.objects.count() == 1
    changed_pay_tool(released)
    second = draft()
    assert (first.number, second.number) == (1, 2)
    assert second.text == first.text
    assert second.digest != first.digest
    assert set(second.tools) == {f"toolbox.{name}" for name in box.TOOLS}


def test_the_database_refuses_to_change_a_release(released: System) -> None:
    before = PolicyRelease.objects.values(*FROZEN).get()
    for column, value in FROZEN.items():
        release = live()
        setattr(release, column, value)
        with pytest.raises(IntegrityError), transaction.atomic():
            release.save()
        stored = "'{}'" if isinstance(value, dict) else f"'{value}'"
        statement = f"UPDATE policies_policyrelease SET {column} = {stored}"
        with pytest.raises(IntegrityError), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(statement)
    assert PolicyRelease.objects.values(*FROZEN).get() == before


def test_a_release_is_never_removed(released: System) -> None:
    with pytest.raises(TypeError):
        live().delete()
    assert live().number == 1


def test_one_release_is_live(released: System) -> None:
    one_more_rule()
    release = draft()
    with pytest.raises(IntegrityError), transaction.atomic():
        PolicyRelease.objects.filter(pk=release.pk).update(
            status=PolicyRelease.Status.LIVE, published_at=timezone.now()
        )
    assert live().number == 1
    assert status_of(release) == "draft"


def test_a_release_was_published_if_and_only_if_its_status_says_so(released: System) -> None:
    for status, moment in (
        ("draft", timezone.now()),
        ("rejected", timezone.now()),
        ("live", None),
        ("retired", None),
        ("odd", timezone.now()),
    ):
        with pytest.raises(IntegrityError), transaction.atomic():
            PolicyRelease.objects.update(status=status, published_at=moment)
    assert live().number == 1


def test_publishing_retires_the_former_release_and_moves_the_generation(
    released: System,
) -> None:
    one_more_rule()
    former, release, mark = live(), draft(), current_mark()
    releases.publish(release.pk, actor=SYSTEM)
    assert current_mark() != mark
    assert live() == release
    assert (status_of(former), live().published_by) == ("retired", "Chancery")
    event = Event.objects.filter(type="policy.published").latest("id")
    assert event.details == {
        "number": release.number,
        "digest": release.digest,
        "replaces": former.number,
    }


def test_only_a_draft_is_published(released: System) -> None:
    former = live()
    current = factories.publish()
    mark = current_mark()
    for release in (former, current):
        with pytest.raises(ReleaseNotADraft):
            releases.publish(release.pk, actor=SYSTEM)
        with pytest.raises(ReleaseNotADraft):
            releases.ask_to_publish(release.pk, actor=SYSTEM)
    with pytest.raises(UnknownRelease):
        releases.publish(0, actor=SYSTEM)
    assert live() == current
    assert current_mark() == mark
    assert not ApprovalRequest.objects.exists()


def test_a_changed_tool_is_denied_until_a_release_was_checked_against_it(
    governed: Governed,
) -> None:
    run = governed.run()
    changed_pay_tool(governed.system)
    action = governed.pay(run).action
    assert (action.outcome, action.status) == ("denied", "denied")
    assert [reason["rule"] for reason in action.reasons] == ["chancery:tool-not-in-release"]
    assert governed.toolbox.effects == []
    assert governed.propose(run, "toolbox.mail", {"to": "x"}).action.outcome == "allowed"
    factories.publish()
    assert governed.pay(run).action.outcome == "allowed"


def test_a_draft_is_out_of_date_once_a_tool_has_changed(released: System) -> None:
    one_more_rule()
    former, release = live(), draft()
    changed_pay_tool(released)
    with pytest.raises(ReleaseOutOfDate):
        releases.publish(release.pk, actor=SYSTEM)
    assert live() == former
    assert status_of(release) == "draft"


def test_compliance_makes_a_release_live(governed: Governed, clara: User, olga: User) -> None:
    former = live()
    release, request = asked(olga)
    assert request.tier_id == "policy"
    assert request.snapshot["text"] == release.text
    assert request.snapshot["replaces"] == former.number
    assert live() == former
    vote(request, clara)
    assert live() == release
    assert live().published_by == "clara"
    request.refresh_from_db()
    assert request.status == "approved"
    assert request.spent_at is not None
    assert governed.pay(governed.run()).action.outcome == "denied"
    types = Event.objects.order_by("id").values_list("type", flat=True)
    told = [name for name in types if name.startswith(("approval.", "policy.published"))]
    assert told == [
        "policy.published",
        "approval.requested",
        "approval.voted",
        "approval.approved",
        "approval.spent",
        "policy.published",
    ]


def test_who_drafted_a_release_does_not_approve_it(
    released: System, clara: User, admin_user: User, olga: User
) -> None:
    former = live()
    for drafter in (clara, admin_user):
        release, request = asked(drafter)
        with pytest.raises(OwnRequest):
            vote(request, drafter)
        _, by_another = asked(drafter, actor=Actor.from_user(olga))
        with pytest.raises(OwnAgent):
            vote(by_another, drafter)
        assert status_of(release) == "draft"
    assert live() == former
    assert not Vote.objects.exists()


def test_who_is_not_of_compliance_does_not_approve_a_release(
    released: System, rosa: User, olga: User
) -> None:
    release, request = asked(olga)
    with pytest.raises(NotAnApprover):
        vote(request, rosa)
    assert status_of(release) == "draft"


def test_a_rejected_draft_never_goes_live(governed: Governed, clara: User, olga: User) -> None:
    former = live()
    release, request = asked(olga)
    vote(request, clara, Vote.Answer.REJECT)
    assert status_of(release) == "rejected"
    with pytest.raises(ReleaseNotADraft):
        releases.publish(release.pk, actor=SYSTEM)
    with pytest.raises(ReleaseNotADraft):
        releases.ask_to_publish(release.pk, actor=Actor.from_user(olga))
    assert live() == former
    assert governed.pay(governed.run()).action.outcome == "allowed"
    assert Event.objects.filter(type="policy.release_rejected").count() == 1


def test_a_draft_that_nobody_decides_on_never_goes_live(released: System, olga: User) -> None:
    former = live()
    release, request = asked(olga)
    assert expire_overdue(now=request.expires_at + timedelta(seconds=1)) == 1
    assert status_of(release) == "rejected"
    assert live() == former


def test_an_approval_of_an_outdated_draft_is_refused_whole(
    released: System, clara: User, olga: User
) -> None:
    former = live()
    release, request = asked(olga)
    changed_pay_tool(released)
    with pytest.raises(ReleaseOutOfDate):
        vote(request, clara)
    request.refresh_from_db()
    assert (request.status, request.spent_at) == ("pending", None)
    assert not Vote.objects.exists()
    assert live() == former
    assert status_of(release) == "draft"


def test_managers_decide_where_there_is_no_tier_for_policies(
    released: System, olga: User, rosa: User
) -> None:
    Tier.objects.get(slug="policy").delete()
    release, request = asked(olga)
    assert request.tier_id == "manager"
    vote(request, rosa)
    assert live() == release


# -- who has a hand in a release -------------------------------------------------------------------

MAIL = 'forbid(principal, action == Action::"toolbox.mail", resource)'


def rule(reason: str) -> str:
    return f'@id("mail") @reason("{reason}") {MAIL};'


def refused_to(user: User, request: ApprovalRequest) -> bool:
    with pytest.raises(OwnAgent):
        cast_vote(
            request.pk, actor=Actor.from_user(user), answer=Vote.Answer.APPROVE, reason="Mine."
        )
    request.refresh_from_db()
    return request.status == ApprovalRequest.Status.PENDING


@pytest.fixture
def office(governed: Governed) -> dict[str, User]:
    names = ("ann", "ben", "cat", "dan")
    return {name: factories.person(name, Groups.COMPLIANCE) for name in names}


def asked_by(office: dict[str, User], name: str) -> ApprovalRequest:
    actor = Actor.from_user(office[name])
    return releases.ask_to_publish(releases.draft_release(actor=actor).pk, actor=actor)


def test_everybody_who_saved_a_changed_rule_is_its_writer(office: dict[str, User]) -> None:
    """Also who wrote it first, when somebody else has saved the same text again."""
    for name, text in (("ann", rule("One.")), ("ben", rule("Two.")), ("cat", rule("Two."))):
        releases.save_policy("mail", text, actor=Actor.from_user(office[name]))
    request = asked_by(office, "cat")
    assert refused_to(office["ann"], request)
    assert refused_to(office["ben"], request)
    cast_vote(
        request.pk, actor=Actor.from_user(office["dan"]), answer=Vote.Answer.APPROVE, reason="Yes."
    )
    assert live().number == 2


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("how", ["save", "switch", "define"])
def test_an_act_while_a_release_is_drafted_is_in_the_next_one(
    office: dict[str, User], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    releases.save_policy("mail", rule("One."), actor=SYSTEM)
    ann, ben = (Actor.from_user(office[name]) for name in ("ann", "ben"))
    acts: dict[str, Callable[[], Any]] = {
        "save": lambda: releases.save_policy("mail", rule("Two."), actor=ann),
        "switch": lambda: releases.switch_policy(
            Policy.objects.get(slug="mail").pk, actor=ann, enabled=False, reason="Away with it."
        ),
        "define": lambda: define_tool(
            System.objects.get(),
            "pay",
            actor=ann,
            **{**box.TOOLS["pay"], "description": "Pay out."},
        ),
    }
    begun, writers = threading.Event(), release_writers.writers_of

    def act() -> None:
        begun.set()
        acts[how]()
        connection.close()

    other = threading.Thread(target=act)

    def slow(*given: Any) -> set[int]:
        other.start()
        begun.wait(10)
        other.join(0.3)
        return writers(*given)

    monkeypatch.setattr(releases, "writers_of", slow)
    first = releases.draft_release(actor=ben)
    other.join(30)
    monkeypatch.setattr(releases, "writers_of", writers)
    assert office["ann"].pk not in first.writers
    releases.publish(first.pk, actor=SYSTEM) if how != "define" else None
    request = asked_by(office, "ben")
    assert refused_to(office["ann"], request)


def test_who_switched_a_rule_on_or_off_is_a_writer(office: dict[str, User]) -> None:
    policy = Policy.objects.get(slug="never-wipe")
    releases.switch_policy(
        policy.pk, actor=Actor.from_user(office["ann"]), enabled=False, reason="Away with it."
    )
    request = asked_by(office, "ben")
    assert refused_to(office["ann"], request)
    assert [one["id"] for one in request.snapshot["difference"]["removed"]] == ["never-wipe"]


def test_an_act_that_is_in_no_difference_makes_no_writer(office: dict[str, User]) -> None:
    """Ann's text is what the live release says: it is not what Ben's release changes."""
    releases.save_policy("mail", rule("One."), actor=Actor.from_user(office["ann"]))
    request = asked_by(office, "ben")
    cast_vote(
        request.pk, actor=Actor.from_user(office["cat"]), answer=Vote.Answer.APPROVE, reason="Yes."
    )
    releases.save_policy("other", rule("Two.").replace("mail", "other", 1), actor=SYSTEM)
    request = asked_by(office, "ben")
    cast_vote(
        request.pk, actor=Actor.from_user(office["ann"]), answer=Vote.Answer.APPROVE, reason="Yes."
    )
    assert live().number == 3


def test_who_defined_a_tool_that_a_release_newly_covers_is_a_writer(
    governed: Governed, office: dict[str, User]
) -> None:
    define_tool(
        governed.system, "note", actor=Actor.from_user(office["ann"]), title="Note", access="write",
        idempotent=True, input_schema={"type": "object", "properties": {}},
    )  # fmt: skip
    request = asked_by(office, "ben")
    assert refused_to(office["ann"], request)
    assert request.snapshot["difference"]["tools_added"] == ["toolbox.note"]


def test_a_release_is_compared_with_what_is_enforced(
    office: dict[str, User], client: Client
) -> None:
    """Not with the one before it by number, which may never have been approved."""
    releases.save_policy("mail", rule("One."), actor=SYSTEM)
    releases.draft_release(actor=SYSTEM)
    second = releases.draft_release(actor=SYSTEM, note="Wording only.")
    client.force_login(factories.administrator())
    page = client.get(f"/admin/policies/policyrelease/{second.pk}/change/").content.decode()
    assert "What it would change of what is enforced (live release 1)" in page
    assert "no such rule" in page
    request = releases.ask_to_publish(second.pk, actor=SYSTEM)
    page = client.get(f"/admin/approvals/approvalrequest/{request.pk}/change/").content.decode()
    assert "What changes from the live release 1" in page
    assert "The release&#x27;s page" in page or "The release's page" in page
    assert "toolbox.mail" in page


def test_what_the_live_release_says_already_is_not_asked(office: dict[str, User]) -> None:
    releases.save_policy("mail", rule("One."), actor=SYSTEM)
    one, same = (releases.draft_release(actor=SYSTEM) for _ in range(2))
    releases.publish(one.pk, actor=SYSTEM)
    with pytest.raises(ReleaseUnchanged):
        releases.ask_to_publish(same.pk, actor=SYSTEM)
    assert not ApprovalRequest.objects.exists()


def test_who_wrote_a_rule_that_was_switched_off_meanwhile_is_its_writer(
    governed: Governed, clara: User
) -> None:
    mallory = factories.person("mallory", Groups.COMPLIANCE)
    bob = factories.person("bob", Groups.COMPLIANCE)
    text = '@id("late") @reason("No.") forbid(principal, action, resource) when { false };'
    text = text.replace("false", "context.time.hour > 23")
    rule = releases.save_policy("late", text, actor=Actor.from_user(mallory))
    releases.switch_policy(rule.pk, actor=Actor.from_user(bob), enabled=False, reason="Later.")
    other = text.replace("late", "other").replace("23", "22")
    factories.publish(other=other)
    releases.switch_policy(rule.pk, actor=Actor.from_user(bob), enabled=True, reason="Now.")
    draft = releases.draft_release(actor=Actor.from_user(bob))
    asked = releases.ask_to_publish(draft.pk, actor=Actor.from_user(bob))
    assert {mallory.pk, bob.pk} <= set(asked.conflicted_users)


def test_a_draft_can_be_discarded_and_nobody_is_asked_any_more(
    governed: Governed, rosa: User
) -> None:
    one_more_rule()
    release, request = asked(rosa)
    with pytest.raises(ReasonRequired):
        releases.discard_draft(release.pk, actor=SYSTEM, reason=" ")
    assert status_of(release) == "draft"
    releases.discard_draft(release.pk, actor=Actor.from_user(rosa), reason="Another way.")
    request.refresh_from_db()
    assert (status_of(release), request.status) == ("rejected", "withdrawn")
    said = Event.objects.filter(type="policy.release_discarded").get()
    assert (said.subject_id, said.actor_id) == (str(release.pk), str(rosa.pk))
    with pytest.raises(ReleaseNotADraft):
        releases.discard_draft(release.pk, actor=SYSTEM, reason="Again.")
    with pytest.raises(ReleaseNotADraft):
        releases.discard_draft(live().pk, actor=SYSTEM, reason="Not the live one.")


def test_a_rule_that_is_saved_while_a_draft_is_checked_is_in_it(
    governed: Governed, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[int] = []
    real = releases._ensure_sound

    def meanwhile(texts: Any, schema: Any) -> None:
        real(texts, schema)
        checked.append(len(connection.savepoint_ids))
        if len(checked) == 1:
            one_more_rule()

    monkeypatch.setattr(releases, "_ensure_sound", meanwhile)
    before = len(connection.savepoint_ids)
    release = releases.draft_release(actor=SYSTEM)
    assert '@id("more")' in release.text
    assert checked == [before, before]  # not within the transaction


NO_MAIL = (
    '@id("extra") @reason("No.") forbid(principal, action == Action::"toolbox.mail", resource);'
)
EMPTY: dict[str, Any] = {"type": "object", "properties": {}}


@pytest.mark.parametrize("only", [True, False])
def test_who_changed_what_facts_come_from_cannot_approve(
    office: dict[str, User], governed: Governed, only: bool
) -> None:
    source = box.TOOLS["read_account"] | {"serves_facts_only": only}
    define_tool(governed.system, "read_account", actor=SYSTEM, **source)
    factories.publish("permit-toolbox", extra=NO_MAIL)
    ann = Actor.from_user(office["ann"])
    define_tool(governed.system, "read_account", actor=ann, path="elsewhere")
    assert refused_to(office["ann"], asked_by(office, "ben"))


def test_who_defined_a_tool_for_facts_cannot_let_agents_call_it(
    office: dict[str, User], governed: Governed
) -> None:
    ann = Actor.from_user(office["ann"])
    tool = {"title": "Peek", "access": "read", "idempotent": True, "input_schema": EMPTY}
    define_tool(governed.system, "peek", actor=ann, serves_facts_only=True, **tool)
    factories.publish("permit-toolbox", extra=NO_MAIL)
    # What somebody else switches does not take away who wrote it.
    cat = Actor.from_user(office["cat"])
    define_tool(governed.system, "peek", actor=cat, serves_facts_only=False)
    request = asked_by(office, "ben")
    assert refused_to(office["ann"], request)
    assert refused_to(office["cat"], request)


def test_who_defined_what_facts_newly_come_from_cannot_approve(
    office: dict[str, User], governed: Governed
) -> None:
    """It lay there when a release went live that did not rest on it: nobody has agreed to it."""
    ann, ben = (Actor.from_user(office[name]) for name in ("ann", "ben"))
    answer = {"type": "object", "properties": {"ok": {"type": "boolean"}}}
    peek = {"title": "Peek", "access": "read", "idempotent": True, "output_schema": answer}
    define_tool(
        governed.system, "peek", actor=ann, serves_facts_only=True, input_schema=EMPTY, **peek
    )
    factories.publish("permit-toolbox", extra=NO_MAIL)
    linked: dict[str, Any] = {
        "sources": [{"name": "seen", "tool": "peek", "arguments": {}}],
        "facts": [{"name": "fine", "title": "Fine", "expression": "seen.ok == true"}],
    }
    define_tool(governed.system, "mail", actor=ben, **linked)
    assert refused_to(office["ann"], asked_by(office, "ben"))


def test_who_defined_what_facts_came_from_already_may_approve_another_change(
    office: dict[str, User], governed: Governed
) -> None:
    ann = Actor.from_user(office["ann"])
    source = box.TOOLS["read_account"] | {"serves_facts_only": True}
    define_tool(governed.system, "read_account", actor=ann, **source)
    factories.publish("permit-toolbox", extra=NO_MAIL)
    releases.save_policy("mail", rule("Of ben."), actor=Actor.from_user(office["ben"]))
    request = asked_by(office, "ben")
    assert str(office["ann"].pk) not in map(str, request.conflicted_users)


def test_a_publication_that_compares_with_a_former_release_is_not_done(
    office: dict[str, User], governed: Governed, client: Client
) -> None:
    """What went live meanwhile would go, and nobody who approves has read about it."""
    ann, ben, cat, dan = (Actor.from_user(office[name]) for name in ("ann", "ben", "cat", "dan"))
    releases.save_policy("mail", rule("Harmless."), actor=ann)
    waiting = releases.ask_to_publish(releases.draft_release(actor=ann).pk, actor=ann)
    assert releases.PUBLICATION.outdated([waiting]) == {}
    releases.save_policy("no-payments", NO_PAYMENTS, actor=ben)
    urgent = releases.ask_to_publish(releases.draft_release(actor=ben).pk, actor=ben)
    cast_vote(urgent.pk, actor=cat, answer=Vote.Answer.APPROVE, reason="Urgent.")
    live = PolicyRelease.objects.live().get()
    assert "no-payments" in live.text

    with pytest.raises(ReleaseOutOfDate, match=f"Release {live.number} has gone live"):
        cast_vote(waiting.pk, actor=dan, answer=Vote.Answer.APPROVE, reason="Harmless, it says.")
    assert PolicyRelease.objects.live().get() == live
    waiting.refresh_from_db()
    assert (waiting.status, waiting.votes.count()) == ("pending", 0)
    client.force_login(factories.administrator())
    page = client.get(f"/admin/approvals/approvalrequest/{waiting.pk}/change/").content.decode()
    assert f"Release {live.number} has gone live since this was requested" in page
    cast_vote(waiting.pk, actor=dan, answer=Vote.Answer.REJECT, reason="Out of date.")
    assert PolicyRelease.objects.live().get() == live
