"""Who people are: passwords that are guessed at, second factors, and how fresh they are."""

import base64
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import TOTP, hotp_value, yield_hotp_counters_from_time
from allauth.socialaccount.models import SocialAccount
from django.conf import settings as configured
from django.contrib.auth.models import Permission
from django.core.management import call_command
from django.db import DatabaseError
from django.test import Client
from pytest_django import Settings

from accounts.adapters import SecondFactorAdapter, SocialAccountAdapter
from accounts.factors import FRESH_FOR, Factor
from accounts.models import User
from approvals.errors import StepUpRequired, UnknownTier
from approvals.handlers import _handlers as handlers
from approvals.models import ApprovalRequest, Tier, Vote
from approvals.services import cast_vote, set_step_up
from audit.models import Event
from audit.services import auth_events
from common.actors import SYSTEM, Actor
from portal import startup
from tests import factories
from tests.approvals.questions import KIND, Outcomes, ask
from tests.common.test_sealing import a_key
from tests.factories import Governed

pytestmark = pytest.mark.django_db
PASSWORD = "pw"


@pytest.fixture(autouse=True)
def outcomes() -> Iterator[None]:
    with mock.patch.dict(handlers, {KIND: Outcomes()}):
        yield


@pytest.fixture
def second_factor(settings: Settings) -> None:
    settings.REQUIRE_MFA = True


def signed_in(user: User, *records: dict[str, Any]) -> Client:
    """A session as it is after these proofs."""
    client = Client()
    client.force_login(user)
    session = client.session
    session["account_authentication_methods"] = list(records)
    session["account_authentication_methods_user"] = str(user.pk)
    session.save()
    return client


def password(seconds_ago: float = 0) -> dict[str, Any]:
    return {"method": "password", "at": time.time() - seconds_ago, "username": "x"}


def sso(user: User, seconds_ago: float = 0) -> dict[str, Any]:
    SocialAccount.objects.get_or_create(user=user, provider="sso", uid=str(user.pk))
    return {
        "method": "socialaccount",
        "at": time.time() - seconds_ago,
        "provider": "sso",
        "uid": str(user.pk),
    }


def factor_of(user: User, kind: str = "webauthn") -> Authenticator:
    return Authenticator.objects.create(user=user, type=kind, data={})


def shown(authenticator: Authenticator, seconds_ago: float = 0) -> dict[str, Any]:
    return {
        "method": "mfa",
        "type": authenticator.type,
        "id": authenticator.pk,
        "at": time.time() - seconds_ago,
    }


def test_the_admin_leads_to_the_sign_in_page(admin_user: User) -> None:
    client = Client()
    answer = client.get("/admin/agents/agent/", follow=True)
    assert answer.redirect_chain[-1][0] == "/accounts/login/?next=%2Fadmin%2Fagents%2Fagent%2F"
    form = {"login": "admin", "password": PASSWORD, "next": "/admin/agents/agent/"}
    answer = client.post("/accounts/login/", form)
    assert answer["Location"] == "/admin/agents/agent/"
    assert client.get("/admin/agents/agent/").status_code == 200


@pytest.mark.parametrize("elsewhere", ["https://evil.example/", "//evil.example/x", "javascript:1"])
def test_signing_in_leads_nowhere_else(admin_user: User, elsewhere: str) -> None:
    client = Client()
    answer = client.get("/admin/login/", {"next": elsewhere})
    assert "evil" not in answer["Location"]
    form = {"login": "admin", "password": PASSWORD, "next": elsewhere}
    answer = client.post("/accounts/login/", form)
    assert answer["Location"] == "/admin/"


def test_nobody_signs_up(db: None) -> None:
    client = Client()
    for path in ("/accounts/signup/", "/accounts/2fa/webauthn/signup/"):
        answer = client.post(path, {"username": "new", "email": "n@e.org", "password1": "x" * 20})
        assert answer.status_code in {403, 404}
    assert not User.objects.exists()


