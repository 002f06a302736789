"""Evidence that somebody without the log's key puts together, and what verify.py says of it.

The forger has a genuine bundle, and so a genuine checkpoint, and signs what they like with a key of
their own. What the first forger of this kind did passed for genuine: any checkpoint that both keys
had signed counted as an introduction.
"""

import base64
import hashlib
import io
import json
import os
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.db import connection, transaction

from accounts.models import User
from audit.errors import SealingKeyUsedBefore
from audit.events import LOG_KEY_ROTATED
from audit.evidence.bundle import bundle, range_for
from audit.leaf_encoding import parsed_leaf
from audit.merkle import leaf_hash, root_of
from audit.models import Checkpoint, Event, LogKey
from audit.services import exports
from audit.services.access_log import LOG
from audit.services.recorder import record
from audit.services.sealer import seal
from audit.signed_notes import Handover, Note, Signer, Verifier
from audit.signed_notes import LogCheckpoint as Statement
from audit.verification import verify
from common import triggers
from common.actors import SYSTEM, Actor
from tests.audit.sealed_log import many, sealed_all
from tests.audit.test_attacks import sql
from tests.audit.test_evidence import Verified, checked

pytestmark = pytest.mark.django_db

NEW = base64.b64encode(b"n" * 32).decode()
Files = dict[str, bytes]


@pytest.fixture
def genuine(django_user_model: type[User]) -> Callable[[], bytes]:
    anna, bert = (
        Actor.from_user(django_user_model.objects.create_superuser(name))
        for name in ("anna", "bert")
    )

    def made() -> bytes:
        export = exports.ask(exports.Wanted(with_values=True), actor=anna, purpose="Yearly audit")
        exports.decide_export(export.pk, actor=bert, approve=True, reason="Yes.")
        seal()
        export.refresh_from_db()
        return b"".join(bundle(export, range_for(export)))

    return made


def files_of(archive: bytes) -> Files:
    found = zipfile.ZipFile(io.BytesIO(archive))
    return {name: found.read(name) for name in found.namelist()}


def packed(files: Files) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def forger() -> Signer:
    return Signer("testserver/log", Ed25519PrivateKey.from_private_bytes(os.urandom(32)))


def said_wrong(found: Verified) -> bool:
    """WRONG and nothing else: no traceback, nothing that looks like an answer."""
    return found.returncode == 1 and not found.stdout and found.stderr.startswith("WRONG: ")


def forged(archive: bytes, signer: Signer, *, key: dict[str, Any] | None = None) -> bytes:
    """The bundle with a voted answer altered, signed by the forger, whose key is introduced by the
    genuine checkpoint with one more signature."""
    files = files_of(archive)
    proofs = json.loads(files["proofs.json"])
    text = files["events.jsonl"].decode().replace("agent.suspended", "agent.activated", 1)
    hashes = [leaf_hash(json.loads(line)["leaf"].encode()) for line in text.splitlines()]
    size, root = len(hashes), root_of(hashes)
    genuine_note = files["checkpoint"].decode()
    introduced = genuine_note + signer.sign(genuine_note.partition("\n\n")[0] + "\n").line()
    statement = Statement(signer.name, size, root).text
    made = {"vkey": str(signer.verifier), "introduced": introduced}
    proofs["keys"].append(made | (key or {}))
    manifest = json.loads(files["manifest.json"])
    return packed(
        files
        | {
            "events.jsonl": text.encode(),
            "checkpoint": str(Note(statement, (signer.sign(statement),))).encode(),
            "proofs.json": json.dumps(proofs).encode(),
            "manifest.json": json.dumps(manifest | {"size": size, "end": size}).encode(),
        }
    )


def test_a_co_signed_genuine_checkpoint_introduces_no_key(
    genuine: Callable[[], bytes], tmp_path: Path
) -> None:
    many(300)
    archive, trusted = genuine(), LogKey.objects.get().vkey
    assert checked(archive, tmp_path, "--key", trusted).returncode == 0
    found = checked(forged(archive, forger()), tmp_path, "--key", trusted)
    assert said_wrong(found)
    assert "member" in found.stderr


