"""Text that people would read otherwise than it is: invisible and direction-changing characters,
and words that mix scripts whose letters look alike (UTS #39, UAX #9).
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

# Format, control, private and unassigned characters, and separators other than a plain space.
_ODD_CATEGORIES = frozenset({"Cf", "Cc", "Co", "Cn", "Cs", "Zl", "Zp"})
_PLAIN = frozenset("\n\t\r")
_LOOK_ALIKE = ("LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE")
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a text; `note` says what is odd about it, empty if nothing is."""

    text: str
    note: str = ""


def parts(text: str) -> list[Part]:
    """The text in pieces, odd ones by themselves."""
    if text.isascii() and not any(_is_odd(letter) for letter in text):
        return [Part(text)]
    return list(_joined(_pieces(text)))


def is_odd(value: Any) -> bool:
    """Whether a text anywhere in the value is odd."""
    if isinstance(value, str):
        return any(part.note for part in parts(value))
    if isinstance(value, Mapping):
        return any(is_odd(key) or is_odd(item) for key, item in value.items())
    return isinstance(value, list | tuple) and any(is_odd(item) for item in value)


def _pieces(text: str) -> Iterator[Part]:
    words = (match for match in _WORD.finditer(text) if _scripts(match.group()) > 1)
    ends = {match.start(): match.end() for match in words}
    place = 0
    while place < len(text):
        end = ends.get(place)
        if end is not None:
            yield Part(text[place:end], "letters of several scripts that look alike")
            place = end
            continue
        letter = text[place]
        if _is_odd(letter):
            name = unicodedata.name(letter, "no name").lower()
            yield Part(f"U+{ord(letter):04X}", name)
        else:
            yield Part(letter)
        place += 1


def _joined(pieces: Iterator[Part]) -> Iterator[Part]:
    held = ""
    for piece in pieces:
        if piece.note:
            if held:
                yield Part(held)
            held = ""
            yield piece
        else:
            held += piece.text
    if held:
        yield Part(held)


def _is_odd(letter: str) -> bool:
    if letter in _PLAIN:
        return False
    category = unicodedata.category(letter)
    return category in _ODD_CATEGORIES or (category == "Zs" and letter != " ")


def _scripts(word: str) -> int:
    """Count the scripts with similar letters that the word is written in."""
    if word.isascii():
        return 1
    names = (unicodedata.name(letter, "") for letter in word if letter.isalpha())
    return len({name.split(" ", 1)[0] for name in names} & set(_LOOK_ALIKE))
