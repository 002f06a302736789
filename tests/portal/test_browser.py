"""A real browser walks every admin page under the strict policy; any console error fails."""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from accounts.models import User
from actions.models import Action
from agents.models import Halt
from agents.services.halts import place_halt
from approvals.models import ApprovalRequest
from common.actors import SYSTEM
from policies.services import releases
from tests.factories import Governed
from tests.workflows import sample_data

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
REQUIRED = os.environ.get("CHANCERY_REQUIRE_BROWSER") == "1"
pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(not CHROMIUM and not REQUIRED, reason="no Chromium on PATH"),
]
MAX_PAGES = 260
_IDENTIFIER = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|(?<=/)\d+(?=/)|prod|supervisor|manager|dual")


@pytest.fixture
def busy(governed: Governed, admin_user: User) -> Governed:
    """Something on every page: decisions of each kind, a draft release, a halt."""
    run = governed.run()
    for amount in (1, 500, 5000):
        governed.pay(run, amount)
    governed.propose(run, "toolbox.read_account", {"id": "a"})
    governed.propose(governed.run(), "toolbox.wipe", {"id": "a"})
    text = """@id("next") @reason("Not yet.")
    forbid(principal, action, resource) when { context.time.hour > 23 };"""
    releases.save_policy("next", text, actor=SYSTEM)
    release = releases.draft_release(actor=SYSTEM, note="Next.")
    releases.ask_to_publish(release.pk, actor=SYSTEM)
    sample_data.workflows_at_work(governed)
    place_halt(Halt.Kind.TOOL, actor=SYSTEM, target="toolbox.mail", reason="Under repair.")
    return governed


@pytest.fixture
def browser() -> Iterator[Browser]:
    # Playwright runs an event loop in this thread, in which Django refuses database work.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield started
        started.close()
    del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@pytest.fixture
def open_page(browser: Browser, live_server: Any) -> Callable[..., tuple[Page, list[str]]]:
    def signed_in(width: int = 1280) -> tuple[Page, list[str]]:
        page = browser.new_context(viewport={"width": width, "height": 900}).new_page()
        wrong: list[str] = []
        page.on(
            "console",
            lambda said: wrong.append(f"{page.url}: {said.text}") if said.type == "error" else None,
        )
        page.on("pageerror", lambda error: wrong.append(f"{page.url}: {error}"))
        page.goto(f"{live_server.url}/admin/login/")
        page.fill("#id_login", "admin")
        page.fill("#id_password", "pw")
        page.click("form.entrance-form button[type=submit]")
        return page, wrong

    return signed_in


def walk(page: Page, start: str) -> Iterator[str]:
    """Every page reached by links from `start`, one or two of each kind."""
    waiting, seen, kinds = [start], set[str](), dict[str, int]()
    while waiting and len(seen) < MAX_PAGES:
        url = waiting.pop(0)
        kind = _IDENTIFIER.sub("*", url.split("?", 1)[0])
        if url in seen or kinds.get(kind, 0) >= 2:
            continue
        seen.add(url)
        kinds[kind] = kinds.get(kind, 0) + 1
        answer = page.goto(url)
        assert answer is not None
        assert answer.status < 400, f"{url}: {answer.status}"
        yield url
        links = page.eval_on_selector_all("a[href]", "found => found.map(one => one.href)")
        waiting += [
            link.split("#")[0] for link in links if "/admin/" in link and "logout" not in link
        ]


@pytest.mark.parametrize("width", [1280, 390])
def test_every_page_opens_without_a_complaint(
    busy: Governed, open_page: Any, live_server: Any, width: int
) -> None:
    page, wrong = open_page(width)
    too_wide = []
    visited = 0
    for url in walk(page, f"{live_server.url}/admin/"):
        visited += 1
        if page.evaluate("document.documentElement.scrollWidth") > width:
            too_wide.append(url)
    assert wrong == []
    assert too_wide == []
    assert visited > 70
    page.goto(f"{live_server.url}/api/docs/")
    page.wait_for_selector(".opblock")
    assert wrong == []


def test_a_person_approves_on_the_page(
    busy: Governed, open_page: Any, live_server: Any, hints: Any
) -> None:
    waiting = ApprovalRequest.objects.filter(tier="supervisor").earliest("pk")
    page, wrong = open_page()
    page.goto(f"{live_server.url}/admin/approvals/approvalrequest/{waiting.pk}/change/")
    assert page.inner_text("h1") == "Tilda wants to: Pay"
    assert page.is_visible("text=A supervisor signs payments over 100.")
    page.click("button:has-text('Approve')")
    assert ApprovalRequest.objects.get(pk=waiting.pk).status == "pending"  # no reason given
    page.fill("#id_reason", "The customer confirmed.")
    page.click("button:has-text('Approve')")
    page.wait_for_selector("text=Your answer is recorded.")
    assert ApprovalRequest.objects.get(pk=waiting.pk).status == "approved"
    assert hints.of("actions.execute") == [waiting.subject_id]
    assert wrong == []


def test_a_wrong_rule_is_refused_at_its_line(
    busy: Governed, open_page: Any, live_server: Any
) -> None:
    page, _ = open_page()
    page.goto(f"{live_server.url}/admin/policies/policy/write/")
    page.fill("#id_slug", "odd")
    text = '@id("odd")\n@reason("x")\nforbid(principal, action == Action::"toolbox.pay", resource)'
    page.fill("#id_text", f"{text}\nwhen {{ context.facts.nope }};")
    page.click("button:has-text('Check and save')")
    assert "Line 4" in page.inner_text(".errorlist")
    assert page.inner_text(".code-lines .wrong") == "when { context.facts.nope };"


def test_an_enrolment_code_is_shown_once(busy: Governed, open_page: Any, live_server: Any) -> None:
    page, wrong = open_page()
    stem = f"{live_server.url}/admin/agents/agentidentity/{busy.identity.pk}"
    page.goto(f"{stem}/enrol/")
    page.click("button:has-text('Issue the code')")
    code = page.inner_text("#code")
    assert len(code) >= 20
    page.goto(f"{stem}/change/")
    assert code not in page.content()
    assert wrong == []


def test_an_agent_is_halted_with_one_click_and_a_reason(
    busy: Governed, open_page: Any, live_server: Any
) -> None:
    page, _ = open_page()
    page.goto(f"{live_server.url}/admin/agents/agent/{busy.identity.agent_id}/halt/")
    page.fill("#id_reason", "It misbehaves.")
    page.click("button:has-text('Halt now')")
    page.goto(f"{live_server.url}/admin/")
    assert page.is_visible("text=Halt in force: agent tilda")
    assert busy.pay(busy.run()).action.outcome == "halted"
    assert Action.objects.filter(outcome="halted").exists()


def test_no_page_shows_markup_as_text(busy: Governed, open_page: Any, live_server: Any) -> None:
    page, _ = open_page()
    for url in walk(page, f"{live_server.url}/admin/"):
        assert "<span" not in page.inner_text("body"), url