def test_nor_does_an_event_that_the_old_key_did_not_sign(
    genuine: Callable[[], bytes], tmp_path: Path
) -> None:
    """Who may write events can name a key of their own, and the sealer seals that event."""
    many(20)
    sealed_all()
    signer, old = forger(), LogKey.objects.get()
    first = Checkpoint.objects.order_by("size")[0]
    statement = Handover(signer.name, old.vkey, str(signer.verifier), first.size, bytes(first.root))
    with transaction.atomic():
        details = statement.details(signer)  # their own signature in place of the old key's
        record(LOG_KEY_ROTATED, actor=SYSTEM, subject=LOG, **details)
    sealed_all()
    archive = genuine()
    event = Event.objects.get(type="audit.key_rotated", leaf__contains=str(signer.verifier))
    key = {
        "seq": event.place.seq,
        "leaf": event.leaf,
        "path": [],
        "continuation": [],
    }
    found = checked(forged(archive, signer, key=key), tmp_path, "--key", old.vkey)
    assert said_wrong(found)
    assert "did not sign" in found.stderr


def rotated(settings: Any) -> tuple[str, str]:
    """A log whose key was replaced in the documented way; the old and the new key."""
    many(280)
    sealed_all()
    old = settings.LOG_SIGNING_KEY
    settings.LOG_SIGNING_KEY = f"{NEW},{old}"
    sealed_all()
    settings.LOG_SIGNING_KEY = NEW
    many(30)
    sealed_all()
    first, second = LogKey.objects.order_by("pk").values_list("vkey", flat=True)
    return first, second


def test_a_key_that_was_handed_over_is_followed_from_the_old_one(
    genuine: Callable[[], bytes], tmp_path: Path, settings: Any
) -> None:
    first, second = rotated(settings)
    archive = genuine()
    for key, says in ((first, "a later one than you gave"), (second, "the key that you gave")):
        found = checked(archive, tmp_path, "--key", key)
        assert (found.returncode, found.stderr) == (0, "")
        assert says in found.stdout
        assert f"The key {first}\n  handed over to {second}" in found.stdout
    assert verify(trusted=[Verifier.from_text(first)]).is_sound


@pytest.mark.parametrize("name", ["introduced", "leaf", "path", "continuation", "seq", "vkey"])
def test_every_part_of_a_handover_is_checked(
    genuine: Callable[[], bytes], tmp_path: Path, settings: Any, name: str
) -> None:
    first, _ = rotated(settings)
    files = files_of(genuine())
    proofs = json.loads(files["proofs.json"])
    key = proofs["keys"][1]
    value = key[name]
    if isinstance(value, list):
        key[name] = [*value, "00" * 32]
    elif isinstance(value, int):
        key[name] = value - 1
    else:
        key[name] = value.replace("A", "B", 1) if name != "vkey" else str(forger().verifier)
    changed = packed(files | {"proofs.json": json.dumps(proofs).encode()})
    assert said_wrong(checked(changed, tmp_path, "--key", first))


def test_the_servers_own_check_finds_a_key_that_nothing_handed_over(settings: Any) -> None:
    """The owner of the database co-signs the last checkpoint and goes on with another key."""
    many(20)
    sealed_all()
    mine = LogKey.objects.get()
    signer = forger()
    for table in ("audit_checkpoint", "audit_logkey"):
        sql(*triggers.removal(table)[connection.vendor])
    last = Checkpoint.objects.order_by("-size")[0]
    added = LogKey.objects.create(
        vkey=str(signer.verifier), from_size=last.size, first_used_at=last.signed_at
    )
    note = last.note + signer.sign(last.note.partition("\n\n")[0] + "\n").line()
    sql(
        f"UPDATE audit_checkpoint SET note = '{note}', key_id = {added.pk} WHERE size = {last.size}"
    )
    report = verify(trusted=[Verifier.from_text(mine.vkey)])
    assert "key" in {one.code for one in report.problems}


