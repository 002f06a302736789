"""Sealing small secrets with a key that comes from the environment, never from the database."""

import base64
import binascii
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings

_NONCE_BYTES = 12


class CannotUnseal(Exception):
    """The key is another one, or the sealed value was moved or changed."""


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


def seal(value: bytes, *, bound_to: str) -> bytes:
    """AES-256-GCM; `bound_to` names the row, so a sealed value cannot be moved to another."""
    nonce = os.urandom(_NONCE_BYTES)
    box = AESGCM(decoded_key(settings.SEALING_KEY))
    return nonce + box.encrypt(nonce, value, bound_to.encode())


def unseal(sealed: bytes, *, bound_to: str) -> bytes:
    """Raises CannotUnseal."""
    box = AESGCM(decoded_key(settings.SEALING_KEY))
    try:
        return box.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], bound_to.encode())
    except (InvalidTag, ValueError) as error:
        message = f"{bound_to} was not sealed with this key"
        raise CannotUnseal(message) from error
