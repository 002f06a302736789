"""Two verifiers that are not ours: Go's checksum database library, and sigstore's client."""

import json
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sigstore._internal.merkle import verify_merkle_inclusion
from sigstore._internal.rekor.checkpoint import verify_checkpoint
from sigstore.errors import VerificationError

from audit.merkle import consistency_proof, inclusion_proof, leaf_hash
from audit.models import Checkpoint, Leaf, LogKey
from audit.signed_notes import Verifier
from audit.tree import StoredTree
from tests.audit.handovers import Handed, handed_over
from tests.audit.sealed_log import many, sealed_all

pytestmark = pytest.mark.django_db

GO_PACKAGES = Path("/usr/share/gocode")
HAS_GO = shutil.which("go") is not None and (GO_PACKAGES / "src/golang.org/x/mod/sumdb").is_dir()
REQUIRED = os.environ.get("CHANCERY_REQUIRE_GO") == "1"
INCLUSIONS, CONSISTENCIES, MUTATIONS = 2_000, 300, 10_000


@dataclass(frozen=True)
class Sealed:
    vkey: str
    notes: dict[int, str]
    roots: dict[int, bytes]
    leaves: list[bytes]
    texts: list[str]


@pytest.fixture
def log() -> Sealed:
    """A log of some 800 events that was signed nine times."""
    for _ in range(8):
        many(97)
        sealed_all()
    rows = Checkpoint.objects.all()
    places = Leaf.objects.order_by("seq").values_list("hash", "event__leaf")
    return Sealed(
        LogKey.objects.get().vkey,
        {row.size: row.note for row in rows},
        {row.size: bytes(row.root) for row in rows},
        [bytes(hashed) for hashed, _ in places],
        [text for _, text in places],
    )


def inclusions(log: Sealed, number: int) -> Iterator[dict[str, Any]]:
    trees = {size: StoredTree(size) for size in log.roots}
    for _ in range(number):
        size = random.choice(list(trees))
        index = random.randrange(size)
        yield {
            "kind": "inclusion",
            "size": size,
            "root": log.roots[size].hex(),
            "index": index,
            "leaf": log.leaves[index].hex(),
            "proof": [one.hex() for one in inclusion_proof(trees[size], index, size)],
        }


def consistencies(log: Sealed, number: int) -> Iterator[dict[str, Any]]:
    sizes = sorted(log.roots)
    trees = {size: StoredTree(size) for size in sizes}
    for _ in range(number):
        old, size = sorted(random.sample(sizes, 2))
        yield {
            "kind": "consistency",
            "size": size,
            "root": log.roots[size].hex(),
            "old": old,
            "was": log.roots[old].hex(),
            "proof": [one.hex() for one in consistency_proof(trees[size], old, size)],
        }


def flipped(hexadecimal: str) -> str:
    """With one bit another one."""
    data = bytearray.fromhex(hexadecimal)
    data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    return data.hex()


def mutated(claim: dict[str, Any]) -> dict[str, Any]:
    """The claim with one thing wrong in it. Not its size: what is signed vouches for that."""
    proof, hashes = claim["proof"], [n for n in ("root", "leaf", "was") if n in claim]
    kinds = ["hash", "longer"] + (["step", "shorter"] if proof else [])
    match random.choice([*kinds, "index"] if "index" in claim and proof else kinds):
        case "hash":
            name = random.choice(hashes)
            return claim | {name: flipped(claim[name])}
        case "step":
            place = random.randrange(len(proof))
            return claim | {"proof": [*proof[:place], flipped(proof[place]), *proof[place + 1 :]]}
        case "shorter":
            return claim | {"proof": proof[:-1]}
        case "longer":
            return claim | {"proof": [*proof, os.urandom(32).hex()]}
    return claim | {"index": (claim["index"] + 1) % claim["size"]}


@pytest.fixture(scope="session")
def go_verifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not HAS_GO:
        assert not REQUIRED, "Go and golang.org/x/mod are required here"
        pytest.skip("needs Go and golang.org/x/mod from Debian; CI installs them")
    folder = tmp_path_factory.mktemp("go")
    source = folder / "src/outside"
    source.mkdir(parents=True)
    shutil.copy(Path(__file__).parent / "outside/main.go", source)
    env = {
        "PATH": os.environ["PATH"],
        "GO111MODULE": "off",
        "GOPATH": f"{folder}:{GO_PACKAGES}",
        "GOCACHE": str(folder / "cache"),
    }
    subprocess.run(["go", "build", "-o", folder / "verify", "outside"], env=env, check=True)
    return folder / "verify"


def said_by(verifier: Path, claims: list[dict[str, Any]]) -> list[bool]:
    text = "".join(f"{json.dumps(one)}\n" for one in claims)
    found = subprocess.run([verifier], input=text, capture_output=True, text=True, check=True)
    return [line == "yes" for line in found.stdout.splitlines()]


def test_go_accepts_what_is_true(log: Sealed, go_verifier: Path) -> None:
    notes = [{"kind": "note", "vkey": log.vkey, "note": text} for text in log.notes.values()]
    leaves = [
        {"kind": "leaf", "leaf": text.encode().hex(), "root": hashed.hex()}
        for text, hashed in zip(log.texts, log.leaves, strict=True)
    ]
    proofs = [*inclusions(log, INCLUSIONS), *consistencies(log, CONSISTENCIES)]
    claims = [*notes, *leaves, *proofs]
    assert len(notes) == len(log.roots) >= 9
    assert said_by(go_verifier, claims) == [True] * len(claims)


