"""A secret's value while it is being used: where it goes in a request, and out of every answer."""

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import quote, quote_plus

MASK = "[secret]"


class Hidden:
    """A value that no representation, format or pickle shows."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return MASK

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return MASK

    def __reduce__(self) -> NoReturn:
        message = "a secret is not written anywhere"
        raise TypeError(message)


@dataclass(frozen=True, slots=True)
class Credential:
    """A value and the place in a request where it goes."""

    placement: str
    parameter: str
    prefix: str
    username: str
    value: Hidden

    def header(self) -> tuple[str, str] | None:
        """(name, value) of the header that carries it, if one does."""
        shown = self.value.reveal()
        if self.placement == "basic":
            pair = base64.b64encode(f"{self.username}:{shown}".encode()).decode()
            return "Authorization", f"Basic {pair}"
        if self.placement == "header":
            return self.parameter, f"{self.prefix} {shown}".strip()
        return None

    def query(self) -> str:
        """The part of the address that carries it, if one does."""
        if self.placement != "query":
            return ""
        return f"{quote_plus(self.parameter)}={quote_plus(self.value.reveal())}"

    def forms(self) -> set[str]:
        """The texts by which it could come back: as it is, escaped, and in usual encodings."""
        shown = self.value.reveal()
        found = _spellings(shown)
        if self.placement == "basic":
            found |= _spellings(f"{self.username}:{shown}")
        return {form for form in found if form}


def _spellings(text: str) -> set[str]:
    raw = text.encode()
    escaped = json.dumps(text)[1:-1]
    return {
        text,
        escaped,
        escaped.replace("/", "\\/"),
        quote(text, safe=""),
        quote(text),
        quote_plus(text),
        raw.hex(),
        raw.hex().upper(),
        *_in_base64(raw),
    }


def _in_base64(raw: bytes) -> set[str]:
    """Return, for each alignment, the base64 that every text containing it shares."""
    found = set()
    for before in range(3):
        padded = bytes(before) + raw
        text = base64.b64encode(padded).decode()
        first = -(-before * 8 // 6)  # the first character that depends on the value alone
        last = len(padded) * 8 // 6
        found |= {text[first:last], text[first:last].replace("+", "-").replace("/", "_")}
    return found


def mask(value: Any, credentials: Iterable[Credential]) -> Any:
    """An answer in which each of the values is masked, however a system echoed it."""
    forms = sorted({form for one in credentials for form in one.forms()}, key=len, reverse=True)
    return _scrubbed(value, forms) if forms else value


def _scrubbed(value: Any, forms: list[str]) -> Any:
    if isinstance(value, str):
        for form in forms:
            value = value.replace(form, MASK)
        return value
    if isinstance(value, Mapping):
        return {_scrubbed(name, forms): _scrubbed(item, forms) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_scrubbed(item, forms) for item in value]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return MASK if any(form in str(value) for form in forms) else value
    return value