def test_a_handover_waits_until_its_statement_is_sealed(settings: Any) -> None:
    """Of a long backlog, the new key signs only the batch in which the statement lies."""
    many(50)
    sealed_all()
    old = settings.LOG_SIGNING_KEY
    many(50)
    settings.LOG_SIGNING_KEY = f"{NEW},{old}"
    seal(limit=20)
    assert LogKey.objects.count() == 1
    sealed_all(limit=20)
    assert LogKey.objects.count() == 2
    assert verify().is_sound


def put(name: str, old: bytes, new: bytes) -> Callable[[Files], Files]:
    """The files, with this in the place of that."""

    def changed(files: Files) -> Files:
        assert old in files[name]
        return files | {name: files[name].replace(old, new, 1)}

    return changed


def added(name: str, data: bytes) -> Callable[[Files], Files]:
    return lambda files: files | {name: files.get(name, b"") + data}


def instead(name: str, data: bytes) -> Callable[[Files], Files]:
    return lambda files: files | {name: data}


CHANGES: dict[str, Callable[[Files], Files]] = {
    "a line with the name leaf twice": put("events.jsonl", b"{", b'{"leaf": "x", '),
    "a member of a line that nothing signs": put("events.jsonl", b"{", b'{"summary": "yes", '),
    "a leaf and a hash in one line": put("events.jsonl", b"{", b'{"hash": "00", '),
    "a file that nothing signs": added("REPORT.html", b"forged"),
    "a folder": added("more/", b""),
    "a file less": lambda files: {n: data for n, data in files.items() if n != "README.txt"},
    "another README": added("README.txt", b"approved by the board"),
    "another verify.py": added("verify.py", b"\n"),
    "other controls": instead("controls.json", b"[]"),
    "a word in the manifest": put("manifest.json", b"{", b'{"purpose": "x", '),
    "a word in the proofs": put("proofs.json", b"{", b'{"note": "x", '),
    "a word in a key": put("proofs.json", b'"vkey"', b'"owner": "x", "vkey"'),
    "a word in the request": put("manifest.json", b'"seq"', b'"by": "x", "seq"'),
    "another end": put("manifest.json", b'"end": ', b'"end": 1'),
    "another size": put("manifest.json", b'"size": ', b'"size": 1'),
    "a false place": put("manifest.json", b'"start": 0', b'"start": false'),
    "deep nesting": instead("events.jsonl", b"[" * 200_000 + b"]" * 200_000),
    "deep nesting in the proofs": instead("proofs.json", b'{"a":' * 100_000),
    "a line without an end": instead("events.jsonl", b'{"leaf": "' + b"a" * (2**24 + 10)),
    "not a number": put("manifest.json", b'"start": 0', b'"start": NaN'),
    "a long number": put("manifest.json", b'"start": 0', b'"start": ' + b"9" * 5000),
    "bytes that are no text": instead("proofs.json", b"\xff\xfe"),
    "a list for the proofs": instead("proofs.json", b"[]"),
    "text for the range": put("proofs.json", b'"range": []', b'"range": "aa"'),
    "an erasure that is none": put("proofs.json", b'"erasures": []', b'"erasures": [1]'),
    "words after the signatures": added("checkpoint", b"approved"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_what_nothing_signs_is_refused_in_a_sentence(
    genuine: Callable[[], bytes], tmp_path: Path, change: Callable[[Files], Files]
) -> None:
    many(20)
    archive = genuine()
    found = checked_apart(packed(change(files_of(archive))), archive, tmp_path)
    assert said_wrong(found), found.stderr
    assert checked_apart(packed(files_of(archive)), archive, tmp_path).returncode == 0


def entry(
    name: str, data: bytes, *, method: int = 8, late: bool = False, claimed: int = 0
) -> bytes:
    """A file of an archive as it stands before the directory (APPNOTE 4.3.7), which claims to be
    so many bytes longer.
    """
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = packer.compress(data) + packer.flush() if method else data
    sizes = struct.pack("<III", zlib.crc32(data), len(body) + claimed, len(data))
    flags = 8 if late else 0
    head = struct.pack("<4sHHHHH", b"PK\3\4", 20, flags, method, 0, 0x21)
    after = b"PK\7\10" + sizes if late else b""
    shown = bytes(12) if late else sizes
    return head + shown + struct.pack("<HH", len(name), 0) + name.encode() + body + after


def zipped(files: Files, hidden: bytes, *, is_claimed: bool = False, **how: Any) -> bytes:
    """An archive whose directory says that what is hidden is the rest of `events.jsonl`."""
    out, directory = b"", b""
    method, flags = how.get("method", 8), 8 if how.get("late") else 0
    for name, data in files.items():
        more = hidden if name == "events.jsonl" else b""
        claimed = len(more) if is_claimed else 0
        place, whole = len(out), entry(name, data, claimed=claimed, **how)
        size = len(whole) + len(more) - 30 - len(name) - (16 if flags else 0)
        head = struct.pack("<4sHHHHHH", b"PK\1\2", 20, 20, flags, method, 0, 0x21)
        sizes = struct.pack("<III", zlib.crc32(data), size, len(data))
        places = struct.pack("<HHHHHII", len(name), 0, 0, 0, 0, 0, place)
        directory += head + sizes + places + name.encode()
        out += whole + more
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 7, 7, len(directory), len(out), 0)
    return out + directory + end


@pytest.mark.parametrize("how", [{}, {"is_claimed": True}, {"late": True}, {"method": 0}])
def test_no_reader_finds_a_file_behind_another(
    genuine: Callable[[], bytes], tmp_path: Path, how: dict[str, Any]
) -> None:
    """A reader that goes from file to file would find the second `events.jsonl`."""
    many(20)
    archive = genuine()
    files = files_of(archive)
    for hidden in (entry("events.jsonl", b'{"leaf": "forged"}\n'), b"\0"):
        found = checked_apart(zipped(files, hidden, **how), archive, tmp_path)
        assert said_wrong(found), how
        assert "more than its files" in found.stderr
    whole = checked_apart(zipped(files, b"", **how), archive, tmp_path)
    assert whole.returncode == (1 if "method" in how else 0), whole.stderr


def test_no_line_beyond_the_signed_size_is_read(
    genuine: Callable[[], bytes], tmp_path: Path
) -> None:
    many(20)
    archive = genuine()
    files = files_of(archive)
    # The last of these is not looked at: it would be another error.
    line = b'{"hash": "' + b"00" * 32 + b'"}\n'
    files["events.jsonl"] += 2 * line + b"no JSON\n"
    found = checked_apart(packed(files), archive, tmp_path)
    assert said_wrong(found)
    assert "outside the log" in found.stderr


def checked_apart(archive: bytes, genuine: bytes, folder: Path) -> Verified:
    """With the genuine verify.py, which the auditor has from elsewhere."""
    return checked(genuine, folder, archive=archive)


def test_two_files_of_one_name_and_bytes_between_files_are_refused(
    genuine: Callable[[], bytes], tmp_path: Path
) -> None:
    many(20)
    archive = genuine()
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w") as twice:
        warnings.simplefilter("ignore")
        twice.writestr("events.jsonl", b'{"leaf": "the first of two"}\n')
        for name, data in files_of(archive).items():
            twice.writestr(name, data)
    wrong = [
        out.getvalue(),
        b"PK forged\n" + archive,
        archive[:-2] + (6).to_bytes(2, "little") + b"forged",
        b"x" * 100,
        b"",
        archive[: len(archive) // 2],
    ]
    for one in wrong:
        assert said_wrong(checked_apart(one, archive, tmp_path))


def test_who_asked_and_who_approved_are_events_of_the_log(
    genuine: Callable[[], bytes], tmp_path: Path
) -> None:
    many(20)
    archive = genuine()
    found = checked(archive, tmp_path)
    assert '"details.purpose": "Yearly audit"' in found.stdout
    assert '"actor.label": "anna"' in found.stdout
    assert '"actor.label": "bert"' in found.stdout
    files = files_of(archive)
    manifest = json.loads(files["manifest.json"])
    swapped = manifest | {"decided": manifest["asked"]}
    other = json.loads(files["manifest.json"])
    other["asked"]["values"]["details.purpose"] = (
        base64.urlsafe_b64encode(json.dumps(["x", "details.purpose", "forged"]).encode())
        .decode()
        .rstrip("=")
    )
    for one in (swapped, other):
        changed = packed(files | {"manifest.json": json.dumps(one).encode()})
        assert said_wrong(checked_apart(changed, archive, tmp_path))


def test_the_readme_is_the_one_that_the_verifier_knows() -> None:
    folder = Path(__file__).parents[2] / "audit/evidence"
    digest = hashlib.sha256((folder / "README.txt").read_bytes()).hexdigest()
    assert f'README = "{digest}"' in (folder / "verify.py").read_text()


def test_the_words_of_the_request_are_not_withheld(
    genuine: Callable[[], bytes], tmp_path: Path
) -> None:
    many(5)
    files = files_of(genuine())
    manifest = json.loads(files["manifest.json"])
    for part in ("asked", "decided"):
        manifest[part].pop("values")
    files["manifest.json"] = json.dumps(manifest).encode()
    files["controls.json"] = b"[]"
    assert said_wrong(checked(packed(files), tmp_path, "--key", LogKey.objects.get().vkey))


def test_values_are_shown_only_if_they_were_asked_for(
    django_user_model: type[User], tmp_path: Path
) -> None:
    anna, bert = (
        Actor.from_user(django_user_model.objects.create_superuser(name))
        for name in ("anna", "bert")
    )
    many(5)
    asked = [
        exports.ask(exports.Wanted(with_values=values), actor=anna, purpose="A look")
        for values in (True, False)
    ]
    for one in asked:
        exports.decide_export(one.pk, actor=bert, approve=True, reason="Yes.")
    sealed_all()
    wide, narrow = (files_of(b"".join(bundle(one, range_for(one)))) for one in asked)
    manifest, other = (json.loads(one["manifest.json"]) for one in (wide, narrow))
    manifest["asked"], manifest["decided"] = other["asked"], other["decided"]
    wide["manifest.json"] = json.dumps(manifest).encode()
    wide["controls.json"] = narrow["controls.json"]
    assert said_wrong(checked(packed(wide), tmp_path, "--key", LogKey.objects.get().vkey))


def test_a_copy_of_a_handover_says_nothing(settings: Any, genuine: Callable[[], bytes]) -> None:
    """The statement is public: whoever may write events must not end all proofs with it."""
    rotated(settings)
    sealed_all()
    details = parsed_leaf(Event.objects.filter(type="audit.key_rotated").latest("id").leaf)
    with transaction.atomic():
        record(LOG_KEY_ROTATED, actor=SYSTEM, subject=LOG, **details["details"])
    sealed_all()
    assert verify().is_sound
    assert genuine()


def test_a_key_that_comes_back_is_refused(settings: Any) -> None:
    old = settings.LOG_SIGNING_KEY
    rotated(settings)
    sealed_all()
    settings.LOG_SIGNING_KEY = f"{old},{NEW}"
    many(2)
    with pytest.raises(SealingKeyUsedBefore):
        seal()


def lines_changed(archive: bytes, change: Callable[[list[dict[str, Any]]], None]) -> bytes:
    files = files_of(archive)
    lines = [json.loads(line) for line in files["events.jsonl"].decode().splitlines()]
    change(lines)
    text = "".join(f"{json.dumps(line)}\n" for line in lines)
    return packed(files | {"events.jsonl": text.encode()})


def withheld(lines: list[dict[str, Any]], place: int = 3) -> None:
    lines[place] = {"hash": leaf_hash(lines[place]["leaf"].encode()).hex()}


def without_a_value(lines: list[dict[str, Any]]) -> None:
    line = next(one for one in lines if one["values"])
    line["values"].popitem()


def without_values(lines: list[dict[str, Any]]) -> None:
    for line in lines:
        line.pop("values", None)


@pytest.mark.parametrize("change", [withheld, without_a_value, without_values])
def test_of_a_whole_log_that_was_asked_for_nothing_is_withheld(
    genuine: Callable[[], bytes], tmp_path: Path, change: Any
) -> None:
    many(8)
    archive = genuine()
    assert checked(archive, tmp_path).returncode == 0
    assert said_wrong(checked(lines_changed(archive, change), tmp_path))


@pytest.mark.parametrize("kept", [range(6), range(2, 12)])
def test_of_a_whole_log_that_was_asked_for_nothing_is_cut(
    genuine: Callable[[], bytes], tmp_path: Path, kept: range
) -> None:
    """The holder has every hash, and so the proof of any part of the range."""
    many(8)
    files = files_of(genuine())
    lines = files["events.jsonl"].decode().splitlines(keepends=True)
    hashes = [leaf_hash(json.loads(line)["leaf"].encode()) for line in lines]
    proofs, manifest = json.loads(files["proofs.json"]), json.loads(files["manifest.json"])

    def proof(low: int, high: int) -> list[str]:
        if high <= kept.start or kept.stop <= low:
            return [root_of(hashes[low:high]).hex()]
        if kept.start <= low and high <= kept.stop:
            return []
        middle = low + (1 << ((high - low - 1).bit_length() - 1))
        return [*proof(low, middle), *proof(middle, high)]

    size = manifest["size"]
    assert len(lines) == size
    cut = packed(
        files
        | {
            "events.jsonl": "".join(lines[kept.start : kept.stop]).encode(),
            "manifest.json": json.dumps(
                manifest | {"start": kept.start, "end": kept.stop}
            ).encode(),
            "proofs.json": json.dumps(proofs | {"range": proof(0, size)}).encode(),
        }
    )
    found = checked(cut, tmp_path)
    assert said_wrong(found)
    assert "it is cut" in found.stderr


def test_of_a_part_that_was_asked_for_it_says_what_a_hash_cannot_tell(
    genuine: Callable[[], bytes], tmp_path: Path, django_user_model: type[User]
) -> None:
    many(8)
    genuine()
    anna, bert = (Actor.from_user(person) for person in django_user_model.objects.order_by("pk"))
    since = Event.objects.order_by("pk").values_list("recorded_at", flat=True)[3]
    wanted = exports.Wanted(since=since, with_values=True)
    export = exports.ask(wanted, actor=anna, purpose="The rest")
    exports.decide_export(export.pk, actor=bert, approve=True, reason="Yes.")
    seal()
    export.refresh_from_db()
    archive = b"".join(bundle(export, range_for(export)))
    found = checked(archive, tmp_path)
    assert (found.returncode, "a hash cannot tell" in found.stdout) == (0, False)
    hidden = checked(lines_changed(archive, withheld), tmp_path)
    assert (hidden.returncode, "a hash cannot tell" in hidden.stdout) == (0, True)


@pytest.mark.parametrize(
    "line", ["APPROVED by the board", "\u2014 witness.example", "- a AAAAAA=="]
)
def test_a_line_of_a_checkpoint_that_is_no_signature_is_refused(
    genuine: Callable[[], bytes], tmp_path: Path, line: str
) -> None:
    many(3)
    files = files_of(genuine())
    added = packed(files | {"checkpoint": files["checkpoint"] + f"{line}\n".encode()})
    assert said_wrong(checked(added, tmp_path))


def test_no_field_of_the_archive_gives_a_file_another_name(
    genuine: Callable[[], bytes], tmp_path: Path
) -> None:
    many(3)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files_of(genuine()).items():
            one = zipfile.ZipInfo(name)
            if name == "README.txt":  # Info-ZIP's Unicode path
                one.extra = b"up\x0f\x00\x01\x00\x00\x00\x00IGNORE.txt"
            archive.writestr(one, data)
    assert said_wrong(checked(out.getvalue(), tmp_path))
