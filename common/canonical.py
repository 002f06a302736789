"""One way to write JSON down, so that equal values have equal digests.

After RFC 8785: keys sorted (by code point), no spaces, UTF-8. Non-finite numbers and whole numbers
beyond 64 bits are refused, and whole floats are written as integers, so 5.0 and 5 are one value, as
they are in JSON Schema and in PostgreSQL's jsonb.
"""

import hashlib
import json
import math
import unicodedata
from collections.abc import Mapping
from typing import Any

from common.errors import InvalidInput

MAX_DEPTH = 32
# One encoder: `json.dumps` makes a new one for each call that is not plain.
_written = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
).encode


class NotCanonical(InvalidInput):
    code = "not_canonical_json"
    sentence = "The value cannot be written as canonical JSON."


def normalise(value: Any, *, depth: int = 0) -> Any:
    """The value with whole floats as integers.

    Raises NotCanonical for NaN, infinities, keys that are not strings, text that is not valid
    Unicode, and nesting beyond MAX_DEPTH levels.
    """
    if depth > MAX_DEPTH:
        message = f"The value is nested deeper than {MAX_DEPTH} levels."
        raise NotCanonical(message)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return _whole(value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, Mapping):
        return {_key(key): normalise(item, depth=depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [normalise(item, depth=depth + 1) for item in value]
    message = f"A {type(value).__name__} is not JSON."
    raise NotCanonical(message)


def composed(value: Any) -> Any:
    """An already normalised value with its text in Unicode's composed form (NFC, UAX #15), so that
    what is decided on, shown, and sent is one text however it was typed.

    Raises NotCanonical if two names of an object are one in that form.
    """
    if isinstance(value, str):
        return value if value.isascii() else unicodedata.normalize("NFC", value)
    if isinstance(value, dict):
        found = {composed(key): composed(item) for key, item in value.items()}
        if len(found) != len(value):
            message = "Two names of an object are the same in Unicode's composed form."
            raise NotCanonical(message)
        return found
    if isinstance(value, list):
        return [composed(item) for item in value]
    return value


def _key(key: Any) -> str:
    if not isinstance(key, str):
        message = "Keys must be text."
        raise NotCanonical(message)
    return _text(key)


def _text(value: str) -> str:
    # PostgreSQL's jsonb refuses NUL, and lone surrogates cannot be encoded: say so here.
    if "\x00" in value or not _is_encodable(value):
        message = "Text must be valid Unicode without NUL."
        raise NotCanonical(message)
    return value


def _is_encodable(value: str) -> bool:
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _number(value: float) -> int | float:
    if not math.isfinite(value):
        message = "Numbers must be finite."
        raise NotCanonical(message)
    return _whole(int(value)) if value.is_integer() else value


def _whole(value: int) -> int:
    if not -(2**63) <= value < 2**63:
        message = "Whole numbers must fit 64 bits."
        raise NotCanonical(message)
    return value


def canonical_json(value: Any) -> str:
    """The canonical text of an already normalised value."""
    return _written(value)


def digest(value: Any) -> str:
    """SHA-256 over the canonical text, as lower-case hexadecimal."""
    return digest_of_text(canonical_json(normalise(value)))


def digest_of_text(canonical: str) -> str:
    """SHA-256 over a text that `canonical_json` made of a normalised value."""
    return hashlib.sha256(canonical.encode()).hexdigest()
