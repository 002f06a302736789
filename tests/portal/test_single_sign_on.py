"""Single sign-on in a real browser, through a provider that runs as a process of its own."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from allauth.socialaccount.models import SocialAccount
from django.conf import LazySettings
from playwright.sync_api import Browser, Page

from accounts.models import User
from portal.environment import origin_of
from tests.databases import free_port
from tests.portal.test_browser import CHROMIUM, REQUIRED, browser

__all__ = ["browser"]
pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(not CHROMIUM and not REQUIRED, reason="no Chromium on PATH"),
]
PEOPLE = (
    {"sub": "rosa@provider", "email": "rosa@example.org", "amr": ["pwd", "otp"]},
    {"sub": "olga@provider", "email": "olga@example.org", "amr": ["pwd"]},
)


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    port = free_port()
    people = [part for one in PEOPLE for part in ("--user-claims", json.dumps(one))]
    command = [sys.executable, "-W", "ignore", "-m", "oidc_provider_mock", "-p", str(port), *people]
    process = subprocess.Popen(command, env=os.environ, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(150):
            try:
                httpx.get(f"{address}/.well-known/openid-configuration")
                break
            except httpx.TransportError:
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait(timeout=20)


@pytest.fixture
def sso(settings: LazySettings, provider: str) -> str:
    app = {
        "provider_id": "sso",
        "name": "The works' sign-in",
        "client_id": "portal",
        "secret": "told",
        "settings": {"server_url": provider},
    }
    settings.SOCIALACCOUNT_PROVIDERS = {
        "openid_connect": {"OAUTH_PKCE_ENABLED": True, "APPS": [app]}
    }
    directives = settings.CONTENT_SECURITY_POLICY["DIRECTIVES"]
    settings.CONTENT_SECURITY_POLICY = {
        "DIRECTIVES": directives
        | {"form-action": [*directives["form-action"], origin_of(f"{provider}/path")]}
    }
    settings.OIDC_MFA_VALUES = frozenset({"otp"})
    return provider


@pytest.fixture
def page(browser: Browser) -> Page:
    return browser.new_context().new_page()


def by_password(page: Page, address: str, name: str) -> None:
    page.goto(f"{address}/accounts/login/")
    page.fill("#id_login", name)
    page.fill("#id_password", "pw")
    page.click("form.entrance-form button[type=submit]")


def at_provider(page: Page, sso: str, who: str) -> None:
    """What a person does between the portal's button and being back."""
    page.click("button:has-text('Continue')")
    page.wait_for_url(f"{sso}/**")
    page.click(f"button:has-text('{who}')")
    page.wait_for_url(lambda url: not url.startswith(sso))


def connected(page: Page, address: str, sso: str, name: str) -> None:
    by_password(page, address, name)
    page.goto(f"{address}/accounts/3rdparty/")
    page.click('a:has-text("The works\' sign-in")')
    at_provider(page, sso, f"{name}@provider")
    page.fill("#id_password", "pw")
    page.click("button:has-text('Confirm')")
    page.wait_for_url("**/accounts/3rdparty/")


def test_a_person_connects_their_account_and_signs_in_with_two_factors(
    sso: str, page: Page, live_server: Any, rosa: User, settings: LazySettings
) -> None:
    connected(page, live_server.url, sso, "rosa")
    assert SocialAccount.objects.get(user=rosa).uid == "rosa@provider"
    settings.REQUIRE_MFA = True
    page.context.clear_cookies()
    page.goto(f"{live_server.url}/admin/")
    page.click('a:has-text("The works\' sign-in")')
    at_provider(page, sso, "rosa@provider")
    assert page.url == f"{live_server.url}/admin/"
    assert page.is_visible("text=rosa")


def test_one_factor_at_the_provider_leads_to_a_second_one_here(
    sso: str, page: Page, live_server: Any, olga: User, settings: LazySettings
) -> None:
    connected(page, live_server.url, sso, "olga")
    settings.REQUIRE_MFA = True
    page.context.clear_cookies()
    page.goto(f"{live_server.url}/admin/")
    page.click('a:has-text("The works\' sign-in")')
    at_provider(page, sso, "olga@provider")
    assert "/accounts/2fa/" in page.url


def test_nobody_new_joins_unless_that_is_set(sso: str, page: Page, live_server: Any) -> None:
    before = User.objects.count()
    page.goto(f"{live_server.url}/accounts/login/")
    page.click('a:has-text("The works\' sign-in")')
    at_provider(page, sso, "rosa@provider")
    assert User.objects.count() == before
    page.goto(f"{live_server.url}/admin/")
    assert "/accounts/login/" in page.url


def test_a_browser_follows_no_form_to_an_origin_that_is_not_named(
    sso: str, page: Page, live_server: Any, settings: LazySettings
) -> None:
    settings.CONTENT_SECURITY_POLICY = {"DIRECTIVES": {"form-action": ["'self'"]}}
    page.goto(f"{live_server.url}/accounts/login/")
    page.click('a:has-text("The works\' sign-in")')
    with page.expect_console_message(lambda said: "form-action" in said.text):
        page.click("button:has-text('Continue')")
