"""A witness: remembers of each log the largest tree it has seen, and signs only what continues it.

The server's side of C2SP tlog-witness, as a WSGI application that needs no portal and no database:
`manage.py witness` runs it, best on somebody else's machine. A log cannot be rolled back, rewritten
or shown in two versions without a witness refusing to sign.
"""

import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audit.merkle import ProofInvalid, check_consistency
from audit.signed_notes import (
    LogCheckpoint,
    Note,
    NoteInvalid,
    Signer,
    Verifier,
    parse_note,
    parsed_checkpoint,
    parsed_hashes,
)

MAX_BODY = 65_536
MAX_STEPS = 63
TEXT = "text/plain; charset=utf-8"
SIZE = "text/x.tlog.size"


@dataclass(frozen=True, slots=True)
class WitnessReply:
    status: int
    text: str
    kind: str = TEXT


@dataclass(frozen=True, slots=True)
class Submission:
    """The input of `add-checkpoint`: the size that the sender assumes, and the new checkpoint."""

    old: int
    proof: tuple[bytes, ...]
    note: Note

    @classmethod
    def from_text(cls, text: str) -> "Submission":
        """Raises NoteInvalid."""
        head, gap, rest = text.partition("\n\n")
        first, *steps = head.split("\n")
        number = first.removeprefix("old ")
        if not gap or first == number or not number.isascii() or not number.isdigit():
            message = "This is not a submission."
            raise NoteInvalid(message)
        if len(steps) > MAX_STEPS or len(number) > 18 or str(int(number)) != number:
            message = "This is not a submission."
            raise NoteInvalid(message)
        return cls(int(number), parsed_hashes(steps), parse_note(rest))


class Witness:
    """`logs`: the keys of each log that is witnessed, by its origin. `folder`: what was seen."""

    def __init__(
        self,
        signer: Signer,
        logs: Iterable[Verifier],
        folder: Path,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.signer, self._folder, self._clock = signer, folder, clock
        self._logs: dict[str, list[Verifier]] = {}
        for one in logs:
            self._logs.setdefault(one.name, []).append(one)
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, body: bytes) -> WitnessReply:
        """C2SP tlog-witness, add-checkpoint: its statuses and their order."""
        try:
            given = Submission.from_text(body.decode())
            statement = parsed_checkpoint(given.note)
        except (NoteInvalid, UnicodeDecodeError):
            return WitnessReply(400, "This is not a submission.\n")
        keys = self._logs.get(statement.origin)
        if keys is None:
            return WitnessReply(404, "This log is not witnessed here.\n")
        if not any(key.has_signed(given.note) for key in keys):
            return WitnessReply(403, "No key of the log has signed this.\n")
        if given.old > statement.size:
            return WitnessReply(400, "The old size is larger than the checkpoint's.\n")
        with self._alone():
            return self._continued(given, statement)

    def _continued(self, given: Submission, statement: LogCheckpoint) -> WitnessReply:
        seen = self._seen(statement.origin)
        size = seen.size if seen is not None else 0
        if given.old != size:
            return WitnessReply(409, f"{size}\n", SIZE)
        if seen is not None and statement.size == size and statement.root != seen.root:
            return WitnessReply(409, f"{size}\n", SIZE)
        try:
            self._ensure_continues(given, statement, seen)
        except ProofInvalid as error:
            return WitnessReply(422, f"{error}\n")
        cosigned = self.signer.cosign(given.note.text, at=int(self._clock()))
        # Remembered first: a signature that is lost is asked for again, one that is forgotten lies.
        self._keep(statement.origin, Note(given.note.text, (*given.note.signatures, cosigned)))
        return WitnessReply(200, cosigned.line())

    def _ensure_continues(
        self, given: Submission, statement: LogCheckpoint, seen: LogCheckpoint | None
    ) -> None:
        if seen is not None:
            check_consistency(
                seen.size, statement.size, seen.root, statement.root, proof=given.proof
            )
        elif given.proof:
            message = "There is nothing to be consistent with."
            raise ProofInvalid(message)

    # -- what was seen -----------------------------------------------------------------------

    def latest(self, origin_hash: str) -> str | None:
        """The last checkpoint that was signed, by the SHA-256 of the log's origin."""
        if len(origin_hash) != 64 or not set(origin_hash) <= set("0123456789abcdef"):
            return None
        file = self._folder / origin_hash
        return file.read_text(encoding="utf-8") if file.is_file() else None

    def _seen(self, origin: str) -> LogCheckpoint | None:
        text = self.latest(_name(origin))
        return None if text is None else parsed_checkpoint(parse_note(text))

    def _keep(self, origin: str, note: Note) -> None:
        """Durably, and either wholly or not at all."""
        file = self._folder / _name(origin)
        fresh = file.with_suffix(".new")
        with fresh.open("w", encoding="utf-8") as out:
            out.write(str(note))
            out.flush()
            os.fsync(out.fileno())
        fresh.replace(file)
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One at a time, over all threads and processes of this witness."""
        with (self._folder / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _name(origin: str) -> str:
    return hashlib.sha256(origin.encode()).hexdigest()


def application(witness: Witness) -> Callable[..., Sequence[bytes]]:
    """The witness as a WSGI application."""

    def answer(environ: Mapping[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        found = _routed(witness, environ)
        data = found.text.encode()
        headers = [("Content-Type", found.kind), ("Content-Length", str(len(data)))]
        start_response(f"{found.status} {_REASONS[found.status]}", headers)
        return [data]

    return answer


_REASONS = {
    200: "OK",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    409: "Conflict",
    413: "Content Too Large",
    422: "Unprocessable Content",
}


def _routed(witness: Witness, environ: Mapping[str, Any]) -> WitnessReply:
    method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
    if method == "GET" and path.startswith("/checkpoint/"):
        note = witness.latest(path.removeprefix("/checkpoint/"))
        return (
            WitnessReply(404, "Nothing was seen of it.\n")
            if note is None
            else WitnessReply(200, note)
        )
    if method != "POST" or path != "/add-checkpoint":
        return WitnessReply(
            404, "There is POST /add-checkpoint, and GET /checkpoint/<origin hash>.\n"
        )
    body = environ["wsgi.input"].read(MAX_BODY + 1)
    if len(body) > MAX_BODY:
        return WitnessReply(413, "This is larger than any submission.\n")
    return witness.add(body)


def from_environment() -> Callable[..., Sequence[bytes]]:
    """The application as `manage.py witness` starts it."""
    key = bytes.fromhex(os.environ["WITNESS_KEY"])
    signer = Signer.from_seed(os.environ["WITNESS_NAME"], key)
    logs = [Verifier.from_text(one) for one in os.environ["WITNESS_LOGS"].split()]
    return application(Witness(signer, logs, Path(os.environ["WITNESS_FOLDER"])))