def test_a_password_that_is_guessed_at_is_locked_for_one_address(admin_user: User) -> None:
    client = Client(REMOTE_ADDR="192.0.2.1")
    wrong = {"login": "admin", "password": "wrong"}
    for _ in range(configured.AXES_FAILURE_LIMIT):
        client.post("/accounts/login/", wrong)
    right = {"login": "admin", "password": PASSWORD}
    assert client.post("/accounts/login/", right).status_code == 429
    assert "_auth_user_id" not in client.session
    elsewhere = Client(REMOTE_ADDR="192.0.2.77")
    assert elsewhere.post("/accounts/login/", right).status_code == 302


def test_a_name_that_nobody_has_is_answered_alike(admin_user: User) -> None:
    pages = [
        Client()
        .post("/accounts/login/", {"login": name, "password": "wrong"})
        .content.decode()
        .replace(name, "*")
        for name in ("admin", "nobody")
    ]
    errors = [page[page.index("errorlist") :][:300] for page in pages]
    assert errors[0] == errors[1]


def test_staff_pages_open_with_two_factors_only(admin_user: User, second_factor: None) -> None:
    with_password = signed_in(admin_user, password())
    answer = with_password.get("/admin/", follow=True)
    assert answer.redirect_chain[-1][0] == "/accounts/2fa/?next=%2Fadmin%2F"
    key = factor_of(admin_user)
    answer = with_password.get("/admin/login/")
    assert answer["Location"].startswith("/accounts/2fa/webauthn/reauthenticate/")
    assert signed_in(admin_user, password(), shown(key)).get("/admin/").status_code == 200


@pytest.mark.parametrize("kind", ["recovery_codes"])
def test_a_recovery_code_lets_back_in_and_signs_for_nothing(
    admin_user: User, second_factor: None, kind: str
) -> None:
    codes = factor_of(admin_user, kind)
    assert signed_in(admin_user, password(), shown(codes)).get("/admin/").status_code == 302


def test_a_factor_that_was_taken_away_counts_no_more(
    admin_user: User, olga: User, second_factor: None
) -> None:
    key, hers = factor_of(admin_user), factor_of(olga)
    client = signed_in(admin_user, password(), shown(key))
    assert client.get("/admin/").status_code == 200
    key.delete()
    assert client.get("/admin/").status_code == 302
    assert signed_in(admin_user, password(), shown(hers)).get("/admin/").status_code == 302


def test_somebody_elses_records_are_not_mine(
    admin_user: User, olga: User, second_factor: None
) -> None:
    key = factor_of(admin_user)
    client = signed_in(admin_user, shown(key))
    session = client.session
    session["account_authentication_methods_user"] = str(olga.pk)
    session.save()
    assert client.get("/admin/").status_code == 302


@pytest.mark.parametrize(
    ("claims", "status"),
    [
        ({}, 302),
        ({"acr": "urn:one"}, 302),
        ({"acr": "urn:two"}, 200),
        ({"amr": ["pwd"]}, 302),
        ({"amr": ["pwd", "mfa"]}, 200),
        ({"amr": "mfa"}, 302),
        ({"acr": ["urn:two"]}, 302),
    ],
)
def test_the_organisations_own_sign_in_may_vouch_for_two_factors(
    admin_user: User,
    second_factor: None,
    settings: Settings,
    claims: dict[str, Any],
    status: int,
) -> None:
    settings.OIDC_MFA_VALUES = frozenset({"urn:two", "mfa"})
    client, other = (signed_in(admin_user, sso(admin_user)) for _ in range(2))
    session = client.session
    account = mock.Mock(uid=str(admin_user.pk), extra_data={"id_token": claims})
    request = mock.Mock(session=session)
    SocialAccountAdapter().pre_social_login(request, mock.Mock(account=account))
    session.save()
    assert client.get("/admin/").status_code == status
    # What was said for one session counts in no other.
    assert other.get("/admin/").status_code == 302


