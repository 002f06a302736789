"""A bundle as an auditor gets it, checked by its own program in a Python without Chancery."""

import fnmatch
import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.core.management import CommandError, call_command
from django.db import transaction

from accounts.models import User
from actions.events import CALL_COMPLETED
from audit.controls import controls
from audit.errors import (
    ExportNotApproved,
    NothingToExport,
    NotSealed,
    OwnRecordRequest,
    ValuesNotPermitted,
)
from audit.event_types import declared
from audit.evidence.bundle import bundle, range_for
from audit.models import Checkpoint, Cosignature, Erasure, Event, Export, Leaf, LogKey
from audit.services import erasures, exports
from audit.services.recorder import Subject, record
from audit.services.sealer import seal
from common.actors import SYSTEM, Actor
from common.errors import GovernanceError, InvalidInput, NotFound
from common.ids import uuid7
from tests.audit.sealed_log import many, said, sealed_all

pytestmark = pytest.mark.django_db

Verified = subprocess.CompletedProcess[str]
VERIFIER = Path(__file__).parents[2] / "audit/evidence/verify.py"


@pytest.fixture
def anna(django_user_model: type[User]) -> Actor:
    return Actor.from_user(django_user_model.objects.create_superuser("anna"))


@pytest.fixture
def bert(django_user_model: type[User]) -> Actor:
    return Actor.from_user(django_user_model.objects.create_superuser("bert"))


@pytest.fixture
def take(anna: Actor, bert: Actor) -> Callable[..., bytes]:
    def taken(**given: Any) -> bytes:
        export = exports.ask(exports.Wanted(**given), actor=anna, purpose="Yearly audit")
        exports.decide_export(export.pk, actor=bert, approve=True, reason="Yes.")
        export.refresh_from_db()
        seal()
        return b"".join(bundle(export, range_for(export)))

    return taken


