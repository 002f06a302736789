"""The witness, alone and with the log: over HTTP, as a process of its own."""

import base64
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.conf import settings as configured
from django.db import connection

from audit.merkle import consistency_proof, root
from audit.models import Checkpoint, Cosignature, Event, WitnessState
from audit.proofs import as_text, receipt
from audit.services import witness_client
from audit.services.sealer import signers
from audit.signed_notes import LogCheckpoint as Statement
from audit.signed_notes import (
    Note,
    NoteInvalid,
    Signer,
    Verifier,
    hash_lines,
    parse_note,
    verify_checkpoint,
)
from audit.witness_server import SIZE, Witness
from common import triggers
from tests.audit.merkle_trees import Grown
from tests.audit.sealed_log import many, sealed_all

LOG = Signer.from_seed("log.example/x", b"l" * 32)
MINE = Signer.from_seed("witness.example/w", b"w" * 32)
TREE = Grown([str(n).encode() for n in range(40)])
OTHER = Grown([str(n * 7).encode() for n in range(40)])


@pytest.fixture
def witness(tmp_path: Path) -> Witness:
    return Witness(MINE, [LOG.verifier], tmp_path, clock=lambda: 1_800_000_000)


def note(size: int, *, tree: Grown = TREE, by: Signer = LOG, origin: str = LOG.name) -> str:
    text = Statement(origin, size, root(tree, size)).text
    return str(Note(text, (by.sign(text),)))


def body(old: int, size: int, *, tree: Grown = TREE, text: str | None = None) -> bytes:
    proof = hash_lines(consistency_proof(tree, old, size)) if 0 < old < size else ""
    return f"old {old}\n{proof}\n{text or note(size, tree=tree)}".encode()


def test_it_signs_what_continues_what_it_has_seen(witness: Witness) -> None:
    for old, size in ((0, 3), (3, 3), (3, 17), (17, 40)):
        answer = witness.add(body(old, size))
        assert answer.status == 200
        whole = note(size) + answer.text
        assert verify_checkpoint(whole, LOG.verifier).size == size
        MINE.witness.ensure_signed(parse_note(whole))


def test_what_it_has_seen_outlives_it(witness: Witness, tmp_path: Path) -> None:
    witness.add(body(0, 17))
    again = Witness(MINE, [LOG.verifier], tmp_path)
    answer = again.add(body(0, 40))
    assert (answer.status, answer.text, answer.kind) == (409, "17\n", SIZE)
    assert again.add(body(17, 40)).status == 200


@pytest.mark.parametrize(
    ("given", "status"),
    [
        (b"", 400),
        (b"\xff", 400),
        (b"old 1\n\n", 400),
        (b"old -1\n\n" + note(3).encode(), 400),
        (b"old 017\n\n" + note(20).encode(), 400),
        (b"old x\n\n" + note(20).encode(), 400),
        (b"old 17\nAAAA\n\n" + note(20).encode(), 400),
        (body(21, 20), 400),
        (body(17, 20, text=note(20, origin="log.example/y")), 404),
        (body(17, 20, text=note(20, by=MINE)), 403),
        (body(17, 20, text=note(20, by=Signer.from_seed(LOG.name, b"o" * 32))), 403),
        (body(16, 20), 409),
        (body(0, 20), 409),
        (body(17, 17, tree=OTHER), 409),
        (body(17, 20, tree=OTHER), 422),
        (body(17, 20).replace(b"old 17\n", b"old 17\n" + base64.b64encode(b"x" * 32) + b"\n"), 422),
    ],
)
def test_what_it_refuses_it_forgets(witness: Witness, given: bytes, status: int) -> None:
    witness.add(body(0, 17))
    assert witness.add(given).status == status
    assert witness.add(body(17, 20)).status == 200


def test_a_first_checkpoint_has_no_proof(witness: Witness) -> None:
    step = base64.b64encode(b"x" * 32) + b"\n"
    assert witness.add(body(0, 17).replace(b"old 0\n", b"old 0\n" + step)).status == 422


