"""The few blocks that all pages are made of."""

from datetime import datetime
from typing import Any

from django import template
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from common import unusual_text

register = template.Library()

# Status by word and shape as well as colour: the shape is the first character.
_TONES = {
    "good": (
        "●",
        {
            "allowed",
            "succeeded",
            "approved",
            "active",
            "live",
            "approve",
            "completed",
            "published",
            "current",
            "resolved",
        },
    ),
    "bad": (
        "■",
        {
            "denied",
            "halted",
            "rejected",
            "failed",
            "revoked",
            "reject",
            "retired",
            "in force",
            "cut off",
            "compensation_failed",
            "rolled_back",
            "refused",
            "suspend",
        },
    ),
    "wait": (
        "◆",
        {
            "needs_approval",
            "waiting",
            "pending",
            "ready",
            "executing",
            "running",
            "retry",
            "compensating",
            "draft",
            "started",
            "open",
            "asked",
            "ask",
            "next",
        },
    ),
    "doubt": (
        "▲",
        {
            "unknown",
            "late",
            "suspended",
            "expired",
            "withdrawn",
            "cancelled",
            "compensated",
            "quarantined",
            "retiring",
            "ended",
            "shorten",
            "destroyed",
        },
    ),
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


@register.simple_tag
def value(shown: Any, titles: Any = None) -> SafeString:
    """A JSON value for reading: objects as key and value, lists of flat objects as tables."""
    names = titles if isinstance(titles, dict) else {}
    return _shown(shown, names)


def _shown(shown: Any, titles: dict[str, str]) -> SafeString:
    if shown is None or shown in ("", [], {}):
        return format_html('<span class="quiet">{}</span>', "none")
    if isinstance(shown, bool):
        return format_html("{}", "yes" if shown else "no")
    if isinstance(shown, datetime):
        return format_html("{} UTC", f"{shown:%-d %b %Y %H:%M:%S}")
    if isinstance(shown, dict):
        rows = ((_title(name, titles), _shown(item, titles)) for name, item in shown.items())
        body = format_html_join("", '<tr><th scope="row">{}</th><td>{}</td></tr>', rows)
        return format_html('<table class="kv">{}</table>', body)
    if isinstance(shown, list):
        return _table(shown, titles) if _is_table(shown) else _list(shown, titles)
    return visible(shown)


@register.filter
def visible(text: Any) -> SafeString:
    """A text with what cannot be seen, or reads otherwise than it is, made visible. Markup of our
    own, such as a badge, stays what it is.
    """
    if isinstance(text, SafeString):
        return text
    pieces = unusual_text.parts(str(text))
    return format_html_join(
        "",
        "{}",
        (
            (
                format_html('<mark class="odd" title="{}">{}</mark>', piece.note, piece.text)
                if piece.note
                else piece.text,
            )
            for piece in pieces
        ),
    )


def _is_table(rows: list[Any]) -> bool:
    return all(isinstance(row, dict) for row in rows) and not any(
        isinstance(cell, dict | list) for row in rows for cell in row.values()
    )


def _table(rows: list[dict[str, Any]], titles: dict[str, str]) -> SafeString:
    names = list(dict.fromkeys(name for row in rows for name in row))
    head = format_html_join(
        "", '<th scope="col">{}</th>', ((_title(name, titles),) for name in names)
    )
    lines = [
        format_html_join("", "<td>{}</td>", ((_shown(row.get(name), titles),) for name in names))
        for row in rows
    ]
    body = format_html_join("", "<tr>{}</tr>", ((line,) for line in lines))
    return format_html(
        '<div class="scroll"><table class="rows"><thead><tr>{}</tr></thead>'
        "<tbody>{}</tbody></table></div>",
        head,
        body,
    )


def _list(items: list[Any], titles: dict[str, str]) -> SafeString:
    if any(isinstance(item, dict | list) for item in items):
        return format_html_join("", "<div>{}</div>", ((_shown(item, titles),) for item in items))
    return format_html_join(", ", "{}", ((_shown(item, titles),) for item in items))


def _title(name: str, titles: dict[str, str]) -> str:
    return titles.get(name) or name.replace("_", " ").capitalize()


@register.filter
def age(moment: Any) -> str:
    """Return the time since, in the largest whole unit."""
    seconds = int((timezone.now() - moment).total_seconds())
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if abs(seconds) >= length:
            return f"{seconds // length if seconds > 0 else -(-seconds // length)} {unit}"
    return f"{seconds} s"


@register.filter
def left(moment: Any) -> str:
    """Return the time until a moment; `over` once it has passed."""
    remaining = moment - timezone.now()
    seconds = int(remaining.total_seconds())
    if seconds <= 0:
        return "over"
    hours, rest = divmod(seconds, 3_600)
    return f"{hours} h {rest // 60} min" if hours else f"{rest // 60} min"


@register.filter
def timeleft(moment: Any) -> str:
    """Return the time until a moment, in minutes and seconds."""
    seconds = max(0, int((moment - timezone.now()).total_seconds()))
    return f"{seconds // 60} min {seconds % 60} s" if seconds >= 60 else f"{seconds} s"


@register.filter
def share(parts: Any) -> str:
    """A share given in parts of 10,000, in words: `all`, or `2.5 %`."""
    return "all" if parts == 10_000 else f"{int(parts) / 100:g} %"
