"""Asking witnesses to sign what the log has grown to (C2SP tlog-witness, the log's side).

The question goes out without a transaction; what comes back is checked before it is kept.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx
from django.conf import settings
from django.db import transaction

from audit import events
from audit.models import Checkpoint, Cosignature, WitnessState
from audit.proofs import continuation
from audit.services.access_log import LOG
from audit.services.recorder import record
from audit.signed_notes import Note, NoteInvalid, Verifier, cosigned_at, hash_lines, parse_note
from common.actors import SYSTEM
from common.clock import database_now
from common.isolation import each

TIMEOUT = 5.0
_MAX_ANSWER = 16_384
_SIZE = re.compile(rb"(0|[1-9][0-9]{0,17})\n?")


@dataclass(frozen=True)
class WitnessConfig:
    """A witness: the key that it signs with, and the address to which checkpoints are sent."""

    verifier: Verifier
    url: str


class WitnessRefused(Exception):
    """A witness's answer instead of a signature; `code` names it."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def witnesses() -> list[WitnessConfig]:
    """As CHANCERY_LOG_WITNESSES names them: key and address, by comma. Raises NoteInvalid."""
    given = [part.split() for part in settings.LOG_WITNESSES.split(",") if part.strip()]
    if any(len(pair) != 2 for pair in given):
        message = "CHANCERY_LOG_WITNESSES is key and address, comma-separated."
        raise NoteInvalid(message)
    return [WitnessConfig(Verifier.from_text(key), url.rstrip("/")) for key, url in given]


def request_cosignatures() -> int:
    """Ask each witness that has not signed the last checkpoint; how many have now."""
    last = Checkpoint.objects.first()
    if last is None:
        return 0
    with httpx.Client(timeout=TIMEOUT, follow_redirects=False) as client:
        return sum(each(witnesses(), lambda one: _ask(client, one, last), what="witness"))


def _ask(client: httpx.Client, witness: WitnessConfig, last: Checkpoint) -> bool:
    name = witness.verifier.name
    seen = Cosignature.objects.filter(witness=name).order_by("-checkpoint").first()
    if seen is not None and seen.checkpoint_id == last.size:
        return True
    try:
        signature = _request_signature(
            client, witness, last, seen.checkpoint_id if seen is not None else 0
        )
    except WitnessRefused as refusal:
        _note_trouble(name, refusal.code, last.size)
        return False
    _keep(name, last, signature)
    return True


def _request_signature(
    client: httpx.Client, witness: WitnessConfig, last: Checkpoint, old: int
) -> tuple[str, datetime]:
    """The line that the witness signs the checkpoint with, and when it did. Raises Refused."""
    answer = _post(client, witness, last, old)
    if answer.status_code == httpx.codes.CONFLICT:
        found = _SIZE.fullmatch(answer.content[:20])
        known = int(found[1]) if found else -1
        if known == old or not 0 <= known <= last.size:
            # It has seen another log of this name, or more of this one than there is.
            code = "conflict"
            raise WitnessRefused(code)
        answer = _post(client, witness, last, known)
    if answer.status_code != httpx.codes.OK:
        code = f"status_{answer.status_code}"
        raise WitnessRefused(code)
    return _checked(witness.verifier, last, answer)


def _post(
    client: httpx.Client, witness: WitnessConfig, last: Checkpoint, old: int
) -> httpx.Response:
    proof = continuation(old, last.size) if old else []
    body = f"old {old}\n{hash_lines(proof)}\n{last.note}"
    try:
        return client.post(f"{witness.url}/add-checkpoint", content=body.encode())
    except httpx.HTTPError as error:
        code = "unreachable"
        raise WitnessRefused(code) from error


def _checked(verifier: Verifier, last: Checkpoint, answer: httpx.Response) -> tuple[str, datetime]:
    text = last.note.split("\n\n")[0] + "\n"
    try:
        lines = answer.content[:_MAX_ANSWER].decode()
        signature = verifier.ensure_signed(Note(text, parse_note(f"{text}\n{lines}").signatures))
        at = datetime.fromtimestamp(cosigned_at(signature), UTC)
    except (NoteInvalid, UnicodeDecodeError, OverflowError, ValueError) as error:
        code = "false_signature"
        raise WitnessRefused(code) from error
    return signature.line(), at


@transaction.atomic
def _keep(name: str, last: Checkpoint, signature: tuple[str, datetime]) -> None:
    line, at = signature
    state = _state(name)
    Cosignature.objects.get_or_create(
        checkpoint=last, witness=name, defaults={"line": line, "witnessed_at": at}
    )
    state.trouble, state.since, state.size, state.signed_at = "", None, last.size, database_now()
    state.save()


@transaction.atomic
def _note_trouble(name: str, code: str, size: int) -> None:
    """An event when it begins or changes, not each time it is found again."""
    state = _state(name)
    if state.trouble == code:
        return
    state.trouble, state.since = code, database_now()
    state.save()
    record(events.WITNESS_REFUSED, actor=SYSTEM, subject=LOG, witness=name, error=code, size=size)


def _state(name: str) -> WitnessState:
    WitnessState.objects.get_or_create(name=name)
    return WitnessState.objects.select_for_update().get(name=name)


def verifiers() -> Iterator[Verifier]:
    """The keys of the witnesses that are known here."""
    return (one.verifier for one in witnesses())
