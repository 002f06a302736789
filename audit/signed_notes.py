"""Signed notes, checkpoints and proofs as text, after C2SP: what is given to the outside.

A checkpoint (C2SP tlog-checkpoint) is a signed note (C2SP signed-note) of three lines: the log's
origin, the number of leaves, the root. A proof (C2SP tlog-proof) is a leaf's index and path with
the checkpoint that they lead to.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from audit.merkle import HASH_BYTES, ProofInvalid

_ED25519 = 1
_COSIGNATURE = 4
_MAX_BYTES = 65_536
_NUMBER = re.compile(r"0|[1-9][0-9]{0,17}")
_NAME = re.compile(r"[^\s+]+")


class NoteInvalid(Exception):
    """A note that is malformed, or not signed by the key that it is checked with."""


@dataclass(frozen=True, slots=True)
class Signature:
    name: str
    key_hash: bytes
    value: bytes

    def line(self) -> str:
        return f"\N{EM DASH} {self.name} {_b64(self.key_hash + self.value)}\n"


@dataclass(frozen=True, slots=True)
class Note:
    """`text` ends with a newline, and is what is signed."""

    text: str
    signatures: tuple[Signature, ...]

    def __str__(self) -> str:
        return f"{self.text}\n{''.join(one.line() for one in self.signatures)}"


@dataclass(frozen=True, slots=True)
class LogCheckpoint:
    """The whole log so far: how many leaves, and their root."""

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        return f"{self.origin}\n{self.size}\n{_b64(self.root)}\n"


@dataclass(frozen=True, slots=True)
class Verifier:
    """A public Ed25519 key with the name that it signs for; a C2SP vkey as text."""

    name: str
    public: bytes
    algorithm: int = _ED25519

    @classmethod
    def from_text(cls, vkey: str) -> "Verifier":
        """Raises NoteInvalid, also if the name and the key's hash do not belong together."""
        name, _, rest = vkey.strip().partition("+")
        hashed, _, encoded = rest.partition("+")
        key = _decoded(encoded)
        if not _NAME.fullmatch(name) or len(key) != 33 or key[0] not in {_ED25519, _COSIGNATURE}:
            message = "This is not a public key of a log or a witness."
            raise NoteInvalid(message)
        found = cls(name, key[1:], key[0])
        if found.key_hash.hex() != hashed:
            message = "The key's hash is another one."
            raise NoteInvalid(message)
        return found

    @property
    def key_hash(self) -> bytes:
        named = self.name.encode() + b"\n" + bytes([self.algorithm]) + self.public
        return hashlib.sha256(named).digest()[:4]

    def __str__(self) -> str:
        key = _b64(bytes([self.algorithm]) + self.public)
        return f"{self.name}+{self.key_hash.hex()}+{key}"

    def ensure_signed(self, note: Note) -> Signature:
        """Its signature of the note. Raises NoteInvalid if there is none that holds."""
        for one in note.signatures:
            if (one.name, one.key_hash) == (self.name, self.key_hash):
                self._ensure_holds(note.text, one)
                return one
        message = f"{self.name} has not signed this."
        raise NoteInvalid(message)

    def has_signed(self, note: Note) -> bool:
        try:
            self.ensure_signed(note)
        except NoteInvalid:
            return False
        return True

    def _ensure_holds(self, text: str, signature: Signature) -> None:
        value, signed = signature.value, text.encode()
        if self.algorithm == _COSIGNATURE:
            # The time, in seconds, is signed with the text (C2SP tlog-cosignature).
            signed = f"cosignature/v1\ntime {cosigned_at(signature)}\n".encode() + signed
            value = value[8:]
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(value, signed)
        except InvalidSignature as error:
            message = f"The signature of {self.name} does not hold."
            raise NoteInvalid(message) from error


@dataclass(frozen=True)
class Signer:
    """A private key with the name that it signs for."""

    name: str
    key: Ed25519PrivateKey

    @classmethod
    def from_seed(cls, name: str, seed: bytes) -> "Signer":
        return cls(name, Ed25519PrivateKey.from_private_bytes(seed))

    @property
    def verifier(self) -> Verifier:
        return Verifier(self.name, self.key.public_key().public_bytes_raw())

    @property
    def witness(self) -> Verifier:
        """The same key as a witness's, whose signatures carry their time."""
        return Verifier(self.name, self.key.public_key().public_bytes_raw(), _COSIGNATURE)

    def sign(self, text: str) -> Signature:
        return Signature(self.name, self.verifier.key_hash, self.key.sign(text.encode()))

    def cosign(self, text: str, *, at: int) -> Signature:
        """As a witness (C2SP tlog-cosignature), at this second since 1970."""
        signed = f"cosignature/v1\ntime {at}\n".encode() + text.encode()
        value = at.to_bytes(8, "big") + self.key.sign(signed)
        return Signature(self.name, self.witness.key_hash, value)


def cosigned_at(signature: Signature) -> int:
    """Seconds since 1970. Raises NoteInvalid if it is no cosignature."""
    if len(signature.value) != 72:
        message = "This is not a witness's signature."
        raise NoteInvalid(message)
    return int.from_bytes(signature.value[:8], "big")


def parse_note(text: str) -> Note:
    """Raises NoteInvalid for anything but text, an empty line and lines of signatures."""
    body, gap, rest = text.rpartition("\n\n")
    lines = rest.splitlines(keepends=True)
    malformed = not gap or not lines or len(text.encode()) > _MAX_BYTES
    if malformed or any(ord(one) < 0x20 and one != "\n" for one in text):
        message = "This is not a signed note."
        raise NoteInvalid(message)
    return Note(f"{body}\n", tuple(_parsed_signature(line) for line in lines))


