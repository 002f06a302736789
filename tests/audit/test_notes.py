"""Signed notes, checkpoints and proofs as text; signatures against published vectors."""

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from audit.merkle import ProofInvalid
from audit.signed_notes import (
    LogCheckpoint,
    Note,
    NoteInvalid,
    Proof,
    Signer,
    Verifier,
    cosigned_at,
    parse_note,
    parsed_checkpoint,
    parsed_proof,
    verify_checkpoint,
)

SIGNER = Signer.from_seed("example.com/log", bytes(range(32)))
BODY = LogCheckpoint("example.com/log", 7, b"r" * 32)
SIGNED = str(Note(BODY.text, (SIGNER.sign(BODY.text),)))

# From the tests of golang.org/x/mod/sumdb/note, where the format comes from.
EXAMPLE_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
EXAMPLE_TEXT = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
)
EXAMPLE = (
    f"{EXAMPLE_TEXT}\n\N{EM DASH} PeterNeumann "
    "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)


def ed25519_cases() -> list[tuple[str, str, Any]]:
    found = json.loads((Path(__file__).parent / "vectors" / "ed25519.json").read_text())
    return [
        (f"{case['tcId']}", group["publicKey"]["pk"], case)
        for group in found["testGroups"]
        for case in group["tests"]
    ]


def test_signatures_as_published() -> None:
    """Those of the library that signs and checks here."""
    agreed = 0
    for number, public, case in ed25519_cases():
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public))
        try:
            key.verify(bytes.fromhex(case["sig"]), bytes.fromhex(case["msg"]))
            found = "valid"
        except InvalidSignature:
            found = "invalid"
        assert found == case["result"], number
        agreed += 1
    assert agreed == 151


def test_a_checkpoint_is_read_as_it_was_written() -> None:
    assert verify_checkpoint(SIGNED, SIGNER.verifier) == BODY
    assert str(parse_note(SIGNED)) == SIGNED
    assert Verifier.from_text(str(SIGNER.verifier)) == SIGNER.verifier


@pytest.mark.parametrize(
    "changed",
    [
        SIGNED.replace("\n7\n", "\n8\n"),
        SIGNED.replace("example.com/log\n7", "example.com/other\n7"),
        SIGNED.replace("\n\n", "\nmore\n\n"),
        SIGNED.replace("\n7\n", "\n07\n"),
    ],
)
def test_a_changed_checkpoint_is_refused(changed: str) -> None:
    assert changed != SIGNED
    with pytest.raises(NoteInvalid):
        verify_checkpoint(changed, SIGNER.verifier)


def test_another_log_signs_for_itself_only() -> None:
    other = Signer.from_seed("example.com/other", bytes(32))
    note = Note(BODY.text, (other.sign(BODY.text),))
    for verifier in (SIGNER.verifier, other.verifier):
        with pytest.raises(NoteInvalid):
            verify_checkpoint(str(note), verifier)


def test_the_example_of_signed_note() -> None:
    verifier = Verifier.from_text(EXAMPLE_KEY)
    note = parse_note(EXAMPLE)
    verifier.ensure_signed(note)
    assert note.text == EXAMPLE_TEXT
    with pytest.raises(NoteInvalid):
        verifier.ensure_signed(Note("This is another message.\n", note.signatures))


@pytest.mark.parametrize(
    "vkey",
    [
        "",
        "example.com/log",
        str(SIGNER.verifier).replace("+", "-"),
        str(SIGNER.verifier).replace("example", "sample"),
        f"a+00000000+{base64.b64encode(bytes([9]) + b'k' * 32).decode()}",
        f"{SIGNER.verifier}=",
    ],
)
def test_what_is_no_key_is_refused(vkey: str) -> None:
    with pytest.raises(NoteInvalid):
        Verifier.from_text(vkey)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a\n",
        "a\n\n",
        "a\n\n— x y\n",
        SIGNED[:-1],
        SIGNED.replace("— ", "- "),
        "\0\n\n— a b\n",
    ],
)
def test_what_is_no_note_is_refused(text: str) -> None:
    with pytest.raises(NoteInvalid):
        parse_note(text)


@pytest.mark.parametrize("text", ["o\n1\n", "o\n-1\nAAAA\n", "\n1\nAAAA\n", "o\n1\nAAAA\n"])
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(NoteInvalid):
        parsed_checkpoint(Note(text, ()))


def test_a_witness_signs_with_its_time() -> None:
    witness = Signer.from_seed("witness.example", bytes(32))
    line = witness.cosign(BODY.text, at=1_700_000_000)
    note = parse_note(str(Note(BODY.text, (SIGNER.sign(BODY.text), line))))
    signature = witness.witness.ensure_signed(note)
    assert cosigned_at(signature) == 1_700_000_000
    earlier = (1_600_000_000).to_bytes(8, "big") + signature.value[8:]
    moved = Note(note.text, (type(signature)(signature.name, signature.key_hash, earlier),))
    with pytest.raises(NoteInvalid):
        witness.witness.ensure_signed(moved)
    with pytest.raises(NoteInvalid):
        witness.verifier.ensure_signed(note)


def test_a_proof_is_read_as_it_was_written() -> None:
    proof = Proof(5, (b"a" * 32, b"b" * 32), SIGNED)
    assert parsed_proof(str(proof)) == proof
    extra = str(proof).replace("index", "extra aGk=\nindex")
    assert parsed_proof(extra) == replace(proof, extra=b"hi")
    assert str(parsed_proof(extra)) == extra


@pytest.mark.parametrize(
    "change",
    [
        ("c2sp.org/tlog-proof@v1", "c2sp.org/tlog-proof@v2"),
        ("index 5", "index 05"),
        ("index 5", "index -5"),
        ("index 5\n", ""),
        ("YWFh", "YW"),
        ("\n\n", "\n"),
    ],
)
def test_what_is_no_proof_is_refused(change: tuple[str, str]) -> None:
    proof = str(Proof(5, (b"a" * 32,), "o\n1\nr\n"))
    changed = proof.replace(*change, 1)
    assert changed != proof
    with pytest.raises(ProofInvalid):
        parsed_proof(changed)
