"""A run as a picture: a row per action, from left to right what happened to it, by its events."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from actions.run_history import RecordedCall, RecordedRequest, RunHistory

MAX_ROWS, MAX_EVENTS = 60, 1_000
_WIDTH, _LEFT, _RIGHT, _ROW, _TOP, _FOOT = 960, 220, 30, 26, 12, 24
_WIDEST, _TIME_ROOM = 56, 64
_TONES = {
    "allowed": "good",
    "succeeded": "good",
    "approved": "good",
    "approve": "good",
    "needs_approval": "wait",
    "pending": "wait",
    "started": "wait",
    "unknown": "doubt",
    "withdrawn": "doubt",
    "expired": "doubt",
}


@dataclass(frozen=True)
class _Mark:
    """Something at one moment, or from one to another."""

    row: int
    start: datetime
    end: datetime | None
    shape: str
    tone: str
    says: str


@dataclass(frozen=True)
class _Scale:
    """Moments in order, evenly: what took long takes no more room than what came next."""

    places: dict[datetime, float]

    @classmethod
    def over(cls, moments: Iterable[datetime]) -> "_Scale":
        ordered = sorted(set(moments))
        room = min((_WIDTH - _LEFT - _RIGHT) / max(len(ordered) - 1, 1), _WIDEST)
        return cls({moment: _LEFT + index * room for index, moment in enumerate(ordered)})


def picture(story: RunHistory) -> SafeString:
    """The first MAX_ROWS actions of a run as SVG; empty if nothing has been decided in it."""
    calls = list(story.calls.values())[:MAX_ROWS]
    marks = [mark for row, call in enumerate(calls) for mark in _marks(row, call)]
    if not marks:
        return SafeString()
    ends = [moment for moment in (story.begun_at, story.ended_at) if moment is not None]
    moments = [m.start for m in marks] + [m.end for m in marks if m.end] + ends
    scale = _Scale.over(moments)
    height = _TOP + _ROW * len(calls) + _FOOT
    return format_html(
        '<svg class="picture" viewBox="0 0 {} {}" role="img" aria-label="{}">{}{}{}</svg>',
        _WIDTH,
        height,
        f"What happened in the run: {len(calls)} actions from left to right",
        _rows(calls),
        _drawn(marks, scale),
        _times(scale, height),
    )


def _marks(row: int, call: RecordedCall) -> Iterator[_Mark]:
    for made in call.decisions:
        outcome = str(made["outcome"])
        by = f" by {', '.join(made['rules'])}" if made.get("rules") else ""
        says = f"Decided: {outcome.replace('_', ' ')}{by}"
        yield _Mark(row, made["at"], None, "decision", _TONES.get(outcome, "bad"), says)
    for question in call.questions:
        yield from _of_question(row, question)
    for one in call.attempts:
        says = f"Call {one.number}: {one.end.replace('_', ' ')}"
        yield _Mark(row, one.at, one.ended_at, "call", _TONES.get(one.end, "bad"), says)


def _of_question(row: int, question: RecordedRequest) -> Iterator[_Mark]:
    says = f"People were asked ({question.tier}): {question.end}"
    yield _Mark(row, question.at, question.ended_at, "question", "wait", says)
    for answer in question.answers:
        tone = _TONES.get(answer.answer, "bad")
        yield _Mark(row, answer.at, None, "vote", tone, f"{answer.person}: {answer.answer}")


def _rows(calls: list[RecordedCall]) -> SafeString:
    return format_html_join(
        "",
        '<rect class="row-{}" x="0" y="{}" width="{}" height="{}"></rect>'
        '<text class="name" x="8" y="{}">{}</text>',
        (
            (
                index % 2,
                _TOP + index * _ROW,
                _WIDTH,
                _ROW,
                _TOP + index * _ROW + 17,
                call.tool if len(call.tool) <= 32 else f"…{call.tool[-31:]}",
            )
            for index, call in enumerate(calls)
        ),
    )


def _drawn(marks: Iterable[_Mark], scale: _Scale) -> SafeString:
    # Bars first, so that points lie on them.
    ordered = sorted(marks, key=lambda mark: mark.shape in {"decision", "vote"})
    return format_html_join("", "{}", ((_shape(mark, scale),) for mark in ordered))


def _shape(mark: _Mark, scale: _Scale) -> SafeString:
    x, middle = scale.places[mark.start], _TOP + mark.row * _ROW + _ROW / 2
    says = f"{mark.says}, {mark.start:%H:%M:%S}"
    if mark.shape == "decision":
        points = f"{x},{middle - 6} {x + 6},{middle} {x},{middle + 6} {x - 6},{middle}"
        return format_html(
            '<polygon class="is-{}" points="{}"><title>{}</title></polygon>',
            mark.tone,
            points,
            says,
        )
    if mark.shape == "vote":
        return format_html(
            '<circle class="is-{}" cx="{}" cy="{}" r="4.5"><title>{}</title></circle>',
            mark.tone,
            f"{x:.1f}",
            middle,
            says,
        )
    end = scale.places[mark.end] if mark.end else x + 12
    height = 10 if mark.shape == "call" else 4
    return format_html(
        '<rect class="is-{} {}" x="{}" y="{}" width="{}" height="{}" rx="2">'
        "<title>{}</title></rect>",
        mark.tone,
        mark.shape,
        f"{x:.1f}",
        middle - height / 2,
        f"{max(end - x, 4):.1f}",
        height,
        says,
    )


def _times(scale: _Scale, height: int) -> SafeString:
    moments = list(scale.places)
    room = scale.places[moments[1]] - _LEFT if len(moments) > 1 else _WIDEST
    every = max(1, int(_TIME_ROOM / room) + 1)
    shown = moments[::every]
    return format_html_join(
        "",
        '<line class="tick" x1="{0}" y1="{1}" x2="{0}" y2="{2}"></line>'
        '<text class="time" x="{0}" y="{3}" text-anchor="middle">{4}</text>',
        (
            (
                f"{scale.places[moment]:.1f}",
                _TOP,
                height - _FOOT,
                height - 8,
                f"{moment:%H:%M:%S}",
            )
            for moment in shown
        ),
    )
