"""The classes that values can be of, and what is wrong with how a schema names them."""

from collections.abc import Iterable, Mapping
from typing import Any

from tools.annotations import marks, unresolved

KEYWORD = "x-data-class"
IDENTIFIES = "x-identifies"
PUBLIC, INTERNAL, PERSONAL, SENSITIVE, SECRET = (
    "public",
    "internal",
    "personal",
    "sensitive",
    "secret",
)
# From the most open to the strictest.
CLASSES = (PUBLIC, INTERNAL, PERSONAL, SENSITIVE, SECRET)
APART = frozenset({PERSONAL, SENSITIVE})
CLOSED = APART | {SECRET}


def classes_in(*schemas: Mapping[str, Any] | None) -> list[Any]:
    """The classes that schemas name, whether there are such classes or not."""
    return [name for schema in schemas if schema for name in marks(schema, KEYWORD)[0]]


def apart_class(names: Iterable[Any]) -> str:
    """The strictest of these classes that is kept apart; "" if none is."""
    given = list(names)
    return max((one for one in APART if one in given), key=CLASSES.index, default="")


def problem_of(schema: Mapping[str, Any]) -> str:
    """Return the problem of classes and identifiers that have no effect: declared where the portal
    would not see them in a value, or with unknown words; "" if there is none.
    """
    unknown = sorted(str(name) for name in classes_in(schema) if name not in CLASSES)
    if unknown:
        return f"{KEYWORD} {unknown[0][:40]} is none of {', '.join(CLASSES)}."
    for keyword in (KEYWORD, IDENTIFIES):
        found, in_vain = marks(schema, keyword)
        if in_vain:
            return f"{keyword} at {in_vain[0][:80]} says nothing of a value there."
        if any(not isinstance(one, str) or not one for one in found):
            return f"{keyword} is a word."
        if found and (others := unresolved(schema)):
            return f"{others[0]} is not followed beside {keyword}: refer to '#/...'."
    return ""