def checked(genuine: bytes, folder: Path, *options: str, archive: bytes | None = None) -> Verified:
    """What verify.py says, run as an auditor runs it: alone in a folder, isolated; of the archive
    that the program comes from, or of another one.
    """
    (folder / "bundle.zip").write_bytes(genuine if archive is None else archive)
    (folder / "verify.py").write_bytes(zipfile.ZipFile(io.BytesIO(genuine)).read("verify.py"))
    return subprocess.run(
        [sys.executable, "-I", "verify.py", "bundle.zip", *options],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip


def changed(archive: bytes, name: str, change: Callable[[str], str]) -> bytes:
    """The archive with one of its files changed."""
    old, out = zipfile.ZipFile(io.BytesIO(archive)), io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for one in old.namelist():
            text = old.read(one).decode()
            new.writestr(one, change(text) if one == name else text)
    return out.getvalue()


def key() -> str:
    return LogKey.objects.order_by("-pk")[0].vkey


def last() -> Checkpoint:
    return Checkpoint.objects.order_by("-size")[0]


def test_a_bundle_of_everything_verifies(take: Callable[..., bytes], tmp_path: Path) -> None:
    many(400)
    sealed_all(limit=150)
    (tmp_path / "old").write_text(held := Checkpoint.objects.order_by("size")[0].note)
    found = checked(
        take(with_values=True, previous_checkpoint=held),
        tmp_path,
        "--key",
        key(),
        "--checkpoint",
        "old",
    )
    assert (found.returncode, found.stderr) == (0, "")
    size = last().size
    assert f"Up to event {size - 1} of {size - 1}: none is changed" in found.stdout
    assert f"events             {size}" in found.stdout
    assert "the key that you gave" in found.stdout
    assert "Continues your checkpoint" in found.stdout


def test_of_what_was_not_asked_for_there_are_hashes_alone(
    take: Callable[..., bytes], tmp_path: Path
) -> None:
    many(20, of="secret name")
    runs = [uuid7(), uuid7()]
    for run in runs:
        said("of a run", run=run)
    many(5, of="secret name")
    said("of a run", run=runs[0])
    sealed_all()
    archive = take(runs=[runs[0]])
    text = zipfile.ZipFile(io.BytesIO(archive)).read("events.jsonl").decode()
    lines = [json.loads(line) for line in text.splitlines()]
    assert len(lines) == 1 + 1 + 5 + 1
    assert [sorted(line) for line in lines] == [["leaf"], *[["hash"]] * 6, ["leaf"]]
    found = checked(archive, tmp_path)
    assert found.returncode == 0
    assert "withheld           6" in found.stdout
    assert "NOT compared: give the key" in found.stdout


def test_sensitive_values_are_taken_by_who_may_see_them_and_asked_for_them(
    anna: Actor, bert: Actor, take: Callable[..., bytes], tmp_path: Path,
    django_user_model: type[User],
) -> None:  # fmt: skip
    with transaction.atomic():
        record(
            CALL_COMPLETED, actor=SYSTEM, subject=Subject("actions.action", "1", "crm.read"),
            tool="crm.read", result={"name": "[personal]"}, sensitive={"/name": "Hildegard"},
        )  # fmt: skip
    sealed_all()
    for given, shown in (({}, False), ({"with_sensitive": True}, True)):
        archive = take(with_values=True, **given)
        text = zipfile.ZipFile(io.BytesIO(archive)).read("events.jsonl").decode()
        beside = [line.get("values", {}) for line in map(json.loads, text.splitlines())]
        assert any("details.result" in one for one in beside)
        assert any("details.sensitive" in one for one in beside) is shown
        assert checked(archive, tmp_path).returncode == 0
    with pytest.raises(InvalidInput):
        exports.ask(exports.Wanted(with_sensitive=True), actor=anna, purpose="Alone.")
    carl = django_user_model.objects.create_user("carl")
    values = exports.Wanted(with_values=True)
    both = exports.Wanted(with_values=True, with_sensitive=True)
    cases: list[tuple[list[str], exports.Wanted]] = [([], values), (["view_eventpayload"], both)]
    for rights, refused in cases:
        carl.user_permissions.set(Permission.objects.filter(codename__in=rights))
        with pytest.raises(ValuesNotPermitted):
            exports.ask(refused, actor=Actor.from_user(carl), purpose="All of it.")
    # And who has lost the right since.
    export = exports.ask(values, actor=Actor.from_user(carl), purpose="What I may see.")
    exports.decide_export(export.pk, actor=bert, approve=True, reason="Yes.")
    carl.user_permissions.clear()
    with pytest.raises(ValuesNotPermitted):
        exports.take(export.pk, actor=Actor.from_user(carl), start=0, end=1, size=1)
    assert not Event.objects.filter(type="audit.exported", actor_id=str(carl.pk)).exists()


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("events.jsonl", lambda t: t.replace("human", "agent", 1), "other events were signed"),
        ("events.jsonl", lambda t: t.split("\n", 1)[1], "other events were signed"),
        ("events.jsonl", lambda t: t.rstrip("\n").rsplit("\n", 1)[0], "other events were signed"),
        ("events.jsonl", lambda t: t + t.split("\n")[0] + "\n", "was taken out"),
        ("events.jsonl", lambda t: "", "lies outside the log"),
        ("events.jsonl", lambda t: t.replace("WyJ", "WyK", 1), "not what was recorded"),
        ("events.jsonl", lambda t: t.replace('"details.reason": ', '"x": ', 1), "nobody recorded"),
        ("checkpoint", lambda t: t.replace("\n30", "\n29", 1), "a signature is false"),
        ("checkpoint", lambda t: t.split("\n\n")[0] + "\n\n", "not signed with the log's key"),
        ("manifest.json", lambda t: t.replace('"start": 0', '"start": 1'), "lies outside"),
        ("proofs.json", lambda t: t.replace('"range": []', f'"range": ["{"00" * 32}"]'), "other"),
        ("proofs.json", lambda t: t.replace("testserver/log+", "testserver/log+0", 1), "key of"),
    ],
)  # fmt: skip
def test_a_bundle_that_was_changed_is_refused(
    take: Callable[..., bytes], tmp_path: Path, name: str, change: Callable[[str], str], says: str
) -> None:
    many(299)
    sealed_all()
    archive = take(with_values=True)
    assert checked(archive, tmp_path).returncode == 0
    found = checked(changed(archive, name, change), tmp_path)
    assert found.returncode == 1
    assert says in found.stderr


def test_another_key_and_another_past_are_refused(
    take: Callable[..., bytes], tmp_path: Path, settings: Any
) -> None:
    many(10)
    sealed_all()
    old = last().note
    many(10)
    sealed_all()
    other = key()[:-4] + "AAA="
    assert "signed with another key" in checked(take(), tmp_path, "--key", other).stderr
    (tmp_path / "old").write_text(old)
    found = checked(take(), tmp_path, "--checkpoint", "old")
    assert "no proof from your checkpoint" in found.stderr
    begins = '"continuation": [\n  "'
    archive = changed(
        take(previous_checkpoint=old), "proofs.json", lambda t: t.replace(begins, begins + "00", 1)
    )
    assert checked(archive, tmp_path, "--checkpoint", "old").returncode == 1


def test_an_erased_value_is_named_with_the_event_that_says_so(
    take: Callable[..., bytes], anna: Actor, bert: Actor, tmp_path: Path
) -> None:
    many(5, of="Maria Muster")
    sealed_all()
    before = take(with_values=True)
    event = Event.objects.get(place__seq=2)
    asked = erasures.ask(
        Erasure.About.EVENT, str(event.uid), actor=anna, basis="objection", purpose="She asked."
    )
    erasures.decide_erasure(asked.pk, actor=bert, approve=True, reason="Right.")
    sealed_all()
    after = take(with_values=True, until=event.recorded_at)  # the erasure lies outside of it
    for archive in (before, after, take(with_values=True)):
        assert checked(archive, tmp_path).returncode == 0
    archive = take(with_values=True)
    assert "values erased      3" in checked(archive, tmp_path).stdout
    invented = changed(archive, "proofs.json", lambda t: t.replace("details.reason", "details.x"))
    assert "an erasure is not in the log" in checked(invented, tmp_path).stderr


