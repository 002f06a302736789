"""The few blocks that all pages are made of."""

from typing import Any

from django import template
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

register = template.Library()

# Status by word and shape as well as colour: the shape is the first character.
_TONES = {
    "good": (
        "●",
        {"allowed", "succeeded", "approved", "active", "live", "approve", "completed"},
    ),
    "bad": (
        "■",
        {"denied", "halted", "rejected", "failed", "revoked", "reject", "retired", "in force"},
    ),
    "wait": (
        "◆",
        {"needs_approval", "waiting", "pending", "ready", "executing", "draft", "started", "open"},
    ),
    "doubt": ("▲", {"unknown", "suspended", "expired", "withdrawn", "quarantined", "retiring"}),
}


@register.simple_tag
def badge(value: Any, label: Any = None) -> SafeString:
    """A status as a coloured word with a shape."""
    text = str(value)
    tone, shape = next(
        ((tone, shape) for tone, (shape, values) in _TONES.items() if text in values),
        ("plain", "○"),
    )
    shown = str(label if label is not None else text).replace("_", " ")
    return format_html(
        '<span class="badge badge-{}"><span aria-hidden="true">{}</span> {}</span>',
        tone,
        shape,
        shown,
    )


@register.filter
def is_table(value: Any) -> bool:
    """Whether a value is a non-empty list of flat objects, best read as a table."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(row, dict) for row in value)
        and not any(isinstance(cell, dict | list) for row in value for cell in row.values())
    )


@register.filter
def columns(rows: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


@register.filter
def cells(row: dict[str, Any], names: list[str]) -> list[Any]:
    return [row.get(name, "") for name in names]


@register.filter
def kind(value: Any) -> str:
    if isinstance(value, dict):
        return "object"
    if isinstance(value, list):
        return "list"
    return "bool" if isinstance(value, bool) else "plain"


@register.filter
def titled(name: str, titles: dict[str, str] | None) -> str:
    return (titles or {}).get(name) or name.replace("_", " ").capitalize()


@register.filter
def age(moment: Any) -> str:
    """How long ago, in the largest whole unit."""
    seconds = int((timezone.now() - moment).total_seconds())
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if abs(seconds) >= length:
            return f"{seconds // length if seconds > 0 else -(-seconds // length)} {unit}"
    return f"{seconds} s"


@register.filter
def left(moment: Any) -> str:
    """How long until a moment; `over` once it has passed."""
    remaining = moment - timezone.now()
    seconds = int(remaining.total_seconds())
    if seconds <= 0:
        return "over"
    hours, rest = divmod(seconds, 3_600)
    return f"{hours} h {rest // 60} min" if hours else f"{rest // 60} min"
