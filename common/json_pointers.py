"""JSON pointers (RFC 6901): naming the parts of a value, and putting others in their place."""

from collections.abc import Mapping
from typing import Any


def escaped(name: str) -> str:
    """A name as it stands in a pointer."""
    return name.replace("~", "~0").replace("/", "~1")


def replaced(value: Any, places: Mapping[str, Any], *, where: str = "") -> Any:
    """The value with other values at these places. `where`: the pointer of the value itself."""
    if where in places:
        return places[where]
    if isinstance(value, Mapping):
        return {
            name: replaced(item, places, where=f"{where}/{escaped(name)}")
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [replaced(item, places, where=f"{where}/{n}") for n, item in enumerate(value)]
    return value