@pytest.fixture
def high(tiers: dict[str, Tier]) -> ApprovalRequest:
    """A question to two managers, who show a second factor."""
    set_step_up("dual", actor=SYSTEM, required=True, reason="It signs for much.")
    return ask("dual")


def vote(client: Client, request: ApprovalRequest) -> Any:
    page = f"/admin/approvals/approvalrequest/{request.pk}/decide/"
    return client.post(page, {"answer": "approve", "reason": "Yes."})


def as_reviewer(user: User) -> User:
    user.user_permissions.add(Permission.objects.get(codename="view_approvalrequest"))
    return user


def test_a_high_tier_wants_a_fresh_factor(high: ApprovalRequest, rosa: User) -> None:
    key = factor_of(as_reviewer(rosa))
    stale = FRESH_FOR.total_seconds() + 1
    for client in (
        signed_in(rosa, password()),
        signed_in(rosa, password(), shown(key, stale)),
        signed_in(rosa, sso(rosa, 86_400)),
        signed_in(rosa, sso(rosa), shown(factor_of(rosa, "recovery_codes"))),
    ):
        answer = vote(client, high)
        assert "/accounts/2fa/webauthn/reauthenticate/" in answer["Location"]
        shown_page = client.get(f"/admin/approvals/approvalrequest/{high.pk}/change/")
        assert b"Show it, then answer" in shown_page.content
        api = client.post(
            f"/api/v1/approvals/{high.pk}/votes",
            json.dumps({"answer": "approve", "reason": "Yes."}),
            content_type="application/json",
        )
        assert api.json()["code"] == "step_up_required"
    assert not Vote.objects.exists()
    assert vote(signed_in(rosa, password(), shown(key)), high).status_code == 302
    found = Vote.objects.get()
    assert found.factor.startswith(f"webauthn {key.pk} ")
    assert Event.objects.get(type="approval.voted").details["factor"] == found.factor


def test_a_sign_on_of_yesterday_without_any_factor_is_refused(
    high: ApprovalRequest, rosa: User
) -> None:
    """Where allauth's own decorator asks nobody again."""
    rosa.set_unusable_password()
    rosa.save()
    client = signed_in(as_reviewer(rosa), sso(rosa, 86_400))
    answer = vote(client, high)
    assert answer["Location"].startswith("/accounts/2fa/?next=")
    assert not Vote.objects.exists()
    # Nor does it get a factor: one signs in anew before adding one.
    for path in ("webauthn/add", "totp/activate", "recovery-codes/generate"):
        again = signed_in(rosa, sso(rosa, 86_400))
        answer = again.get(f"/accounts/2fa/{path}/")
        assert answer["Location"].startswith("/accounts/login/")
        assert "_auth_user_id" not in again.session
    assert signed_in(rosa, sso(rosa)).get("/accounts/2fa/webauthn/add/").status_code == 200


def test_a_session_left_open_changes_nothing_of_how_one_signs_in(rosa: User) -> None:
    """Not by a password set in it either, nor by one that is known."""
    rosa.set_unusable_password()
    rosa.save()
    for path in ("password/set", "3rdparty", "2fa/totp/activate"):
        client = signed_in(rosa, sso(rosa, 7 * 3600))
        answer = client.post(f"/accounts/{path}/", {"password1": "x" * 20, "password2": "x" * 20})
        assert answer["Location"].startswith("/accounts/login/")
    rosa.refresh_from_db()
    assert not rosa.has_usable_password()
    again = {**password(), "reauthenticated": True}
    client = signed_in(rosa, sso(rosa, 7 * 3600), again)
    assert client.get("/accounts/2fa/totp/activate/")["Location"].startswith("/accounts/login/")


