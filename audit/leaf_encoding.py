"""The hashed part of an event, and the values that lie beside it.

The leaf is canonical JSON without personal data: who and what by pseudonymous identifiers, codes,
numbers, and a digest for every other value. Those values are disclosures (RFC 9901 section 4.2):
salted, so that once a value is erased its digest says nothing; the leaf and every proof stay true.
"""

import base64
import binascii
import hashlib
import hmac
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from audit.errors import LeafInvalid
from audit.event_types import words_of
from common.canonical import canonical_json
from common.redaction import may_hold_secret, redact

VERSION = 1
MAX_LEAF_BYTES = 65_535  # C2SP tlog-tiles: the length of an entry is a uint16
MAX_SAFE_INTEGER = 2**53 - 1
_MAX_TEXT, MAX_ITEMS = 256, 64
_SALT_BYTES = 16
_MAC_CONTEXT = b"chancery event leaf v1\x00"
_URL_SAFE = bytes.maketrans(b"+/", b"-_")
# One encoder: `json.dumps` makes a new one for each call that is not plain.
_compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_ASCII_NAME = re.compile(r"[ -~]{1,80}")

# Details that are codes, counts, moments, or names of things and never of people. What is not
# listed here is beside the leaf. Digests of what somebody sent are not listed: without a salt a
# short value could be guessed from them after it was erased.
OPEN_DETAILS = frozenset(
    {
        "about", "access", "acting", "action", "actions", "again", "agent", "answer", "apart",
        "approval", "attempt", "basis", "bound", "by_elevation", "call", "chain", "changes",
        "classes", "days", "delegation", "depth", "digest", "elevation", "end", "ends_at",
        "entry", "environment", "epoch", "erased", "error", "errors", "event", "events",
        "expires_at", "factor", "failures", "fields", "finding", "fire_time", "found",
        "from_tier", "identity", "initiator_kind", "jti", "key", "kid", "kind", "labels",
        "max_depth", "minutes", "model", "number", "on", "order", "origin", "outcome", "path",
        "pk", "placement", "previous", "probe", "problems", "quorum", "release", "replaced",
        "replaces", "replicas", "report", "request", "required", "response", "retired", "role",
        "root", "rule", "rules", "run", "scope", "share", "signature", "since", "size", "slug",
        "start", "status", "step", "steps", "system", "thumbprint", "tier", "to", "to_tier",
        "tool", "tools", "until", "values", "version", "votes", "waiting_for", "witness",
        "workflow",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class EncodedEvent:
    """`text` is what is hashed, byte for byte, in UTF-8; `disclosures` by the field's name, and of
    them the labels as they are, to show lists by.
    """

    text: str
    disclosures: Mapping[str, str]
    labels: Mapping[str, str]


def encode_event(event: Mapping[str, Any], *, writer: list[Any]) -> EncodedEvent:
    """The leaf and the disclosures of an event's row, as `audit.services.recorder` makes it.

    Raises LeafInvalid for one that is too large.
    """
    # A label that is but the identifier again says nothing that the leaf does not.
    closed = {
        f"{one}.label": event[f"{one}_label"]
        for one in ("actor", "subject")
        if event[f"{one}_label"] != event[f"{one}_id"]
    }
    in_the_open = {}
    words = words_of(event["type"])
    for name, value in event["details"].items():
        if name in OPEN_DETAILS and name not in words and _is_plain(value):
            in_the_open[name] = value
        else:
            closed[f"details.{name}"] = value
    closed, texts = _without_secrets(closed, event.get("vouched", frozenset()))
    disclosures = _disclosed(texts)
    labels = {f"{one}_label": closed.get(f"{one}.label", "") for one in ("actor", "subject")}
    leaf: dict[str, Any] = {
        "v": VERSION,
        "uid": str(event["uid"]),
        "at": moment(event["recorded_at"]),
        "type": event["type"],
        "actor": {"kind": event["actor_kind"], "id": event["actor_id"]},
        "subject": {"kind": event["subject_kind"], "id": event["subject_id"]},
        "w": writer,
        "sd": {name: digest_of(text) for name, text in disclosures.items()},
    }
    if event["run_id"]:
        run = event["run_id"]
        leaf["run"] = str(run if isinstance(run, UUID) else UUID(str(run)))
    if event["request_id"]:
        leaf["request"] = event["request_id"]
    if in_the_open:
        leaf["details"] = in_the_open
    # In the profile as it is: names are declared, and `_is_plain` looked at the values.
    text = canonical_json(leaf)
    if len(text) > MAX_LEAF_BYTES // 4 and len(text.encode()) > MAX_LEAF_BYTES:
        message = f"The leaf of {event['type']} is larger than {MAX_LEAF_BYTES} bytes."
        raise LeafInvalid(message)
    return EncodedEvent(text, disclosures, labels)


def _without_secrets(
    closed: dict[str, Any], vouched: frozenset[str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """The values, and each as JSON; without credentials, which nothing should have let in: the log
    keeps nothing out of trust.
    """
    texts = {name: _compact(value) for name, value in closed.items()}
    if may_hold_secret("\n".join(texts.values())):
        closed = {name: redact(value, vouched=vouched) for name, value in closed.items()}
        texts = {name: _compact(value) for name, value in closed.items()}
    return closed, texts


def _disclosed(texts: Mapping[str, str]) -> dict[str, str]:
    """The values as disclosures, each with a salt of its own; see `disclosure`."""
    salts = _b64_of_parts(os.urandom(_SALT_BYTES * len(texts)))
    return {
        name: _b64url(f'["{salt}","{name}",{text}]'.encode())
        for salt, (name, text) in zip(salts, texts.items(), strict=True)
    }


def _b64_of_parts(salts: bytes) -> list[str]:
    starts = range(0, len(salts), _SALT_BYTES)
    return [_b64url(salts[at : at + _SALT_BYTES]) for at in starts]


def leaf_text(leaf: Mapping[str, Any]) -> str:
    """RFC 8785 in a profile where it is plain: ASCII names, and whole numbers below 2**53.

    Raises LeafInvalid for a value outside it.
    """
    ensure_in_profile(leaf)
    return canonical_json(leaf)


def ensure_in_profile(value: Any) -> None:
    """Raises LeafInvalid for what different programs would write down in different ways."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            if not isinstance(name, str) or not _ASCII_NAME.fullmatch(name):
                message = "Names in a leaf are ASCII."
                raise LeafInvalid(message)
            ensure_in_profile(item)
    elif isinstance(value, list):
        for item in value:
            ensure_in_profile(item)
    elif isinstance(value, float) or (isinstance(value, int) and abs(value) > MAX_SAFE_INTEGER):
        message = "Numbers in a leaf are whole and below 2**53."
        raise LeafInvalid(message)


def parsed_leaf(text: str) -> dict[str, Any]:
    """Raises LeafInvalid for anything that is not the text of a leaf."""
    try:
        leaf = json.loads(text)
    except ValueError as error:
        message = "The leaf is not JSON."
        raise LeafInvalid(message) from error
    if not isinstance(leaf, dict) or leaf.get("v") != VERSION or leaf_text(leaf) != text:
        message = "The leaf is not written as leaves are."
        raise LeafInvalid(message)
    return leaf


def moment(value: datetime) -> str:
    return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def disclosure(name: str, value: Any, salt: bytes) -> str:
    """RFC 9901 section 4.2.1: salt, name and value, as base64url of JSON."""
    return _b64url(_compact([_b64url(salt), name, value]).encode())


def digest_of(disclosed: str) -> str:
    """RFC 9901 section 4.2.3: over the text itself, so that nothing has to be written anew."""
    return _b64url(hashlib.sha256(disclosed.encode("ascii")).digest())


def decode_disclosure(disclosed: str) -> tuple[str, Any]:
    """The name and the value. Raises LeafInvalid."""
    try:
        padded = disclosed + "=" * (-len(disclosed) % 4)
        _, name, value = json.loads(base64.urlsafe_b64decode(padded))
    except (binascii.Error, ValueError, TypeError) as error:
        message = "This is not a disclosure."
        raise LeafInvalid(message) from error
    return str(name), value


def mac_of(text: str, key: bytes) -> bytes:
    """HMAC-SHA256 (RFC 2104): that a process of the portal wrote this, and nobody in the database
    did.
    """
    return mac_of_bytes(text.encode(), key)


def mac_of_bytes(leaf: bytes, key: bytes) -> bytes:
    """See `mac_of`; of the leaf in UTF-8."""
    return hmac.digest(key, _MAC_CONTEXT + leaf, "sha256")


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return len(value) <= MAX_ITEMS and all(_is_scalar(item) for item in value)
    return _is_scalar(value)


def _is_scalar(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= _MAX_TEXT
    if isinstance(value, int):
        return abs(value) <= MAX_SAFE_INTEGER
    return value is None


def _b64url(value: bytes) -> str:
    return binascii.b2a_base64(value, newline=False).translate(_URL_SAFE, b"=").decode("ascii")
