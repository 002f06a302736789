"""The log's pages: what each lets people do, and what looking at it leaves behind."""

import io
import zipfile
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import User
from agents import events as agent_events
from audit.event_proof import shield_of
from audit.health import alarms
from audit.models import Erasure, Event, Export, Hold, Quarantine, RetentionRule, WitnessState
from audit.services import access_log
from audit.services.recorder import event_row, write_events
from common.actors import SYSTEM
from tests.audit.sealed_log import ROSE, THING, many, said, sealed_all

pytestmark = pytest.mark.django_db

VALUE = "Maria Muster said so"


def person(name: str, *permissions: str) -> Client:
    """Signed in, with these permissions and that to look at events."""
    user = User.objects.create_user(name, is_staff=True)
    for permission in ("view_event", "view_export", "view_erasure", "view_hold", *permissions):
        user.user_permissions.add(_permission(permission))
    client = Client()
    client.force_login(user)
    return client


def _permission(name: str) -> Permission:
    return Permission.objects.get(content_type__app_label="audit", codename=name)


def url(name: str, *args: Any) -> str:
    return reverse(f"admin:audit_{name}", args=args)


def event() -> Event:
    said(VALUE)
    sealed_all()
    return Event.objects.get(place__seq=0)


def test_values_are_shown_on_demand_and_that_is_recorded() -> None:
    one = event()
    page = person("anna").get(url("event_change", one.pk))
    assert VALUE not in page.content.decode()
    assert "details.reason" in page.content.decode()
    assert person("bert").post(url("event_values", one.pk)).status_code == 403
    assert not Event.objects.filter(type="audit.payload_viewed").exists()
    page = person("carl", "view_eventpayload").post(url("event_values", one.pk))
    assert VALUE in page.content.decode()
    looked = Event.objects.get(type="audit.payload_viewed")
    assert (looked.actor_label, looked.subject_id) == ("carl", str(one.uid))


def test_the_shield_says_what_a_receipt_shows() -> None:
    said("a")
    waiting = Event.objects.get()
    assert shield_of(waiting).state == "waits"
    many(300)
    sealed_all()
    shield = shield_of(waiting)
    assert (shield.state, shield.seq, len(shield.steps)) == ("holds", 0, 9)
    page = person("anna").get(url("event_change", waiting.pk)).content.decode()
    assert shield.root in page
    assert shield.key in page


def test_a_broken_proof_is_said_to_be_broken() -> None:
    one = event()
    one.leaf = one.leaf.replace("human", "agent")
    assert shield_of(one).state == "broken"


def test_evidence_is_asked_approved_and_taken() -> None:
    event()
    anna, bert = person("anna", "ask_export", "approve_export"), person("bert", "approve_export")
    assert person("carl").get(url("export_ask")).status_code == 403
    asked = anna.post(url("export_ask"), {"purpose": "The yearly audit", "runs": "", "agents": ""})
    export = Export.objects.get()
    assert asked["location"] == url("export_change", export.pk)
    bundle = url("export_bundle", export.pk)
    refused = anna.post(url("export_approve", export.pk), {"reason": "Mine."})
    assert "somebody else decides" in refused.content.decode()
    assert anna.post(bundle).status_code == 302
    assert bert.post(url("export_approve", export.pk), {"reason": "Yes."}).status_code == 302
    assert "Download" not in bert.get(url("export_change", export.pk)).content.decode()
    assert "Download" in anna.get(url("export_change", export.pk)).content.decode()
    assert anna.get(bundle).status_code == 405
    assert bert.post(bundle).status_code == 403
    assert not Event.objects.filter(type="audit.exported").exists()
    assert anna.post(bundle).status_code == 302  # its approval is not in the signed log yet
    sealed_all()
    answer: Any = anna.post(bundle)
    assert answer["content-type"] == "application/zip"
    archive = zipfile.ZipFile(io.BytesIO(b"".join(answer.streaming_content)))
    assert archive.testzip() is None
    assert "verify.py" in archive.namelist()
    assert Event.objects.filter(type="audit.exported").count() == 1
    Export.objects.update(decided_at=timezone.now() - timedelta(days=8))
    assert anna.post(bundle).status_code == 302
    assert Event.objects.filter(type="audit.exported").count() == 1


