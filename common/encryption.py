"""Sealing small secrets with keys that come from the environment, never from the database.

The ring may hold several keys: the first seals, all of them open. A sealed value names the key
that it was sealed with, so that a key can be taken out of service without guessing.
"""

import base64
import binascii
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

_NONCE_BYTES = 12
_ID_BYTES = 4


class CannotUnseal(Exception):
    """The key is another one, or the sealed value was moved or changed."""


@dataclass(frozen=True)
class KeyRing:
    """The sealing keys by id; `current` is the id of the one that seals."""

    current: bytes
    boxes: Mapping[bytes, AESGCM]


def decoded_key(text: str) -> bytes:
    """The 32 bytes behind the configured base64 text. Raises ValueError for anything else."""
    try:
        key = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        message = "not base64"
        raise ValueError(message) from error
    if len(key) != 32:
        message = "not 32 bytes"
        raise ValueError(message)
    return key


@lru_cache(maxsize=4)
def ring_of(text: str) -> KeyRing:
    """The keys of a configured text: base64, separated by commas, the one in use first.

    Raises ValueError if there is none, or one of them is no key.
    """
    keys = [decoded_key(part.strip()) for part in text.split(",")]
    ids = [_id_of(key) for key in keys]
    return KeyRing(ids[0], dict(zip(ids, map(AESGCM, keys), strict=True)))


def derived_keys(text: str, *, purpose: str) -> dict[str, bytes]:
    """A key of its own for the purpose from each of the ring, by the same ids (RFC 5869)."""
    found = {}
    for part in text.split(","):
        key = decoded_key(part.strip())
        derivation = HKDF(hashes.SHA256(), 32, salt=None, info=f"chancery {purpose}".encode())
        found[_id_of(key).hex()] = derivation.derive(key)
    return found


def _id_of(key: bytes) -> bytes:
    return hashlib.sha256(b"chancery sealing key" + key).digest()[:_ID_BYTES]


def sealing_key_id() -> str:
    """The id of the key that seals now, as hexadecimal text. Tells nothing about the key."""
    return ring_of(settings.ENCRYPTION_KEYS).current.hex()


def known_key_ids() -> frozenset[str]:
    return frozenset(key_id.hex() for key_id in ring_of(settings.ENCRYPTION_KEYS).boxes)


def key_id_of(sealed: bytes) -> str:
    """The id of the key that a sealed value names."""
    return sealed[:_ID_BYTES].hex()


def encrypt(value: bytes, *, bound_to: str) -> bytes:
    """AES-256-GCM (NIST SP 800-38D); `bound_to` names the row, so that a sealed value cannot be
    moved to another.
    """
    ring = ring_of(settings.ENCRYPTION_KEYS)
    nonce = os.urandom(_NONCE_BYTES)
    closed = ring.boxes[ring.current].encrypt(nonce, value, bound_to.encode())
    return ring.current + nonce + closed


def decrypt(sealed: bytes, *, bound_to: str) -> bytes:
    """Raises CannotUnseal."""
    box = ring_of(settings.ENCRYPTION_KEYS).boxes.get(sealed[:_ID_BYTES])
    nonce, closed = sealed[_ID_BYTES : _ID_BYTES + _NONCE_BYTES], sealed[_ID_BYTES + _NONCE_BYTES :]
    try:
        if box is not None:
            return box.decrypt(nonce, closed, bound_to.encode())
    except (InvalidTag, ValueError) as error:
        message = f"{bound_to} was not sealed with this key"
        raise CannotUnseal(message) from error
    message = f"{bound_to} was sealed with a key that is not in the ring"
    raise CannotUnseal(message)