def test_nobody_changes_the_mail_address_that_others_know_them_by(rosa: User) -> None:
    client = signed_in(rosa, password())
    for body in ({"action_add": "", "email": "r@example.net"}, {"action_primary": ""}):
        assert client.post("/accounts/email/", body).status_code == 403
    rosa.refresh_from_db()
    assert rosa.email == "rosa@example.org"
    assert not EmailAddress.objects.exists()


def test_who_has_a_factor_shows_it_to_get_another(rosa: User) -> None:
    key = factor_of(rosa)
    for records in ((password(),), (password(), shown(key, 301))):
        for path in ("2fa/totp/activate", "2fa/webauthn/add", f"2fa/webauthn/keys/{key.pk}/remove"):
            answer = signed_in(rosa, *records).get(f"/accounts/{path}/")
            assert answer["Location"].startswith("/accounts/2fa/webauthn/reauthenticate/"), path
    client = signed_in(rosa, password(), {**shown(key), "reauthenticated": True})
    assert client.get("/accounts/2fa/totp/activate/").status_code == 200


def test_a_name_is_counted_however_it_is_spelt(admin_user: User) -> None:
    client = Client(REMOTE_ADDR="192.0.2.1")
    for name in ("admin", "Admin", "aDmin", "ADMIN", " admin "):
        client.post("/accounts/login/", {"login": name, "password": "wrong"})
    right = {"login": "ADMIN", "password": PASSWORD}
    assert client.post("/accounts/login/", right).status_code == 429


def test_behind_a_proxy_one_flood_is_one_address(admin_user: User, settings: Settings) -> None:
    settings.BEHIND_PROXY = True
    form = {"login": "nobody", "password": "wrong"}
    for _ in range(40):
        Client().post("/accounts/login/", form, headers={"X-Forwarded-For": "203.0.113.9"})
    right = {"login": "admin", "password": PASSWORD}
    answer = Client().post("/accounts/login/", right, headers={"X-Forwarded-For": "192.0.2.1"})
    assert answer.status_code == 302


def test_who_comes_and_goes_and_where_it_was_refused_is_recorded(admin_user: User) -> None:
    client = Client(REMOTE_ADDR="192.0.2.1")
    for name, password in (("admin", "wrong"), ("hunter22!", "wrong"), ("admin", PASSWORD)):
        client.post("/accounts/login/", {"login": name, "password": password})
    client.post("/accounts/logout/")
    events = Event.objects.filter(type__startswith="auth.").order_by("id").with_values()
    own = str(admin_user.pk)
    assert [(one.type, one.actor_id, one.subject_id) for one in events] == [
        ("auth.login_failed", "portal", own),
        ("auth.login_failed", "portal", "unknown"),
        ("auth.login_succeeded", own, own),
        ("auth.logged_out", own, own),
    ]
    for event in events:
        # Where from is beside the leaf, and a name that nobody has is nowhere.
        assert event.details["address"] == "192.0.2.1"
        assert "192.0.2.1" not in event.leaf
        assert "hunter22" not in f"{event.leaf}{event.values()}"


def test_nobody_comes_in_unrecorded(admin_user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*given: Any, **more: Any) -> None:
        raise DatabaseError

    monkeypatch.setattr(auth_events, "record", failing)
    client = Client()
    with pytest.raises(DatabaseError):
        client.post("/accounts/login/", {"login": "admin", "password": PASSWORD})
    assert client.get("/admin/").status_code == 302


