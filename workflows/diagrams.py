"""A definition as a graph and a run as a timeline: SVG made on the server, no script, printable."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from workflows.definitions.spec import StepSpec, WorkflowSpec

_WIDTH, _HEIGHT, _GAP_X, _GAP_Y, _EDGE = 212, 52, 20, 36, 8
_FITS = 26
_TONES = {
    "succeeded": "good",
    "running": "wait",
    "retry": "wait",
    "waiting": "wait",
    "unknown": "doubt",
    "failed": "bad",
    "denied": "bad",
    "expired": "bad",
    "skipped": "off",
    "cancelled": "off",
}
_SHAPES = {"good": "●", "bad": "■", "wait": "◆", "doubt": "▲", "off": "·", "plain": "○"}


def tone_of(status: str) -> str:
    return _TONES.get(status, "plain")


# -- the graph -----------------------------------------------------------------------------------


def levels(spec: WorkflowSpec) -> list[list[StepSpec]]:
    """The steps by how far from the start they are: each below everything that it needs."""
    depth: dict[str, int] = {}
    for name, step in spec.steps.items():
        depth[name] = 1 + max((depth[need] for need in step.needs), default=-1)
    rows: list[list[StepSpec]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for name, step in spec.steps.items():
        rows[depth[name]].append(step)
    return rows


@dataclass(frozen=True)
class Mark:
    """The state of a step of a run, shown in its box."""

    status: str
    note: str = ""


def graph(spec: WorkflowSpec, marks: Mapping[str, Mark] | None = None) -> SafeString:
    """The definition from top to bottom; with the run's marks, if there is a run."""
    rows = levels(spec)
    widest = max((len(row) for row in rows), default=1)
    width = widest * (_WIDTH + _GAP_X) + _EDGE
    height = len(rows) * (_HEIGHT + _GAP_Y) - _GAP_Y + 2 * _EDGE
    places: dict[str, tuple[float, float]] = {}
    for level, row in enumerate(rows):
        left = (width - len(row) * (_WIDTH + _GAP_X) + _GAP_X) / 2
        for place, step in enumerate(row):
            places[step.name] = (
                left + place * (_WIDTH + _GAP_X),
                _EDGE + level * (_HEIGHT + _GAP_Y),
            )
    edges = format_html_join("", '<path class="edge" d="{}"></path>', _edges(spec, places))
    nodes = format_html_join(
        "",
        "{}",
        (
            (_node(step, places[step.name], (marks or {}).get(step.name)),)
            for step in spec.steps.values()
        ),
    )
    return format_html(
        '<div class="scroll"><svg class="graph" width="{}" height="{}" viewBox="0 0 {} {}" '
        'role="img" aria-label="{}">{}{}</svg></div>',
        width,
        height,
        width,
        height,
        f"The steps of {spec.title}",
        edges,
        nodes,
    )


def _edges(spec: WorkflowSpec, places: Mapping[str, tuple[float, float]]) -> Iterable[tuple[str]]:
    for step in spec.steps.values():
        for need in step.needs:
            x1, y1 = places[need]
            x2, y2 = places[step.name]
            x1, x2, y1 = x1 + _WIDTH / 2, x2 + _WIDTH / 2, y1 + _HEIGHT
            bend = (y2 - y1) / 2
            yield (f"M{x1:g},{y1:g} C{x1:g},{y1 + bend:g} {x2:g},{y2 - bend:g} {x2:g},{y2:g}",)


def _node(step: StepSpec, at: tuple[float, float], mark: Mark | None) -> SafeString:
    x, y = at
    tone = tone_of(mark.status) if mark else "plain"
    shape = f"{_SHAPES[tone]} " if mark else ""
    dashed = " conditional" if step.when else ""
    below = mark.note if mark and mark.note else in_short(step)
    return format_html(
        '<g class="node node-{}{}"><title>{}</title>'
        '<rect x="{}" y="{}" width="{}" height="{}" rx="7"></rect>'
        '<text x="{}" y="{}" class="node-title">{}</text>'
        '<text x="{}" y="{}" class="node-note">{}</text></g>',
        tone,
        dashed,
        f"{step.title}: {in_words(step)}",
        f"{x:g}",
        f"{y:g}",
        _WIDTH,
        _HEIGHT,
        f"{x + 12:g}",
        f"{y + 21:g}",
        _cut(f"{shape}{step.title}"),
        f"{x + 12:g}",
        f"{y + 39:g}",
        _cut(below, 31),
    )


def _cut(text: str, fits: int = _FITS) -> str:
    return text if len(text) <= fits else f"{text[: fits - 1]}…"


def in_short(step: StepSpec) -> str:
    """Describe a step in a few words."""
    if step.call is not None:
        return step.call.tool.name + (" ↶" if step.compensate else "")
    if step.approval is not None:
        return f"asks: {step.approval.tier}"
    if step.wait is not None:
        return f"waits for {step.wait.signal or 'time'}"
    if step.foreach is not None:
        return f"for each of up to {step.foreach.max_items}"
    if step.child is not None:
        by = f"{step.child.agent} does " if step.child.agent else "runs "
        return by + step.child.workflow
    return step.kind


