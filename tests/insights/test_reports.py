"""The nine reports over a day on which things happened: their figures are those of the day."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import transaction
from django.test import Client
from django.utils import timezone

from accounts.models import User
from actions.events import CALL_FAILED, CALL_REQUESTED
from actions.services import recovery, redecision
from actions.services.recovery import Resolution
from approvals.models import ApprovalRequest, Vote
from approvals.services import cast_vote
from audit.controls import controls
from audit.models import Checkpoint, Event
from audit.services.recorder import Subject, record
from audit.services.sealer import seal
from common.actors import SYSTEM, Actor
from insights import event_data
from insights.components import Content, duration, middle
from insights.event_data import Period, facts_of, types_like
from insights.reports import REPORTS
from insights.reports.log import _longest_gap
from tests.audit.test_pages import person
from tests.factories import Governed
from tools.connectors.base import NoResponse

pytestmark = pytest.mark.django_db


@pytest.fixture
def day(governed: Governed, rosa: User) -> Governed:
    """Four payments, of which one is asked about, one is denied, and a mail of unknown effect."""
    run = governed.run()
    governed.toolbox.fail_with = [NoResponse("no answer")]
    mail = governed.propose(run, "toolbox.mail", {"to": "a@example.org"}).action
    recovery.resolve_unknown(
        mail.pk, actor=Actor.from_user(rosa), answer=Resolution.FAILED, reason="Not sent."
    )
    for _ in range(2):
        governed.pay(run)
    paid = governed.pay(run, 500).action
    cast_vote(
        ApprovalRequest.objects.get().pk,
        actor=Actor.from_user(rosa),
        answer=Vote.Answer.APPROVE,
        reason="Yes.",
    )
    redecision.resume(paid.pk)
    governed.toolbox.accounts["a"]["frozen"] = True
    governed.pay(run)
    governed.propose(run, "toolbox.read_account", {"id": "a"})
    seal()
    return governed


def today() -> Period:
    now = timezone.now()
    return Period(now - timedelta(hours=12), now + timedelta(minutes=1))


def content(number: str) -> Content:
    [control] = [one for one in controls() if one["report"] == number]
    return REPORTS[number](facts_of(today(), control["events"]))


def figures(number: str) -> dict[str, str]:
    return {one.label: one.value for one in content(number).figures}


def test_decisions_are_counted_by_outcome_rule_and_release(day: Governed) -> None:
    found = figures("R4")
    assert found["decisions"] == "7"
    assert (found["allowed"], found["needed approval"], found["denied"]) == ("5", "1", "1")
    assert (found["calls made"], found["answered"]) == ("5", "4")
    assert found["were of unknown effect"] == "1"
    assert found["calls without an end yet"] == "0"
    plots = {one.title: str(one.plot) for one in content("R4").charts}
    rules = plots["What was not simply allowed, by rule"]
    assert "frozen-accounts: 1" in rules
    assert "large-payments: 1" in rules


def test_approvals_have_their_time_and_their_people(day: Governed, rosa: User) -> None:
    asked = Event.objects.get(type="approval.requested")
    ended = Event.objects.get(type="approval.approved")
    took = duration((ended.recorded_at - asked.recorded_at).total_seconds())
    found = figures("R5")
    assert (found["questions"], found["approved"], found["rejected"]) == ("1", "1", "0")
    assert found["until decided, median"] == took
    body = content("R5")
    [row] = body.tables[0].rows
    assert row[:5] == ("supervisor", 1, 1, 0, 0)
    [override] = body.tables[1].rows
    assert override[1:3] == ("said what a call had done", "rosa")
    assert "rosa: 1" in str(body.charts[2].plot)


def test_data_is_counted_by_access_and_label(day: Governed) -> None:
    found = figures("R6")
    assert (found["calls answered"], found["that read"]) == ("4", "1")
    assert found["that wrote or executed"] == "3"
    rows = content("R6").tables[0].rows
    assert ("toolbox.read_account", "read", "confidential", 1) in rows


def test_what_went_wrong_and_who_said_so(day: Governed) -> None:
    found = figures("R8")
    assert (found["of unknown effect"], found["still unknown now"]) == ("1", "0")
    assert found["until a person said, median"] == "0 s"
    assert content("R8").tables[0].rows[0][1] == "toolbox.mail"


def test_who_may_call_what_is_listed(day: Governed) -> None:
    rights = content("R3").tables[0].rows
    assert (day.identity.client_id, "keepers", "toolbox", "write") in rights
    assert figures("R2")["agents now"] == "1"


def test_the_log_is_whole_and_a_missing_event_of_a_closed_run_shows(
    day: Governed, monkeypatch: pytest.MonkeyPatch
) -> None:
    from actions.services import runs  # noqa: PLC0415

    run = day.run()
    day.pay(run)
    runs.close_run(run.pk, actor=day.actor, identity_id=day.identity.pk, outcome="done")
    key = "runs that lack events"
    assert figures("R1")[key] == "0"
    assert int(figures("R1")["checkpoints signed"]) >= 1
    from insights.reports import log  # noqa: PLC0415

    monkeypatch.setattr(log, "_events_of", lambda runs: {str(run.pk): 1})
    assert figures("R1")[key] == "1"


def test_each_report_is_a_page_that_can_be_read_and_is_recorded(day: Governed) -> None:
    client = person("anna")
    for number in REPORTS:
        page = client.get(f"/admin/reports/{number}/")
        text = page.content.decode()
        assert page.status_code == 200
        assert "Supports EU AI Act" in text
        assert "<svg" in text
    looked = Event.objects.filter(type="audit.report_viewed")
    assert [one.plain()["report"] for one in looked.order_by("id")] == list(REPORTS)
    listed = client.get("/admin/reports/").content.decode()
    assert all(f"/admin/reports/{number}/" in listed for number in REPORTS)
    assert client.get("/admin/reports/R10/").status_code == 404
    assert "/admin/reports/" in client.get("/admin/").content.decode()


def test_a_report_is_for_whoever_may_see_events(sam: User) -> None:
    client = Client()
    client.force_login(sam)
    for address in ("/admin/reports/", "/admin/reports/R1/"):
        assert client.get(address).status_code in {302, 403}
    assert not Event.objects.filter(type="audit.report_viewed").exists()


def test_a_period_that_makes_no_sense_is_said(day: Governed) -> None:
    client = person("anna")
    page = client.get("/admin/reports/R4/", {"since": "2026-02-01", "until": "2026-01-01"})
    assert "has to lie before" in page.content.decode()
    for until in ("9999-12-31", "0001-01-02"):
        assert client.get("/admin/reports/R1/", {"until": until}).status_code == 200
    page = client.get("/admin/reports/R4/", {"since": "2001-01-01", "until": "2001-01-31"})
    assert "Made from 0 events" in page.content.decode()


def test_more_events_than_are_counted_is_said(
    day: Governed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_data, "MAX_EVENTS", 5)
    found = facts_of(today(), ["decision.*", "tool.call.*"])
    assert found.left_out
    assert len(found.rows) == 5
    numbers = [fact.number for fact in found.rows]
    assert numbers == sorted(numbers)
    assert numbers[-1] == Event.objects.filter(type__in=types_like(["tool.call.*"])).latest("id").pk


def test_the_mapping_is_a_file_that_can_be_replaced(tmp_path: Path, settings: LazySettings) -> None:
    own = controls()[:1]
    own[0] = {**own[0], "title": "Ours", "supports": {"House rule": ["7"]}}
    file = tmp_path / "ours.json"
    file.write_text(json.dumps(own))
    settings.CONTROLS_FILE = str(file)
    text = person("anna").get("/admin/reports/").content.decode()
    assert "Ours" in text
    assert "House rule" in text
    assert "EU AI Act" not in text


def test_every_report_has_its_control_and_events_that_exist() -> None:
    assert {one["report"] for one in controls()} == set(REPORTS)
    for one in controls():
        for pattern in one["events"]:
            assert types_like([pattern]), pattern


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (59.9, "59 s"), (61, "1 min 1 s"), (3600, "1 h"), (90_061, "1 d 1 h")],
)
def test_times_are_said_in_two_units(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_shares_are_by_nearest_rank() -> None:
    values: list[Any] = list(range(1, 101))
    assert (middle(values), middle(values, 0.95), middle([])) == (50, 95, 0.0)
    assert (middle(values[:20], 0.95), middle(values[:1], 0.95), middle(values[:1], 0)) == (
        19,
        1,
        1,
    )


def test_the_longest_time_without_a_checkpoint_has_both_ends(day: Governed) -> None:
    """A log whose sealer was stopped for a day after its last checkpoint, and not before."""
    now = timezone.now()
    signed = Checkpoint.objects.get().signed_at
    for since, until, least in (
        (now - timedelta(days=9), now + timedelta(days=9), timedelta(0)),
        (signed - timedelta(hours=1), signed + timedelta(hours=30), timedelta(0)),
    ):
        gap = _longest_gap([(signed, 1)], Period(since, until))
        assert least <= gap < timedelta(minutes=5)
    # Half a day of silence at the end and at the beginning, each within a log that was there.
    began = Event.objects.order_by("id").values_list("recorded_at", flat=True)[0]
    silent = Period(began, now)
    assert _longest_gap([], silent) == now - began
    assert _longest_gap([(began, 1)], silent) == now - began
    assert _longest_gap([(now, 1)], silent) == now - began


def test_an_attempt_of_unknown_effect_that_was_answered_late_ends_once(day: Governed) -> None:
    call = Event.objects.filter(type="tool.call.requested").order_by("id")[0]
    with transaction.atomic():
        record(
            CALL_FAILED, actor=SYSTEM,
            subject=Subject(call.subject_kind, call.subject_id, "again"),
            run_id=call.run_id, tool="toolbox.mail", attempt=call.plain()["attempt"], error="x",
        )  # fmt: skip
        record(
            CALL_REQUESTED, actor=SYSTEM, subject=Subject("actions.action", "lost", "lost"),
            run_id=call.run_id, tool="toolbox.mail", attempt=1,
        )  # fmt: skip
    assert figures("R4")["calls without an end yet"] == "1"
