"""Components of reports: figures, plots and tables."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from math import ceil
from typing import Any

from django.utils.safestring import SafeString

from common.charts import Series, bars, stacked_bars
from insights.event_data import EventFact, Period

MAX_ROWS = 40
WIDTH = 460


@dataclass(frozen=True)
class Figure:
    """One number with what it is; `tone` marks what somebody should look at."""

    label: str
    value: str
    tone: str = ""


@dataclass(frozen=True)
class Chart:
    title: str
    plot: SafeString
    series: Sequence[Series] = ()
    note: str = ""


@dataclass(frozen=True)
class Table:
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    note: str = ""
    empty: str = "None in this period."


@dataclass(frozen=True)
class Content:
    """A report's body, in the order in which it is read."""

    summary: str
    figures: Sequence[Figure] = ()
    charts: Sequence[Chart] = ()
    tables: Sequence[Table] = ()
    limits: Sequence[str] = field(default_factory=tuple)


def over_time(
    title: str,
    period: Period,
    facts: Iterable[tuple[datetime, str]],
    series: Sequence[Series],
    note: str = "",
) -> Chart:
    """A bar per hour, day or week; what is in no series is left out."""
    starts, known = period.buckets(), {one.key for one in series}
    counts: list[Counter[str]] = [Counter() for _ in starts]
    for at, key in facts:
        place = int((at - starts[0]) / period.step) if starts else 0
        if key in known and 0 <= place < len(counts):
            counts[place][key] += 1
    if not any(counts):
        note = f"None in this period. {note}".strip()
    labels = [period.label(start) for start in starts]
    return Chart(title, stacked_bars(title, labels, counts, series, width=WIDTH), series, note)


def most(title: str, counts: Mapping[str, int], *, tone: str = "plain", note: str = "") -> Chart:
    """The largest of some counts as bars that lie beside their names."""
    rows = sorted(counts.items(), key=lambda row: (-row[1], row[0]))[:12]
    return Chart(title, bars(title, rows, tone, width=WIDTH), note=note)


def listed(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    note: str = "",
    empty: str = "None in this period.",
) -> Table:
    """The first MAX_ROWS rows, and how many there are."""
    found = list(rows)
    more = f" The first {MAX_ROWS} of {len(found)}." if len(found) > MAX_ROWS else ""
    return Table(title, columns, found[:MAX_ROWS], (note + more).strip(), empty)


def count(facts: Iterable[EventFact]) -> Counter[str]:
    return Counter(fact.type for fact in facts)


def duration(seconds: float) -> str:
    """As people say it, to the larger two units."""
    units = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))
    left = int(seconds)
    said: list[str] = []
    for name, size in units:
        number, left = divmod(left, size)
        if number or (name == "s" and not said):
            said.append(f"{number} {name}")
    return " ".join(said[:2])


def middle(values: Sequence[float], share: float = 0.5) -> float:
    """The value at that share of the ordered values (nearest rank); 0 if there are none."""
    ordered = sorted(values)
    return ordered[max(ceil(share * len(ordered)) - 1, 0)] if ordered else 0.0