def in_words(step: StepSpec) -> str:
    """A sentence about a step for people who do not read YAML."""
    parts = [_doing(step)]
    if step.when is not None:
        parts.append(f"only if {step.when.text}")
    if step.call is not None and step.retry.max_attempts > 1:
        parts.append(f"up to {step.retry.max_attempts} attempts")
    if step.call is not None and step.call.tool.access != "read":
        unknown = {"retry": "it is tried again", "probe": "the system is asked"}
        parts.append(
            f"if it is not known whether it happened, "
            f"{unknown.get(step.on_unknown, 'a person is asked')}"
        )
    if step.compensate is not None:
        parts.append(f"undone by {step.compensate.tool.name}")
    if step.irreversible:
        parts.append(f"cannot be undone ({step.irreversible})")
    return "; ".join(parts) + "."


def _doing(step: StepSpec) -> str:
    if step.call is not None:
        return f"Calls {step.call.tool.name} ({step.call.tool.access})"
    if step.approval is not None:
        expiry = {
            "fail": "without an answer it fails",
            "halt": "without an answer the run is halted",
            "continue": "without an answer it goes on",
        }
        asked = step.approval
        return f"Asks {asked.tier}: {asked.question}; {expiry[asked.on_expiry]}"
    if step.wait is not None:
        return _waiting(step)
    if step.foreach is not None:
        each = step.foreach
        inner = ", ".join(one.title for one in each.steps.values())
        return f"For each of {each.items.text}, {each.parallel} at a time: {inner}"
    if step.child is not None:
        by = f"Hands over to {step.child.agent}" if step.child.agent else "Runs"
        return f"{by}: {step.child.workflow}"
    return step.kind


def _waiting(step: StepSpec) -> str:
    wait = step.wait
    if wait is None:
        return ""
    if wait.signal:
        return f"Waits for the signal {wait.signal}, at most {wait.timeout}"
    return f"Waits {wait.length}" if wait.length else "Waits until a computed moment"


# -- the timeline --------------------------------------------------------------------------------

_ROW, _LABEL, _SPAN, _HEAD = 26, 210, 560, 22


@dataclass(frozen=True)
class Bar:
    """A length of time in a row: the whole step, or one try in it."""

    begin: datetime
    end: datetime
    tone: str
    says: str
    is_try: bool = False


@dataclass(frozen=True)
class Lane:
    label: str
    status: str
    bars: Sequence[Bar]


def timeline(title: str, lanes: Sequence[Lane], *, begin: datetime, end: datetime) -> SafeString:
    """One row a step: how long it took, and when in it something was tried."""
    length = max((end - begin).total_seconds(), 0.001)
    height = _HEAD + _ROW * len(lanes) + 6
    width = _LABEL + _SPAN + 10

    def at(moment: datetime) -> float:
        share = (moment - begin).total_seconds() / length
        return _LABEL + _SPAN * min(max(share, 0.0), 1.0)

    rows = format_html_join("", "{}", ((_lane(n, lane, at),) for n, lane in enumerate(lanes)))
    return format_html(
        '<div class="scroll"><svg class="plot lanes" width="{}" height="{}" viewBox="0 0 {} {}" '
        'role="img" aria-label="{}"><text x="{}" y="14">{}</text>'
        '<text x="{}" y="14" text-anchor="end">{}</text>'
        '<line x1="{}" y1="{}" x2="{}" y2="{}"></line>{}</svg></div>',
        width,
        height,
        width,
        height,
        title,
        _LABEL,
        f"{begin:%H:%M:%S}",
        _LABEL + _SPAN,
        f"{end:%H:%M:%S} ({in_seconds(length)})",
        _LABEL,
        _HEAD,
        _LABEL + _SPAN,
        _HEAD,
        rows,
    )


def _lane(number: int, lane: Lane, at: Callable[[datetime], float]) -> SafeString:
    top = _HEAD + 4 + number * _ROW
    bars = format_html_join(
        "",
        '<rect class="{}-{}" x="{}" y="{}" width="{}" height="{}" rx="3"><title>{}</title></rect>',
        (
            (
                "bar" if bar.is_try else "span",
                bar.tone,
                f"{at(bar.begin):.1f}",
                top + (5 if bar.is_try else 2),
                f"{max(at(bar.end) - at(bar.begin), 3):.1f}",
                8 if bar.is_try else 14,
                bar.says,
            )
            for bar in lane.bars
        ),
    )
    return format_html(
        '<text x="0" y="{}" class="lane-label">{} {}</text>{}',
        top + 14,
        _SHAPES[tone_of(lane.status)],
        _cut(lane.label, 30),
        bars,
    )


def in_seconds(length: float) -> str:
    """A length of time as people say it."""
    for unit, seconds in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if length >= 2 * seconds:
            return f"{length / seconds:.1f} {unit}"
    return f"{length:.2f} s" if length < 10 else f"{length:.0f} s"