def test_go_refuses_what_is_not(log: Sealed, go_verifier: Path) -> None:
    true = [*inclusions(log, 1_000), *consistencies(log, 200)]
    claims = [mutated(random.choice(true)) for _ in range(MUTATIONS)]
    assert said_by(go_verifier, claims) == [False] * MUTATIONS
    size, note = next(iter(log.notes.items()))
    wrong = [
        note.replace(f"\n{size}\n", f"\n{size + 1}\n", 1),
        note.replace("testserver", "testsurfer", 1),
    ]
    other = Verifier(Verifier.from_text(log.vkey).name, os.urandom(32))
    notes = [{"kind": "note", "vkey": log.vkey, "note": text} for text in wrong]
    notes += [{"kind": "note", "vkey": str(other), "note": note}]
    assert said_by(go_verifier, notes) == [False] * 3


class OneKey:
    """A keyring, as sigstore asks for one, with the log's key."""

    def __init__(self, vkey: str) -> None:
        self.key = Verifier.from_text(vkey)

    def verify(self, *, key_id: bytes, signature: bytes, data: bytes) -> None:
        assert key_id == self.key.key_hash
        try:
            Ed25519PublicKey.from_public_bytes(self.key.public).verify(signature, data)
        except InvalidSignature as error:
            message = "not signed"
            raise VerificationError(message) from error


def entry(log: Sealed, claim: dict[str, Any], *, body: str | None = None) -> Any:
    proof = SimpleNamespace(
        log_index=claim["index"],
        tree_size=claim["size"],
        hashes=[bytes.fromhex(one) for one in claim["proof"]],
        root_hash=bytes.fromhex(claim["root"]),
        checkpoint=SimpleNamespace(envelope=log.notes[claim["size"]]),
    )
    return SimpleNamespace(
        _inner=SimpleNamespace(
            inclusion_proof=proof,
            canonicalized_body=(body or log.texts[claim["index"]]).encode(),
            log_id=SimpleNamespace(key_id=Verifier.from_text(log.vkey).key_hash),
        )
    )


def test_sigstore_accepts_what_is_true(log: Sealed) -> None:
    keys: Any = OneKey(log.vkey)
    for claim in inclusions(log, INCLUSIONS):
        verify_merkle_inclusion(entry(log, claim))
    for claim in inclusions(log, 50):
        verify_checkpoint(keys, entry(log, claim))


def test_sigstore_refuses_what_is_not(log: Sealed) -> None:
    keys: Any = OneKey(log.vkey)
    claims = list(inclusions(log, 500))
    for claim in claims:
        with pytest.raises(VerificationError):
            verify_merkle_inclusion(entry(log, claim, body=log.texts[0] + " "))
        with pytest.raises(VerificationError):
            verify_merkle_inclusion(entry(log, claim | {"root": flipped(claim["root"])}))
    with pytest.raises(VerificationError):
        verify_checkpoint(keys, entry(log, claims[0] | {"root": flipped(claims[0]["root"])}))


# -- a key that was handed over -------------------------------------------------------------------


def handover_claims(handed: Handed) -> list[dict[str, Any]]:
    """All that has to hold for the new key to be the old one's."""
    introduced, last = handed.introduced, handed.last
    hashed = leaf_hash(handed.leaf.encode()).hex()
    root = bytes(introduced.root).hex()
    return [
        {"kind": "note", "vkey": handed.old, "note": handed.statement},
        {"kind": "note", "vkey": handed.old, "note": introduced.note},
        {"kind": "note", "vkey": handed.new, "note": introduced.note},
        {"kind": "leaf", "leaf": handed.leaf.encode().hex(), "root": hashed},
        {
            "kind": "inclusion",
            "size": introduced.size,
            "root": root,
            "index": handed.place,
            "leaf": hashed,
            "proof": [one.hex() for one in handed.inclusion()],
        },
        {
            "kind": "consistency",
            "size": last.size,
            "root": bytes(last.root).hex(),
            "old": introduced.size,
            "was": root,
            "proof": [one.hex() for one in handed.continuation()],
        },
        {"kind": "note", "vkey": handed.new, "note": last.note},
    ]


def test_go_follows_a_handed_over_key(settings: Any, go_verifier: Path) -> None:
    handed = handed_over(settings)
    assert f"\n{handed.new}\n" in handed.statement  # what the old key says of it
    claims = handover_claims(handed)
    assert said_by(go_verifier, claims) == [True] * len(claims)


def test_go_refuses_a_key_that_nobody_handed_over(settings: Any, go_verifier: Path) -> None:
    handed = handed_over(settings)
    name = Verifier.from_text(handed.new).name
    other = str(Verifier(name, os.urandom(32)))
    renamed = handed.statement.replace(handed.new, other)
    claims = [
        {"kind": "note", "vkey": handed.old, "note": renamed},
        {"kind": "note", "vkey": handed.new, "note": handed.statement},
        {"kind": "note", "vkey": other, "note": handed.introduced.note},
        {"kind": "note", "vkey": handed.old, "note": handed.last.note},
        *(mutated(one) for one in handover_claims(handed) if "proof" in one),
    ]
    assert said_by(go_verifier, claims) == [False] * len(claims)


def test_sigstore_follows_a_handed_over_key(settings: Any) -> None:
    handed = handed_over(settings)
    introduced = handed.introduced
    for vkey in (handed.old, handed.new):
        log = Sealed(vkey, {introduced.size: introduced.note}, {}, [], [])
        claim = {
            "index": handed.place,
            "size": introduced.size,
            "root": bytes(introduced.root).hex(),
            "proof": [one.hex() for one in handed.inclusion()],
        }
        shown = entry(log, claim, body=handed.leaf)
        verify_merkle_inclusion(shown)
        keys: Any = OneKey(vkey)
        verify_checkpoint(keys, shown)
        with pytest.raises(VerificationError):
            verify_merkle_inclusion(entry(log, claim, body=handed.leaf.replace(handed.new, "x")))
