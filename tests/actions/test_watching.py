"""What is unusual in how identities are used, from the actions and tokens themselves."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.test import Client
from django.utils import timezone
from hypothesis import given, settings
from hypothesis import strategies as st

from accounts.models import User
from actions.anomaly_score import ENOUGH, is_outlier, score
from actions.models import Action, FirstToolUse, UsageHour
from actions.services import usage_monitor
from agents.models import AgentIdentity, Finding
from agents.services import lifecycle
from common.actors import SYSTEM
from common.ids import uuid7
from policies.services import grants
from tests.agents.runtimes import enrolled
from tests.factories import Governed
from tools.models import Tool
from tools.services.registration import define_tool

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)


def rules() -> dict[str, Finding]:
    return {finding.rule: finding for finding in Finding.objects.all()}


def denied_on(governed: Governed, number: int) -> None:
    for index in range(number):
        name = f"secret_{index}"
        define_tool(
            governed.system,
            name,
            actor=SYSTEM,
            title=name,
            access="read",
            input_schema={"type": "object"},
        )
        governed.propose(governed.run(), f"toolbox.{name}", {})


@pytest.mark.parametrize(("number", "found"), [(3, False), (4, True)])
def test_trying_one_door_after_another(
    governed: Governed,
    number: int,
    found: bool,
) -> None:
    denied_on(governed, number)
    usage_monitor.watch()
    assert ("probing" in rules()) is found
    if found:
        assert rules()["probing"].evidence["denied on"] == [
            f"toolbox.secret_{index}" for index in range(4)
        ]
        assert AgentIdentity.objects.get().token_seconds == 60


def test_the_same_door_is_no_probing(governed: Governed) -> None:
    for _ in range(6):
        governed.toolbox.accounts["a"] = {"frozen": True}
        governed.pay(governed.run())
    usage_monitor.watch()
    assert "probing" not in rules()


def test_denials_of_long_ago_are_no_probing(governed: Governed) -> None:
    denied_on(governed, 4)
    usage_monitor.watch(now=timezone.now() + usage_monitor.WINDOW)
    assert "probing" not in rules()


def test_a_new_tool_of_an_identity_that_is_known(governed: Governed) -> None:
    governed.pay(governed.run())
    usage_monitor.watch()
    assert rules() == {}
    FirstToolUse.objects.update(first_at=timezone.now() - timedelta(days=2))
    governed.propose(governed.run(), "toolbox.mail", {"to": "x"})
    usage_monitor.watch()
    finding = rules()["first_use"]
    assert (finding.about, finding.response) == ("toolbox.mail", "note")
    usage_monitor.watch()
    assert Finding.objects.count() == 1
    assert FirstToolUse.objects.count() == 2


def test_outside_production_a_new_tool_is_no_news(governed: Governed) -> None:
    environment = governed.identity.environment
    environment.is_production = False
    environment.save()
    governed.pay(governed.run())
    usage_monitor.watch()
    FirstToolUse.objects.update(first_at=timezone.now() - timedelta(days=2))
    governed.propose(governed.run(), "toolbox.mail", {"to": "x"})
    usage_monitor.watch()
    assert rules() == {}


@pytest.mark.parametrize(("replicas", "number", "found"), [(1, 10, True), (2, 10, False)])
def test_more_tokens_than_runtimes_need(
    governed: Governed,
    replicas: int,
    number: int,
    found: bool,
) -> None:
    lifecycle.declare_use(
        governed.identity.pk, actor=SYSTEM, replicas=replicas, hours="", reason="So."
    )
    runtime = enrolled(governed.identity)
    for _ in range(number):
        assert runtime.ask().status_code == 200
    usage_monitor.watch()
    assert ("mint_rate" in rules()) is found
    if found:
        assert rules()["mint_rate"].evidence["expected"] == 3


def test_use_at_night(governed: Governed, monkeypatch: pytest.MonkeyPatch) -> None:
    lifecycle.declare_use(
        governed.identity.pk, actor=SYSTEM, replicas=1, hours="mon-fri 8-18", reason="So."
    )
    now = timezone.now()
    monday = now - timedelta(days=now.weekday())
    for hour, found in ((10, False), (22, True)):
        moment = monday.replace(hour=hour, minute=1, second=0, microsecond=0)
        a_call(governed, moment)
        usage_monitor.watch(now=moment + timedelta(seconds=5))
        assert ("outside_hours" in rules()) is found


def a_call(governed: Governed, moment: Any, *, outcome: str = "allowed", number: int = 1) -> None:
    """Actions as they would have been decided at another time."""
    run = governed.run()
    made = governed.pay(run).action
    rows = []
    for _ in range(number):
        row = Action.objects.get(pk=made.pk)
        noise = uuid7().int & (2**80 - 1)
        row.pk = UUID(int=(int(moment.timestamp() * 1000) << 80) | noise)
        row.idempotency_key, row.decided_at = str(row.pk), moment
        row.outcome, row.status, row.attempts_count = outcome, "denied", 0
        rows.append(row)
    Action.objects.bulk_create(rows)


def test_hours_are_counted_however_often(governed: Governed, olga: User) -> None:
    now = timezone.now().replace(minute=30)
    a_call(governed, now - HOUR, number=3)
    a_call(governed, now - HOUR, outcome="denied", number=2)
    for _ in range(3):
        usage_monitor.count_hours(now)
    row = UsageHour.objects.get(hour=(now - HOUR).replace(minute=0, second=0, microsecond=0))
    assert (row.allowed, row.denied, row.tools, row.calls) == (3, 2, 1, 5)
    a_call(governed, now - HOUR, number=1)
    usage_monitor.count_hours(now)
    row.refresh_from_db()
    assert row.allowed == 4


@pytest.mark.parametrize(("number", "found"), [(60, True), (12, False)])
def test_an_hour_unlike_the_others(
    governed: Governed,
    number: int,
    found: bool,
) -> None:
    now = timezone.now().replace(minute=30)
    this = now.replace(minute=0, second=0, microsecond=0)
    UsageHour.objects.bulk_create(
        UsageHour(
            identity=governed.identity,
            hour=this - (index + 2) * HOUR,
            allowed=9 + index % 3,
            is_evaluated=True,
        )
        for index in range(ENOUGH)
    )
    a_call(governed, now - HOUR, number=number)
    usage_monitor.watch(now=now)
    usage_monitor.watch(now=now)
    assert ("many_calls" in rules()) is found
    if found:
        assert rules()["many_calls"].response == "note"
        assert rules()["many_calls"].evidence["usual"] == 10


def test_without_a_past_nothing_is_compared(governed: Governed) -> None:
    now = timezone.now().replace(minute=30)
    a_call(governed, now - HOUR, number=500)
    usage_monitor.watch(now=now)
    assert rules() == {}


def test_old_hours_are_forgotten(governed: Governed) -> None:
    now = timezone.now()
    for days in (399, 401):
        UsageHour.objects.create(identity=governed.identity, hour=now - timedelta(days=days))
    assert usage_monitor.prune(now=now) == 1


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 1_000), min_size=ENOUGH, max_size=80),
    st.integers(0, 10_000),
    st.integers(0, 1_000),
)
def test_laws_of_the_score(usual: list[int], value: int, more: int) -> None:
    assert score(value + more, usual) >= score(value, usual)
    assert score(max(usual), [max(usual)] * ENOUGH) == 0
    if is_outlier(value, usual, at_least=1):
        assert value > sorted(usual)[len(usual) // 2]
    # One wild value among many moves it hardly.
    with_outlier = [*usual, 10**9]
    if is_outlier(10**9, usual, at_least=1):
        assert is_outlier(10**9, with_outlier, at_least=1)


def test_grants_are_seen_on_the_page_of_an_agent(governed: Governed, admin_user: User) -> None:
    office = Client()
    office.force_login(admin_user)
    governed.pay(governed.run())
    usage_monitor.watch()
    grants.mark(
        governed.role,
        governed.system,
        Tool.Access.WRITE,
        actor=SYSTEM,
        by_elevation=True,
        reason="Rarely.",
    )
    page = office.get(f"/admin/agents/agent/{governed.identity.agent_id}/change/").content.decode()
    assert "only by elevation" in page
    assert "Use in the last 30 days" in page
    assert "1 allowed" in page
