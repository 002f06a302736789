"""Values as events keep them: whole up to a size, and beyond it by their digest."""

from typing import Any

from common.canonical import canonical_json, digest

MAX_VALUE_BYTES = 16_000


SENSITIVE = "sensitive"


def event_value(name: str, value: Any, data_class: str) -> dict[str, Any]:
    """A value as details of an event: whole under `sensitive` if it is of a class that is kept
    apart, with the class in its place.
    """
    if not data_class:
        return {name: bounded(value)}
    return {name: f"[{data_class}]", SENSITIVE: bounded({name: value})}


def bounded(value: Any) -> Any:
    """The value, or what it can be recognised by if it is larger than MAX_VALUE_BYTES.

    `value` is normalised; see `common.canonical`.
    """
    text = canonical_json(value)
    if len(text) <= MAX_VALUE_BYTES // 4 or len(text.encode()) <= MAX_VALUE_BYTES:
        return value
    return {"omitted": "too large", "bytes": len(text.encode()), "sha256": digest(value)}