def test_evidence_is_taken_by_who_asked_once_another_has_approved(anna: Actor, bert: Actor) -> None:
    many(3)
    sealed_all()
    export = exports.ask(exports.Wanted(), actor=anna, purpose="Audit")
    begun = {"start": 0, "end": 3, "size": 3}
    with pytest.raises(ExportNotApproved):
        exports.take(export.pk, actor=anna, **begun)
    with pytest.raises(OwnRecordRequest):
        exports.decide_export(export.pk, actor=anna, approve=True, reason="Me.")
    with pytest.raises(GovernanceError):
        exports.decide_export(export.pk, actor=SYSTEM, approve=True, reason="It.")
    export.refresh_from_db()
    assert export.status == Export.Status.ASKED
    exports.decide_export(export.pk, actor=bert, approve=True, reason="Yes.")
    with pytest.raises(NotFound):
        exports.take(export.pk, actor=bert, **begun)
    assert not Event.objects.filter(type="audit.exported").exists()
    exports.take(export.pk, actor=anna, **begun)
    assert Event.objects.filter(type="audit.exported").count() == 1


def test_what_is_refused_is_not_taken(anna: Actor, bert: Actor) -> None:
    export = exports.ask(exports.Wanted(), actor=anna, purpose="Audit")
    exports.decide_export(export.pk, actor=bert, approve=False, reason="No.")
    with pytest.raises(ExportNotApproved):
        exports.take(export.pk, actor=anna, start=0, end=1, size=1)


def test_nothing_is_not_exported(take: Callable[..., bytes]) -> None:
    many(3)
    sealed_all()
    with pytest.raises(NothingToExport):
        take(agents=["nobody.prod"])


def test_a_checkpoint_of_another_log_is_refused(anna: Actor) -> None:
    many(3)
    sealed_all()
    with pytest.raises(InvalidInput):
        exports.ask(
            exports.Wanted(previous_checkpoint="x\n3\nAAAA\n\n"), actor=anna, purpose="Audit"
        )
    assert not Export.objects.exists()


def test_the_command_writes_a_bundle(anna: Actor, bert: Actor, tmp_path: Path) -> None:
    many(3)
    sealed_all()
    given = {"out": str(tmp_path / "out.zip"), "purpose": "Audit", "by": "anna"}
    out = io.StringIO()
    call_command("evidence", "export", **given, approved_by="bert", stdout=out)
    assert "events 0 to" in out.getvalue()
    assert checked((tmp_path / "out.zip").read_bytes(), tmp_path).returncode == 0
    with pytest.raises(CommandError, match="somebody else"):
        call_command("evidence", "export", **given, approved_by="anna", stdout=out)
    with pytest.raises(CommandError, match="no nobody"):
        call_command("evidence", "export", **given, approved_by="nobody", stdout=out)


def test_the_verifier_is_short_and_needs_nothing() -> None:
    lines = VERIFIER.read_text().splitlines()
    assert len(lines) < 400
    imports = {line.split()[1] for line in lines if line.startswith("import ")}
    assert imports <= {"argparse", "base64", "hashlib", "json", "sys", "zipfile", "zlib"}


def test_controls_name_events_that_there_are() -> None:
    names = set(declared())
    for one in controls():
        for event in one["events"]:
            assert fnmatch.filter(names, event), event


def test_a_bundle_ends_where_the_log_ends_whoever_has_signed(
    take: Callable[..., bytes], tmp_path: Path
) -> None:
    """A witness that is behind leaves nothing out; an auditor who is ahead of it is answered."""
    many(5)
    sealed_all()
    witnessed = last()
    Cosignature.objects.create(
        checkpoint=witnessed, witness="w", line="", witnessed_at=witnessed.signed_at
    )
    many(5)
    sealed_all()
    (tmp_path / "old").write_text(last().note)
    found = checked(take(previous_checkpoint=last().note), tmp_path, "--checkpoint", "old")
    assert f"Up to event {Leaf.objects.count() - 1} of" in found.stdout
    assert "Continues your checkpoint" in found.stdout


def test_a_bundle_waits_until_what_erased_its_values_is_sealed(
    take: Callable[..., bytes], anna: Actor, bert: Actor, tmp_path: Path
) -> None:
    many(5)
    sealed_all()
    event = Event.objects.get(place__seq=2)
    export = exports.ask(exports.Wanted(), actor=anna, purpose="Before.")
    exports.decide_export(export.pk, actor=bert, approve=True, reason="Yes.")
    with pytest.raises(NotSealed):
        range_for(export)  # what was asked and approved is not sealed
    sealed_all()
    range_for(export)
    asked = erasures.ask("event", str(event.uid), actor=anna, basis="objection", purpose="Asked.")
    erasures.decide_erasure(asked.pk, actor=bert, approve=True, reason="Right.")
    with pytest.raises(NotSealed):
        range_for(export)  # what erased its values is not sealed
    sealed_all()
    assert checked(take(until=event.recorded_at), tmp_path).returncode == 0
