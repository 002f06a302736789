"""Envelope encryption of secrets: a data key per version, wrapped by a key of the ring.

AES-256-GCM for both (NIST SP 800-38D). Value and data key are bound to the secret, the version
and the environment, so that a row that was moved or changed cannot be opened.
"""

import base64
import binascii
import os
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from common.canonical import canonical_json
from common.encryption import CannotUnseal, decrypt, encrypt, key_id_of

_NONCE_BYTES = 12


@dataclass(frozen=True, slots=True)
class Place:
    """Whose value it is; authenticated together with it."""

    secret: int
    version: int
    environment: str

    def bound(self, part: str) -> str:
        named = ["chancery-secret-v1", part, self.secret, self.version, self.environment]
        return canonical_json(named)


@dataclass(frozen=True, slots=True)
class Envelope:
    """A sealed value as it is stored, in base64."""

    key_id: str
    wrapped_key: str
    ciphertext: str


def closed(value: str, place: Place) -> Envelope:
    data_key, nonce = AESGCM.generate_key(bit_length=256), os.urandom(_NONCE_BYTES)
    hidden = AESGCM(data_key).encrypt(nonce, value.encode(), place.bound("value").encode())
    wrapped = encrypt(data_key, bound_to=place.bound("key"))
    return Envelope(key_id_of(wrapped), _text(wrapped), _text(nonce + hidden))


def opened(envelope: Envelope, place: Place) -> str:
    """The value. Raises CannotUnseal: another key, or a row that was moved or changed."""
    try:
        data_key = decrypt(_bytes(envelope.wrapped_key), bound_to=place.bound("key"))
        hidden = _bytes(envelope.ciphertext)
        nonce, rest = hidden[:_NONCE_BYTES], hidden[_NONCE_BYTES:]
        value = AESGCM(data_key).decrypt(nonce, rest, place.bound("value").encode())
    except (InvalidTag, ValueError, binascii.Error) as error:
        message = f"version {place.version} of secret {place.secret} cannot be opened"
        raise CannotUnseal(message) from error
    return value.decode()


def rewrapped(wrapped_key: str, place: Place) -> tuple[str, str]:
    """(key id, wrapped data key) under the ring's present key. The value stays closed.

    Raises CannotUnseal.
    """
    data_key = decrypt(_bytes(wrapped_key), bound_to=place.bound("key"))
    wrapped = encrypt(data_key, bound_to=place.bound("key"))
    return key_id_of(wrapped), _text(wrapped)


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
