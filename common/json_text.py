"""Reading JSON that somebody sends: strictly, within bounds, and without losing a digit.

Refused are: what is not UTF-8, text that cannot be written down again (half characters), a
name that stands twice in an object (RFC 8259 section 4: receivers differ in what they make of it),
numbers that no double holds as they are written, and nesting that a parser could choke on.
"""

import json
import math
import re
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

# Brackets are counted before anything is parsed: no parser is handed what would exhaust it.
_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BRACKETS = re.compile(rb"[\[\]{}]")
MAX_DIGITS = 400
# What a parser may be handed; what is kept is not deeper than `common.canonical.MAX_DEPTH`.
MAX_PARSED_DEPTH = 600


def parsed(body: bytes, *, any_text: bool = False) -> Any:
    """The value. Raises ValueError, whatever is wrong. `any_text`: half characters are let through,
    for a reader that compares texts and writes none down.
    """
    text = body.decode("utf-8")
    ensure_shallow(body)
    value = _decoder.decode(text)
    if "\\u" in text and not any_text:
        # An escape can spell half a character, which nothing can write down again.
        json.dumps(value, ensure_ascii=False).encode()
    return value


def ensure_shallow(body: bytes, *, depth: int = MAX_PARSED_DEPTH) -> None:
    """Raises ValueError for JSON that is nested deeper; in time by its length."""
    if body.count(b"[") + body.count(b"{") <= depth:
        return
    level = 0
    for bracket in _BRACKETS.findall(_STRINGS.sub(b"", body)):
        level += 1 if bracket in b"[{" else -1
        if level > depth:
            message = f"It is nested deeper than {depth} levels."
            raise ValueError(message)


def _without_repeats(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        message = "A name stands twice in an object."
        raise ValueError(message)
    return found


def _exact(text: str) -> float:
    """The number, if a double holds every digit that was sent. Raises ValueError."""
    message = "A number has more digits than can be kept: send it as text."
    if len(text) > MAX_DIGITS:
        raise ValueError(message)
    value = float(text)
    if not math.isfinite(value):
        return value  # refused where it is made canonical
    try:
        is_exact = Decimal(text) == Decimal(repr(value))
    except InvalidOperation as error:
        raise ValueError(message) from error
    if not is_exact:
        raise ValueError(message)
    return value


def _whole(text: str) -> int:
    if len(text) > MAX_DIGITS:
        message = "A number is too long."
        raise ValueError(message)
    return int(text)


# `json.loads` would make one for each body.
_decoder = json.JSONDecoder(
    object_pairs_hook=_without_repeats, parse_float=_exact, parse_int=_whole
)
