"""What is unusual is written down, answered by steps, and explained by people."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core import mail
from django.db import IntegrityError, transaction
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoCaptureOnCommitCallbacks, Settings

from accounts.models import User
from agents import token_origin
from agents.directory import directory
from agents.errors import FindingResolved, NotResponsibleForAgent
from agents.models import AgentIdentity, Finding
from agents.services import findings, lifecycle
from agents.services.findings import Anomaly, report
from agents.token_origin import network_of
from agents.tokens import jwt_claims
from agents.usage_hours import Hours
from audit.models import Event
from common.actors import SYSTEM, Actor
from common.errors import InvalidInput, ReasonRequired
from tests.agents.runtimes import Runtime, ec_key, enrolled
from tests.conftest import Api
from tests.factories import Governed

pytestmark = pytest.mark.django_db
Rule = Finding.Rule
MONDAY = datetime(2026, 11, 23, tzinfo=UTC)


def seen(identity: AgentIdentity, rule: Finding.Rule, about: str = "") -> Finding | None:
    return report(Anomaly(identity.pk, rule, about, {"seen": about}))


def fresh(identity: AgentIdentity) -> AgentIdentity:
    return AgentIdentity.objects.get(pk=identity.pk)


def test_a_finding_is_made_once_while_it_is_open(identity: AgentIdentity) -> None:
    first = seen(identity, Rule.FIRST_USE, "shop.order")
    assert first is not None
    assert seen(identity, Rule.FIRST_USE, "shop.order") is None
    assert seen(identity, Rule.FIRST_USE, "shop.cancel") is not None
    findings.resolve(first.pk, actor=SYSTEM, reason="As planned.")
    assert seen(identity, Rule.FIRST_USE, "shop.order") is not None
    assert Event.objects.filter(type="finding.made").count() == 3


@pytest.mark.parametrize(
    ("rule", "steps"),
    [
        (Rule.FIRST_USE, ["note", "note", "note", "note"]),
        (Rule.OUTSIDE_HOURS, ["ask", "shorten", "shorten", "shorten"]),
        (Rule.MINT_RATE, ["ask", "shorten", "suspend", "suspend"]),
        (Rule.TWO_NETWORKS, ["shorten", "suspend", "suspend", "suspend"]),
        (Rule.PROBING, ["shorten", "suspend", "suspend", "suspend"]),
        (Rule.MANY_CALLS, ["note", "ask", "ask", "ask"]),
        (Rule.MANY_DENIALS, ["note", "ask", "ask", "ask"]),
    ],
)
def test_each_finding_of_a_week_climbs_a_step(
    identity: AgentIdentity, rule: Finding.Rule, steps: list[str]
) -> None:
    found = [seen(identity, rule, str(number)) for number in range(4)]
    assert [str(one.response) for one in found if one] == steps


def test_after_a_week_it_begins_anew(identity: AgentIdentity) -> None:
    seen(identity, Rule.PROBING, "1")
    Finding.objects.update(found_at=timezone.now() - findings.CLIMBS_WITHIN)
    again = seen(identity, Rule.PROBING, "2")
    assert again is not None
    assert again.response == "shorten"


def test_tokens_live_a_minute_until_it_is_explained(identity: AgentIdentity) -> None:
    runtime = enrolled(identity)
    before = runtime.ask().json()
    assert before["expires_in"] == 300
    found = seen(identity, Rule.PROBING)
    assert found is not None
    # What is under way goes on, and so does the token of before.
    assert fresh(identity).epoch == 1
    after = runtime.ask().json()
    assert after["expires_in"] == 60
    claims = jwt_claims(after["access_token"])
    assert claims["exp"] - claims["iat"] == 60
    findings.resolve(found.pk, actor=SYSTEM, reason="A wrong setting.")
    assert runtime.ask().json()["expires_in"] == 300


def test_tokens_stay_short_while_anything_is_open(identity: AgentIdentity) -> None:
    one, other = seen(identity, Rule.PROBING), seen(identity, Rule.TWO_NETWORKS, "t")
    assert one is not None
    assert other is not None
    findings.resolve(one.pk, actor=SYSTEM, reason="A wrong setting.")
    assert fresh(identity).token_seconds == 60
    findings.resolve(other.pk, actor=SYSTEM, reason="A new office.")
    assert fresh(identity).token_seconds == 300


def test_who_may_explain(identity: AgentIdentity, olga: User, sam: User, clara: User) -> None:
    asked, held_back = seen(identity, Rule.MINT_RATE), seen(identity, Rule.PROBING)
    assert asked is not None
    assert held_back is not None
    for finding, person in ((asked, sam), (held_back, sam), (held_back, olga)):
        with pytest.raises(NotResponsibleForAgent):
            findings.resolve(finding.pk, actor=Actor.from_user(person), reason="Fine.")
    with pytest.raises(ReasonRequired):
        findings.resolve(asked.pk, actor=Actor.from_user(olga), reason=" ")
    assert Finding.objects.open().count() == 2
    findings.resolve(asked.pk, actor=Actor.from_user(olga), reason="A batch.")
    with pytest.raises(FindingResolved):
        findings.resolve(asked.pk, actor=Actor.from_user(olga), reason="A batch.")


def test_people_are_told_without_the_evidence(
    identity: AgentIdentity, django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        report(Anomaly(identity.pk, Rule.MINT_RATE, "", {"tokens": "4711"}))
        report(Anomaly(identity.pk, Rule.FIRST_USE, "", {"tool": "x"}))
    [message] = mail.outbox
    assert message.to == ["olga@example.org"]
    assert "more tokens than its runtimes need" in message.body
    assert "4711" not in message.body


def test_a_question_that_nobody_answers_is_not_left(identity: AgentIdentity) -> None:
    seen(identity, Rule.MINT_RATE)
    for _ in range(2):
        seen(identity, Rule.MANY_CALLS, str(_))
    now = timezone.now()
    assert findings.escalate_unanswered(now=now + timedelta(hours=23)) == 0
    assert findings.escalate_unanswered(now=now + timedelta(hours=24)) == 1
    assert fresh(identity).token_seconds == 60
    # What only statistics say never holds an agent back.
    assert {row.rule: row.response for row in Finding.objects.all()}["many_calls"] != "shorten"


def test_a_superseded_key_is_a_finding(identity: AgentIdentity) -> None:
    runtime = enrolled(identity)
    assert runtime.replace_key(ec_key()).status_code == 201
    identity.keys.filter(status="retiring").update(retires_at=timezone.now())
    assert runtime.ask().status_code == 401
    finding = Finding.objects.get()
    assert (finding.rule, finding.response) == ("superseded_key", "suspend")
    assert fresh(identity).status == "suspended"
    runtime.ask()
    assert Finding.objects.count() == 1


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.200", True),
        ("192.0.2.1", "192.0.3.1", False),
        ("2001:db8:1::1", "2001:db8:1:ffff::2", True),
        ("2001:db8:1::1", "2001:db8:2::1", False),
        ("::ffff:192.0.2.1", "192.0.2.9", True),
        ("", "nowhere", True),
    ],
)
def test_networks(one: str, other: str, same: bool) -> None:
    assert (network_of(one) == network_of(other)) is same


def use(runtime: Runtime, token: str, address: str, **headers: str) -> int:
    response = runtime.http.get(
        "/api/v1/tools",
        REMOTE_ADDR=address,
        headers={"Authorization": f"Bearer {token}", **headers},
    )
    return int(response.status_code)


@pytest.fixture(autouse=True)
def _no_networks_held() -> None:
    token_origin.forget()


def test_one_token_from_two_networks(governed: Governed) -> None:
    runtime = enrolled(governed.identity)
    token = str(runtime.ask().json()["access_token"])
    for address in ("192.0.2.1", "192.0.2.7", "2001:db8::1", "2001:db8::2"):
        assert use(runtime, token, address) == 200
    assert not Finding.objects.exists()
    token_origin.forget()  # another process
    assert use(runtime, token, "198.51.100.7") == 401
    finding = Finding.objects.get()
    assert finding.rule == "two_networks"
    assert finding.evidence["networks"] == ["192.0.2.0/24", "198.51.100.0/24"]
    assert token not in str(finding.evidence)
    # The token is dead, for whoever copied it and for whoever had it.
    assert use(runtime, token, "192.0.2.1") == 401
    other = str(runtime.ask().json()["access_token"])
    assert use(runtime, other, "192.0.2.1") == 200


def test_a_sender_does_not_choose_where_it_comes_from(
    governed: Governed, settings: Settings
) -> None:
    settings.BEHIND_PROXY = True
    runtime = enrolled(governed.identity)
    token = str(runtime.ask().json()["access_token"])
    for claimed in ("203.0.113.1", "198.51.100.1", "nonsense"):
        headers = {"X-Forwarded-For": f"{claimed}, 192.0.2.1"}
        assert use(runtime, token, "10.0.0.1", **headers) == 200
    assert not Finding.objects.exists()


@pytest.mark.parametrize(
    "text",
    ["8-18", "mon-fri", "mon-fri 8-8", "mon-fri 8-25", "mon-fri 24-8", "x-y 1-2", "٣-fri 1-2"],
)
def test_hours_that_are_none(identity: AgentIdentity, text: str) -> None:
    with pytest.raises(InvalidInput):
        Hours.parsed(text)
    with pytest.raises(InvalidInput):
        lifecycle.declare_use(identity.pk, actor=SYSTEM, replicas=1, hours=text, reason="So.")
    assert fresh(identity).hours == ""


@pytest.mark.parametrize(
    ("text", "covered", "not_covered"),
    [
        ("mon-fri 8-18", [(0, 8), (4, 17)], [(0, 7), (0, 18), (5, 9), (6, 9)]),
        ("sat-sun 0-24", [(5, 0), (6, 23)], [(0, 0), (4, 23)]),
        ("fri-mon 9-17", [(4, 9), (5, 9), (6, 9), (0, 9)], [(1, 9), (3, 9)]),
        ("mon-fri 22-6", [(0, 22), (1, 5), (5, 5)], [(0, 5), (0, 21), (5, 22), (6, 5)]),
    ],
)
def test_hours(
    text: str, covered: list[tuple[int, int]], not_covered: list[tuple[int, int]]
) -> None:
    hours = Hours.parsed(text)
    for expected, moments in ((True, covered), (False, not_covered)):
        for day, hour in moments:
            moment = MONDAY + timedelta(days=day, hours=hour, minutes=30)
            assert hours.cover(moment) is expected, (text, day, hour)


def test_the_database_keeps_lives_short_and_resolutions_said(identity: AgentIdentity) -> None:
    seen(identity, Rule.PROBING)
    for values in ({"token_seconds": 301}, {"token_seconds": 59}, {"replicas": 0}):
        with pytest.raises(IntegrityError), transaction.atomic():
            AgentIdentity.objects.update(**values)
    for resolved in ({"resolved_at": timezone.now()}, {"resolution": "Fine."}):
        with pytest.raises(IntegrityError), transaction.atomic():
            Finding.objects.update(**resolved)


def test_a_suspended_agents_finding_lets_nobody_back_in(identity: AgentIdentity) -> None:
    seen(identity, Rule.SUPERSEDED_KEY)
    finding = Finding.objects.get()
    findings.resolve(finding.pk, actor=SYSTEM, reason="An old backup.")
    assert not directory.current().identities[identity.client_id].usable


def test_pages(governed: Governed, api: Api, admin_user: User) -> None:
    runtime = enrolled(governed.identity)
    runtime.ask()
    finding = seen(governed.identity, Rule.PROBING, "it tried four tools")
    assert finding is not None
    office = Client()
    office.force_login(admin_user)
    for address in (
        "/admin/agents/finding/",
        "/admin/agents/finding/?open=yes",
        f"/admin/agents/finding/{finding.pk}/change/",
        f"/admin/agents/agent/{governed.identity.agent_id}/change/",
        f"/admin/agents/agentidentity/{governed.identity.pk}/change/",
    ):
        assert "denied on several tools" in office.get(address).content.decode(), address
    office.post(f"/admin/agents/finding/{finding.pk}/resolve/", {"reason": "A wrong setting."})
    assert Finding.objects.get().resolution == "A wrong setting."
    page = f"/admin/agents/agentidentity/{governed.identity.pk}"
    form: dict[str, Any] = {"replicas": 3, "hours": "Mon-Fri 8-18", "reason": "As planned."}
    office.post(f"{page}/declare_use/", form)
    assert (fresh(governed.identity).replicas, fresh(governed.identity).hours) == (
        3,
        "mon-fri 8-18",
    )
    runtime.ask()
    assert "tools" in office.get(f"{page}/change/").content.decode()
    ring = office.get("/admin/accounts/environment/prod/change/").content.decode()
    assert "Key ring" in ring