# -- with the log ------------------------------------------------------------------------------


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """`manage.py witness` for this portal's log; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "manage.py", "witness", "--name", MINE.name, "--folder", str(tmp_path),
        "--listen", f"127.0.0.1:{port}", "--log", str(signers()[0].verifier),
    ]  # fmt: skip
    (tmp_path / "key").write_text((b"w" * 32).hex())
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert str(MINE.witness) in (process.stdout.readline() if process.stdout else "")
            address = f"http://127.0.0.1:{port}"
            _wait_for(address)
            yield address
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(10)


def _wait_for(address: str) -> None:
    for _ in range(200):
        try:
            httpx.get(f"{address}/checkpoint/x")
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return
    pytest.fail("the witness does not answer")


def state() -> WitnessState:
    return WitnessState.objects.get()


def refusals() -> list[Any]:
    found = Event.objects.filter(type="audit.witness_refused").order_by("id")
    return [one.details["error"] for one in found]


@pytest.mark.django_db
def test_the_log_is_witnessed_and_what_goes_back_is_refused(served: str, settings: Any) -> None:
    settings.LOG_WITNESSES = f"{MINE.witness} {served}/"
    for _ in range(3):
        many(30)
        sealed_all()
        assert witness_client.request_cosignatures() == 1
    assert witness_client.request_cosignatures() == 1
    assert Cosignature.objects.count() == 3
    last = Checkpoint.objects.all()[0]
    MINE.witness.ensure_signed(parse_note(as_text(last)))
    proof = receipt(Event.objects.get(place__seq=5))
    assert MINE.name in proof.checkpoint
    assert state().size == last.size
    assert refusals() == []

    _rolled_back()
    many(80, of="another past")
    sealed_all()
    assert witness_client.request_cosignatures() == 0
    assert state().trouble in {"conflict", "status_422"}
    assert witness_client.request_cosignatures() == 0
    assert len(refusals()) == 1  # said once, not each time


def _rolled_back() -> None:
    """Everything is forgotten that was sealed, and one event changes."""
    tables = ("cosignature", "checkpoint", "tile", "leaf", "logkey", "eventpayload", "event")
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        for table in tables:
            for statement in triggers.removal(f"audit_{table}")[connection.vendor]:
                cursor.execute(statement)
        for table in (*tables, "sealermark"):
            cursor.execute(f"DELETE FROM audit_{table}")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (httpx.Response(500), "status_500"),
        (httpx.Response(200, text="— witness.example/w AAAA\n"), "false_signature"),
        (httpx.Response(200, text=""), "false_signature"),
        (httpx.Response(409, text="9999\n"), "conflict"),
        (httpx.Response(409, text="soon"), "conflict"),
        (httpx.Response(302, headers={"location": "http://127.0.0.1/"}), "status_302"),
        (httpx.ConnectError("no"), "unreachable"),
    ],
)
def test_what_a_witness_answers_is_not_believed(
    settings: Any, monkeypatch: pytest.MonkeyPatch, answer: httpx.Response | Exception, code: str
) -> None:
    settings.LOG_WITNESSES = f"{MINE.witness} http://witness.invalid"

    def post(*args: Any, **kwargs: Any) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(httpx.Client, "post", post)
    many(3)
    sealed_all()
    assert witness_client.request_cosignatures() == 0
    assert state().trouble == code
    assert not Cosignature.objects.exists()
    assert refusals() == [code]


def test_without_witnesses_nobody_is_asked() -> None:
    assert configured.LOG_WITNESSES == ""
    assert witness_client.witnesses() == []


def test_a_witness_is_a_key_and_an_address(settings: Any) -> None:
    settings.LOG_WITNESSES = f"{MINE.witness} https://a.example , {MINE.witness} https://b.example/"
    assert [one.url for one in witness_client.witnesses()] == [
        "https://a.example",
        "https://b.example",
    ]
    settings.LOG_WITNESSES = "https://a.example"
    with pytest.raises(NoteInvalid):
        witness_client.witnesses()
    assert Verifier.from_text(str(MINE.witness)) == MINE.witness