def test_factors_survive_the_rotation_of_the_ring(
    admin_user: User, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = "JBSWY3DPEHPK3PXP"
    TOTP.activate(admin_user, secret)
    old = settings.ENCRYPTION_KEYS
    settings.ENCRYPTION_KEYS = f"{a_key(5)},{old}"
    call_command("rewrap_keys")
    settings.ENCRYPTION_KEYS = a_key(5)
    assert SecondFactorAdapter().decrypt(Authenticator.objects.get().data["secret"]) == secret
    assert startup.problems() == []
    settings.ENCRYPTION_KEYS = old
    assert "factor" in startup.problems()[0]
    capsys.readouterr()


def test_the_service_itself_looks_at_the_factor(high: ApprovalRequest, rosa: User) -> None:
    now = datetime.now(UTC)
    for factor in (
        None,
        Factor("webauthn", "1", now - FRESH_FOR - timedelta(seconds=1)),
        Factor("webauthn", "1", now + timedelta(minutes=1)),
    ):
        with pytest.raises(StepUpRequired):
            cast_vote(
                high.pk,
                actor=Actor.from_user(rosa),
                answer=Vote.Answer.APPROVE,
                reason="Yes.",
                factor=factor,
            )
    assert not Vote.objects.exists()


def test_other_tiers_want_none(tiers: dict[str, Tier], rosa: User) -> None:
    assert vote(signed_in(as_reviewer(rosa), password()), ask("manager")).status_code == 302
    assert Vote.objects.get().factor == ""


def test_a_tier_is_changed_on_record(tiers: dict[str, Tier], admin_user: User) -> None:
    office = signed_in(admin_user, password())
    office.post("/admin/approvals/tier/manager/factor/", {"required": "on", "reason": "Safer."})
    assert Tier.objects.get(slug="manager").requires_step_up
    assert Event.objects.get(type="tier.step_up_changed").details == {
        "required": True,
        "reason": "Safer.",
    }
    with pytest.raises(UnknownTier):
        set_step_up("none", actor=SYSTEM, required=True, reason="So.")


def test_a_code_of_an_app_is_a_second_factor(
    admin_user: User, second_factor: None, high: ApprovalRequest
) -> None:
    secret = "JBSWY3DPEHPK3PXP"
    TOTP.activate(admin_user, secret)
    client = Client()
    form = {"login": "admin", "password": PASSWORD}
    answer = client.post("/accounts/login/", form)
    assert answer["Location"].startswith("/accounts/2fa/authenticate/")
    assert client.get("/admin/").status_code == 302
    code = f"{hotp_value(secret, next(iter(yield_hotp_counters_from_time()))):06d}"
    assert client.post("/accounts/2fa/authenticate/", {"code": code}).status_code == 302
    assert client.get("/admin/").status_code == 200
    assert vote(client, high).status_code == 302
    assert Vote.objects.get().factor.startswith("totp ")


def test_secrets_of_factors_are_sealed(admin_user: User) -> None:
    secret = "JBSWY3DPEHPK3PXP"
    TOTP.activate(admin_user, secret)
    stored = Authenticator.objects.get().data["secret"]
    assert secret not in stored
    assert secret not in base64.b64decode(stored).decode("latin-1")
    assert SecondFactorAdapter().decrypt(stored) == secret


def test_sign_on_brings_nobody_in_unless_it_may(settings: Settings) -> None:
    adapter = SocialAccountAdapter()
    assert not adapter.is_open_for_signup(mock.Mock(), mock.Mock())
    settings.OIDC_AUTO_PROVISION = True
    assert adapter.is_open_for_signup(mock.Mock(), mock.Mock())


def test_an_agent_opens_no_page_of_people(governed: Governed) -> None:
    token = factories.token_for(governed.identity)
    client = Client()
    for path in ("/admin/", "/admin/agents/agent/", "/api/v1/approvals"):
        answer = client.get(path, headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code in {302, 401, 403}, path
    assert not User.objects.filter(username__startswith="tilda").exists()


def test_bootstrap_asks_for_a_factor_where_much_is_signed(
    db: None, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.DEMO = False
    call_command("bootstrap")
    asks = set(Tier.objects.filter(requires_step_up=True).values_list("slug", flat=True))
    assert asks == {"dual", "policy", "security"}
    set_step_up("dual", actor=SYSTEM, required=False, reason="Not here.")
    call_command("bootstrap")
    assert not Tier.objects.get(slug="dual").requires_step_up
    capsys.readouterr()
