"""A real browser with a virtual authenticator: a passkey is registered, used, asked for again."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings as configured
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from playwright.sync_api import Browser, Page
from pytest_django import Settings

from accounts.factors import FRESH_FOR
from accounts.models import User
from approvals.models import ApprovalRequest, Tier, Vote
from approvals.services import set_step_up
from common.actors import SYSTEM
from tests.accounts.test_signing_in import as_reviewer
from tests.factories import Governed
from tests.portal import test_browser
from tests.portal.test_browser import browser

__all__ = ["browser"]
pytestmark = test_browser.pytestmark


@pytest.fixture
def question(governed: Governed, tiers: dict[str, Tier]) -> ApprovalRequest:
    """A payment that two managers sign, with a second factor."""
    set_step_up("dual", actor=SYSTEM, required=True, reason="It signs for much.")
    governed.pay(governed.run(), 5_000)
    return ApprovalRequest.objects.get()


@pytest.fixture
def page(browser: Browser, live_server: Any) -> Iterator[Page]:
    context = browser.new_context(base_url=live_server.url.replace("127.0.0.1", "localhost"))
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    yield page
    context.close()
    assert wrong == []


def give_authenticator(page: Page) -> None:
    """A platform authenticator that recognises its user, as a laptop's fingerprint reader does."""
    devtools = page.context.new_cdp_session(page)
    devtools.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
        "automaticPresenceSimulation": True,
    }
    devtools.send("WebAuthn.addVirtualAuthenticator", {"options": options})


def sign_in(page: Page, name: str) -> None:
    page.goto("/accounts/login/")
    page.fill("#id_login", name)
    page.fill("#id_password", "pw")
    page.click("form.entrance-form button[type=submit]")


def grow_old(seconds: float) -> None:
    """All proofs in all sessions were given so much earlier."""
    for row in Session.objects.all():
        store = SessionStore(session_key=row.session_key)
        for record in store.get("account_authentication_methods", []):
            record["at"] -= seconds
        store.modified = True
        store.save()


def register_passkey(page: Page) -> None:
    page.goto("/accounts/2fa/webauthn/add/")
    # Adding a factor takes the password once more.
    page.fill("#id_password", "pw")
    page.click("form.entrance-form button[type=submit]")
    page.wait_for_url("**/webauthn/add/**")
    page.fill("#id_name", "Laptop")
    page.click("#mfa_webauthn_add")
    page.wait_for_url("**/recovery-codes/**")


def approve(page: Page) -> None:
    page.fill("#id_reason", "The customer was called.")
    page.click("button[value=approve]")
    page.wait_for_load_state()


def test_a_passkey_from_registration_to_a_signature(
    page: Page, question: ApprovalRequest, rosa: User, settings: Settings
) -> None:
    as_reviewer(rosa)
    settings.REQUIRE_MFA = True
    give_authenticator(page)
    sign_in(page, "rosa")
    # Signed in with a password alone: the portal opens only after a second factor.
    page.goto("/admin/")
    assert "/accounts/2fa/" in page.url
    register_passkey(page)
    page.click("#logout-form button")
    page.wait_for_url("**/accounts/login/**")

    # Then with the passkey alone, which is two factors: the key, and the person it recognises.
    page.click("#passkey_login")
    page.wait_for_url("**/admin/")
    address = f"/admin/approvals/approvalrequest/{question.pk}/change/"
    page.goto(address)
    assert page.locator("button[value=approve]").is_visible()

    # Six minutes later a high tier wants to see it again.
    grow_old(FRESH_FOR.total_seconds() + 60)
    page.goto(address)
    assert not page.locator("button[value=approve]").is_visible()
    page.click("text=Show it, then answer")
    page.wait_for_url("**/reauthenticate/**")
    page.click("#mfa_webauthn_reauthenticate")
    page.wait_for_url(f"**{address}")
    approve(page)
    vote = Vote.objects.get()
    assert vote.voter == rosa
    assert vote.factor.startswith("webauthn ")


def test_a_single_sign_on_of_yesterday_signs_nothing(
    page: Page, question: ApprovalRequest, rosa: User
) -> None:
    as_reviewer(rosa)
    rosa.set_unusable_password()
    rosa.save()
    store = SessionStore()
    store[SESSION_KEY] = str(rosa.pk)
    store[BACKEND_SESSION_KEY] = "allauth.account.auth_backends.AuthenticationBackend"
    store[HASH_SESSION_KEY] = rosa.get_session_auth_hash()
    store["account_authentication_methods_user"] = str(rosa.pk)
    store["account_authentication_methods"] = [
        {"method": "socialaccount", "provider": "sso", "uid": "7", "at": time.time() - 86_400}
    ]
    store.create()
    cookie: Any = {
        "name": configured.SESSION_COOKIE_NAME,
        "value": store.session_key,
        "domain": "localhost",
        "path": "/",
    }
    page.context.add_cookies([cookie])
    give_authenticator(page)
    page.goto(f"/admin/approvals/approvalrequest/{question.pk}/change/")
    assert not page.locator("button[value=approve]").is_visible()
    page.click("text=Show it, then answer")
    page.wait_for_url("**/accounts/2fa/**")
    # Nor does the old session get a factor of its own: it has to be opened anew.
    page.goto("/accounts/2fa/webauthn/add/")
    page.wait_for_url("**/accounts/login/**")
    assert not Vote.objects.exists()