def _parsed_signature(line: str) -> Signature:
    mark, _, rest = line.removesuffix("\n").partition(" ")
    name, _, encoded = rest.partition(" ")
    value = _decoded(encoded)
    if mark != "\N{EM DASH}" or not _NAME.fullmatch(name) or len(value) < 5 or line[-1:] != "\n":
        message = "A line is not a signature."
        raise NoteInvalid(message)
    return Signature(name, value[:4], value[4:])


def parsed_checkpoint(note: Note) -> LogCheckpoint:
    """Raises NoteInvalid. Lines beyond the third are signed and say nothing here."""
    lines = note.text.split("\n")
    if len(lines) < 4 or not lines[0] or not _NUMBER.fullmatch(lines[1]):
        message = "This is not a checkpoint."
        raise NoteInvalid(message)
    root = _decoded(lines[2])
    if len(root) != HASH_BYTES:
        message = "The root is not a hash."
        raise NoteInvalid(message)
    return LogCheckpoint(lines[0], int(lines[1]), root)


@dataclass(frozen=True, slots=True)
class Handover:
    """A key's statement, as a signed note, that another key signs the log after it.

    It names the log, both keys, and the log that the old key signed last. Its first line is no
    log's origin, so that no checkpoint can be taken for one (C2SP signed-note: what is signed must
    say what it is).
    """

    origin: str
    previous: str
    key: str
    size: int
    root: bytes
    signature: bytes = b""

    HEADER: ClassVar[str] = "chancery/log-key-handover/v1"

    @classmethod
    def from_details(cls, details: Mapping[str, Any]) -> "Handover":
        """As the event holds it. Raises NoteInvalid."""
        try:
            previous, key, root = (str(details[name]) for name in ("previous", "key", "root"))
            size, signature = int(details["size"]), _decoded(str(details["signature"]))
        except (KeyError, TypeError, ValueError) as error:
            message = "This is not the statement of a key."
            raise NoteInvalid(message) from error
        return cls(previous.partition("+")[0], previous, key, size, _decoded(root), signature)

    @property
    def text(self) -> str:
        lines = (self.HEADER, self.origin, self.previous, self.key, str(self.size), _b64(self.root))
        return "".join(f"{line}\n" for line in lines)

    def details(self, signer: "Signer") -> dict[str, Any]:
        """Return the details of the event, signed with the old key."""
        signed = signer.sign(self.text)
        return {
            "previous": self.previous,
            "key": self.key,
            "size": self.size,
            "root": _b64(self.root),
            "signature": _b64(signed.key_hash + signed.value),
        }

    def ensure_signed(self, previous: Verifier, key: Verifier) -> None:
        """Check that the previous key signed this key. Raises NoteInvalid."""
        if (self.previous, self.key) != (str(previous), str(key)):
            message = "The statement names other keys."
            raise NoteInvalid(message)
        signature = Signature(self.origin, self.signature[:4], self.signature[4:])
        previous.ensure_signed(Note(self.text, (signature,)))


def verify_checkpoint(text: str, verifier: Verifier) -> LogCheckpoint:
    """The checkpoint, if this log has signed it. Raises NoteInvalid."""
    note = parse_note(text)
    verifier.ensure_signed(note)
    found = parsed_checkpoint(note)
    if found.origin != verifier.name:
        message = "The checkpoint is of another log."
        raise NoteInvalid(message)
    return found


_PROOF_HEADER = "c2sp.org/tlog-proof@v1"


@dataclass(frozen=True, slots=True)
class Proof:
    """A leaf's place in the log, to be checked against the checkpoint that goes with it.

    `extra` is for whoever reads it, and not part of what is proved: here the leaf.
    """

    index: int
    path: tuple[bytes, ...]
    checkpoint: str
    extra: bytes = b""

    def __str__(self) -> str:
        head = f"extra {_b64(self.extra)}\n" if self.extra else ""
        steps = "".join(f"{_b64(one)}\n" for one in self.path)
        return f"{_PROOF_HEADER}\n{head}index {self.index}\n{steps}\n{self.checkpoint}"


def parsed_proof(text: str) -> Proof:
    """Raises ProofInvalid."""
    head, gap, checkpoint = text.partition("\n\n")
    header, *lines = head.split("\n")
    given = ""
    if lines and lines[0].startswith("extra "):
        given, lines = lines[0].removeprefix("extra "), lines[1:]
    index = lines[0].removeprefix("index ") if lines and lines[0].startswith("index ") else ""
    if not gap or header != _PROOF_HEADER or not _NUMBER.fullmatch(index):
        message = "This is not a proof."
        raise ProofInvalid(message)
    try:
        path, extra = tuple(_decoded(line) for line in lines[1:]), _decoded(given)
    except NoteInvalid as error:
        raise ProofInvalid(str(error)) from error
    if any(len(step) != HASH_BYTES for step in path) or len(path) > 63:
        message = "A step is not a hash."
        raise ProofInvalid(message)
    return Proof(int(index), path, checkpoint, extra)


def parsed_hashes(lines: Sequence[str]) -> tuple[bytes, ...]:
    """Hashes, each on a line of its own. Raises NoteInvalid."""
    found = tuple(_decoded(line) for line in lines)
    if any(len(one) != HASH_BYTES for one in found):
        message = "A line is not a hash."
        raise NoteInvalid(message)
    return found


def hash_lines(hashes: Sequence[bytes]) -> str:
    return "".join(f"{_b64(one)}\n" for one in hashes)


def _b64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _decoded(text: str) -> bytes:
    try:
        value = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        message = "This is not base64."
        raise NoteInvalid(message) from error
    if _b64(value) != text:
        message = "This base64 is not the only way to write its value."
        raise NoteInvalid(message)
    return value