def test_what_is_not_a_run_or_a_checkpoint_is_said_on_the_form() -> None:
    event()
    anna = person("anna", "ask_export")
    for wrong in ({"runs": "x"}, {"held": "no checkpoint\n"}):
        given = {"purpose": "Audit", **wrong}
        assert anna.post(url("export_ask"), given).status_code == 200
    assert not Export.objects.exists()


def test_a_hold_stands_before_an_erasure() -> None:
    one = event()
    anna = person("anna", "ask_erasure", "approve_erasure", "place_hold")
    bert = person("bert", "approve_erasure")
    assert anna.post(url("hold_place"), {"reason": "A lawsuit."}).status_code == 302
    given = {"about": "event", "about_id": str(one.uid), "basis": "objection", "purpose": "Hers."}
    assert "legal hold" in anna.post(url("erasure_ask"), given).content.decode()
    hold = Hold.objects.get()
    assert "everything" in anna.get(url("hold_changelist")).content.decode()
    assert anna.post(url("hold_release", hold.pk), {"reason": "Settled."}).status_code == 302
    assert anna.post(url("erasure_ask"), given | {"about_id": "x"}).status_code == 200
    assert anna.post(url("erasure_ask"), given).status_code == 302
    erasure = Erasure.objects.get()
    approve = url("erasure_approve", erasure.pk)
    assert "somebody else" in anna.post(approve, {"reason": "Me."}).content.decode()
    assert Event.objects.get(pk=one.pk).details["reason"] == VALUE
    assert bert.post(approve, {"reason": "Yes."}).status_code == 302
    assert "reason" not in Event.objects.get(pk=one.pk).details
    page = anna.get(url("event_change", one.pk)).content.decode()
    assert "details.reason (erased)" in page


def test_how_long_values_are_kept_is_set_with_a_reason() -> None:
    client = person("anna", "set_retention", "view_retentionrule")
    given = {"kind": "config", "days": "200", "reason": "Enough."}
    assert client.post(url("retentionrule_set"), given | {"days": "20"}).status_code == 200
    assert not RetentionRule.objects.exists()
    assert client.post(url("retentionrule_set"), given).status_code == 302
    assert "200" in client.get(url("retentionrule_changelist")).content.decode()
    assert Event.objects.get(type="audit.retention_changed").details["days"] == 200


# -- alarms ------------------------------------------------------------------------------------


def test_all_is_well() -> None:
    many(3)
    sealed_all()
    access_log.note_verification(actor=SYSTEM, size=3, values=3, problems=0, first="")
    assert alarms() == []


def test_events_that_nobody_seals() -> None:
    said("just now")
    assert alarms() == []
    at = timezone.now() - timedelta(minutes=2)
    row = event_row(
        agent_events.AGENT_SUSPENDED, actor=ROSE, subject=THING, at=at, details={"reason": "x"}
    )
    write_events([row])
    assert "not being sealed" in alarms()[0]


def test_what_was_kept_out_and_what_did_not_hold() -> None:
    one = event()
    Quarantine.objects.create(event=one, reason="x", found_at=timezone.now())
    access_log.note_verification(actor=SYSTEM, size=3, values=3, problems=2, first="x")
    assert len(alarms()) == 2
    assert shield_of(one).state == "kept_out"


@pytest.mark.parametrize(
    ("state", "number"),
    [
        ({"size": 3}, 0),
        ({"size": 0}, 0),
        ({"trouble": "unreachable", "since": timedelta(minutes=2)}, 0),
        ({"trouble": "unreachable", "since": timedelta(minutes=20)}, 1),
        ({"trouble": "conflict", "since": timedelta(minutes=2)}, 1),
    ],
)
def test_a_witness_that_does_not_sign(state: dict[str, Any], number: int) -> None:
    many(3)
    sealed_all()
    if "since" in state:
        state = {**state, "since": timezone.now() - state["since"]}
    WitnessState.objects.create(name="w.example", **state)
    assert len(alarms()) == number


def test_the_home_page_shows_them() -> None:
    Quarantine.objects.create(event=event(), reason="x", found_at=timezone.now())
    page = person("anna").get(reverse("admin:index")).content.decode()
    assert "kept out of the log" in page
    client = Client()
    client.force_login(User.objects.create_user("nobody", is_staff=True))
    assert "kept out of the log" not in client.get(reverse("admin:index")).content.decode()
