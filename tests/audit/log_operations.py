"""What people do with the log itself."""

from datetime import timedelta
from typing import Any

import httpx
import pytest
from django.core.management import CommandError, call_command
from django.db import transaction
from django.utils import timezone

from accounts.models import User
from agents import events as agent_events
from audit.models import Erasure, Event, Hold
from audit.services import (
    access_log,
    auditor_passes,
    delivery,
    erasures,
    exports,
    legal_holds,
    retention,
    witness_client,
)
from audit.services.recorder import event_row, write_events
from audit.signed_notes import Signer
from common.actors import Actor
from common.ids import uuid7
from tests.audit.sealed_log import ROSE, THING, sealed_all


def the_log_is_looked_after(
    one: User, other: User, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asker, second = Actor.from_user(one), Actor.from_user(other)
    long_ago = timezone.now() - timedelta(days=4_000)
    with transaction.atomic():
        row = event_row(
            agent_events.AGENT_SUSPENDED, actor=ROSE, subject=THING, at=long_ago,
            details={"reason": "x"},
        )  # fmt: skip
        write_events([row])
    event = Event.objects.get(uid=row["uid"])
    sealed_all()
    access_log.view_values(event, actor=asker)
    export = exports.ask(exports.Wanted(), actor=asker, purpose="The yearly audit.")
    exports.decide_export(export.pk, actor=second, approve=True, reason="Yes.")
    exports.take(export.pk, actor=asker, start=0, end=1, size=1)
    hold = legal_holds.place(Hold(reason="A lawsuit.", agent="nobody.prod"), actor=asker)
    legal_holds.release(hold.pk, actor=asker, reason="It is settled.")
    about = Erasure.About.EVENT
    erasure = erasures.ask(
        about, str(event.uid), actor=asker, basis="objection", purpose="Asked for.",
        fields=["details.reason"],
    )  # fmt: skip
    erasures.decide_erasure(erasure.pk, actor=second, approve=True, reason="Yes.")
    retention.set_rule("config", 3_650, actor=asker, reason="Ten years.")
    assert retention.retain() == 1
    settings.LOG_WITNESSES = f"{Signer.from_seed('w', b'w' * 32).witness} http://w.invalid"
    monkeypatch.setattr(httpx.Client, "post", lambda *given, **more: httpx.Response(500))
    witness_client.request_cosignatures()
    bounds = auditor_passes.Bounds(timezone.now() + timedelta(days=1))
    auditor = User.objects.create_user("auditor", is_staff=True)
    given = auditor_passes.grant(auditor.pk, bounds, actor=second, reason="An audit.")
    auditor_passes.withdraw(given.pk, actor=second, reason="It is over.")
    auditor_passes.restore_rights(given.pk, actor=second, reason="They are of the house.")
    settings.LOG_SINKS = "ocsf+file:///no/such/folder/log.jsonl"
    delivery.forward_all()
    settings.LOG_SINKS = ""


def the_log_is_verified() -> None:
    """Once as it is, and once with a line in it that nobody of ours wrote."""
    sealed_all()
    call_command("audit", "verify", verbosity=0)
    known = Event.objects.all()[0]
    values = {field.attname: getattr(known, field.attname) for field in Event._meta.fields}
    Event.objects.bulk_create([Event(**values | {"id": None, "uid": uuid7(), "mac": b"m" * 32})])
    sealed_all()
    with pytest.raises(CommandError, match="does not hold"):
        call_command("audit", "verify", verbosity=0)
