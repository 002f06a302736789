"""Search terms of events beyond their columns: tools, agents, and the words beside their leaves.

A term is 64 bits of a keyed hash. The index holds no word, and without the key nobody learns one
from it; with it, equal words are found and nothing else is.
"""

import hmac
import re
import unicodedata
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from django.conf import settings

from audit.retention import SENSITIVE_FIELD
from common.encryption import derived_keys

MAX_WORDS = 200
_WORD = re.compile(r"\w{1,40}")
_BITS = 64


def words_of(text: str) -> list[str]:
    """The words of a text as they are compared: letters and digits, without case."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def word(text: str) -> int:
    return _term("word", text)


def tool(name: str) -> int:
    return _term("tool", name)


def about(text: str) -> int:
    """Return the terms of an event's subject: its identifier and the name it had."""
    return _term("about", text)


def agent(client_id: str) -> int:
    return _term("agent", client_id)


def words_beside(values: Mapping[str, Any]) -> set[int]:
    """The terms of the first MAX_WORDS words of what lies beside a leaf; not of what takes a right
    of its own to see.
    """
    found: dict[str, None] = {}
    for name, value in values.items():
        if name != SENSITIVE_FIELD:
            for text in _texts(value):
                found.update(dict.fromkeys(words_of(text)))
        if len(found) >= MAX_WORDS:
            break
    return {word(one) for one in list(found)[:MAX_WORDS]}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield str(value)


@lru_cache(maxsize=50_000)
def _term(kind: str, text: str) -> int:
    digest = hmac.digest(_key(settings.ENCRYPTION_KEYS), f"{kind}\x00{text}".encode(), "sha256")
    return int.from_bytes(digest[: _BITS // 8], "big", signed=True)


@lru_cache(maxsize=4)
def _key(ring: str) -> bytes:
    # By the oldest key: a new one in front leaves what is indexed as it was.
    return list(derived_keys(ring, purpose="audit terms").values())[-1]
