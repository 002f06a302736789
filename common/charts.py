"""Plots as SVG made on the server: they print, need no script, and carry their own text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

_WIDTH, _HEIGHT, _FOOT, _LEFT = 640, 150, 22, 34
_NAMES, _LINE = 190, 22
_LABEL, _MARGIN = 52, 12


@dataclass(frozen=True)
class Series:
    """One kind of bar part: what it is called, and the class that colours it."""

    key: str
    title: str
    tone: str


def stacked_bars(
    title: str,
    labels: Sequence[str],
    counts: Sequence[Mapping[str, int]],
    series: Sequence[Series],
    *,
    width: int = _WIDTH,
) -> SafeString:
    """A bar per label, its parts stacked by series. Every part says its number when pointed at."""
    top = max((sum(row.values()) for row in counts), default=0) or 1
    step = (width - _LEFT - _MARGIN) / max(len(labels), 1)
    parts = []
    for index, (label, row) in enumerate(zip(labels, counts, strict=True)):
        base = float(_HEIGHT - _FOOT)
        for one in series:
            value = row.get(one.key, 0)
            height = value / top * (_HEIGHT - _FOOT - 12)
            base -= height
            if value:
                parts.append(
                    (
                        one.tone,
                        f"{_LEFT + index * step + step * 0.12:.1f}",
                        f"{base:.1f}",
                        f"{step * 0.76:.1f}",
                        f"{height:.1f}",
                        f"{label}: {value} {one.title}",
                    )
                )
    bars = format_html_join(
        "",
        '<rect class="bar-{}" x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>',
        parts,
    )
    every = max(1, round(len(labels) * _LABEL / width))
    ticks = format_html_join(
        "",
        '<text x="{}" y="{}" text-anchor="middle">{}</text>',
        (
            (f"{_LEFT + (index + 0.5) * step:.1f}", _HEIGHT - 6, label)
            for index, label in enumerate(labels)
            if index % every == 0
        ),
    )
    return format_html(
        '<svg class="plot" viewBox="0 0 {} {}" role="img" aria-label="{}">'
        '<line x1="{}" y1="{}" x2="{}" y2="{}"></line>'
        '<text x="{}" y="14" text-anchor="end">{}</text>'
        '<text x="{}" y="{}" text-anchor="end">0</text>{}{}</svg>',
        width,
        _HEIGHT,
        title,
        _LEFT,
        _HEIGHT - _FOOT,
        width,
        _HEIGHT - _FOOT,
        _LEFT - 6,
        top,
        _LEFT - 6,
        _HEIGHT - _FOOT,
        bars,
        ticks,
    )


def bars(
    title: str, rows: Sequence[tuple[str, int]], tone: str = "plain", *, width: int = _WIDTH
) -> SafeString:
    """A bar per row beside its name, the longest across the whole width, with its number."""
    top = max((value for _, value in rows), default=0) or 1
    room = width - _NAMES - 60
    drawn = format_html_join(
        "",
        '<text x="{}" y="{}" text-anchor="end">{}</text>'
        '<rect class="bar-{}" x="{}" y="{}" width="{}" height="{}" rx="2"><title>{}</title></rect>'
        '<text x="{}" y="{}">{}</text>',
        (
            (
                _NAMES - 8,
                index * _LINE + 15,
                name if len(name) <= 28 else f"…{name[-27:]}",
                tone,
                _NAMES,
                index * _LINE + 4,
                f"{max(value / top * room, 2):.1f}",
                _LINE - 8,
                f"{name}: {value}",
                f"{_NAMES + max(value / top * room, 2) + 6:.1f}",
                index * _LINE + 15,
                value,
            )
            for index, (name, value) in enumerate(rows)
        ),
    )
    height = max(len(rows), 1) * _LINE
    return format_html(
        '<svg class="plot" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>',
        width,
        height,
        title,
        drawn or format_html('<text x="8" y="15">{}</text>', "Nothing in this period"),
    )
