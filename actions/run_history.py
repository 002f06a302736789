"""The history of a run, read from its events alone: who began it, what it read, each decision and
who made it, each result, and what it changed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from audit.models import Event

_OVERRIDES = frozenset(
    {
        "tool.call.resolved",
        "run.reopened",
        "workflow.run.operator_command",
        "elevation.given",
    }
)


@dataclass(frozen=True, slots=True)
class RecordedVote:
    """One person's vote."""

    at: datetime
    person: str
    answer: str
    reason: str
    tier: str


@dataclass
class RecordedRequest:
    """An approval request: its question, what people were shown, and how it ended."""

    at: datetime
    tier: str
    text: str
    shown: Mapping[str, Any]
    answers: list[RecordedVote] = field(default_factory=list)
    end: str = "pending"
    ended_at: datetime | None = None


@dataclass
class CallAttempt:
    """One call of the tool."""

    number: int
    at: datetime
    end: str = "started"
    ended_at: datetime | None = None


@dataclass
class RecordedCall:
    """One action: what was to be done, by which rules it was decided, and what came of it."""

    id: str
    tool: str
    at: datetime
    decisions: list[Mapping[str, Any]] = field(default_factory=list)
    questions: list[RecordedRequest] = field(default_factory=list)
    attempts: list[CallAttempt] = field(default_factory=list)
    access: str = ""
    classes: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    result: Any = None
    things: list[Mapping[str, str]] = field(default_factory=list)

    @property
    def outcome(self) -> str:
        return str(self.decisions[-1]["outcome"]) if self.decisions else ""

    @property
    def end(self) -> str:
        if self.attempts:
            return self.attempts[-1].end
        return self.questions[-1].end if self.questions else self.outcome


@dataclass
class RunHistory:
    """A run. `begun` holds the details of its first event."""

    agent: str = ""
    begun_at: datetime | None = None
    begun: Mapping[str, Any] = field(default_factory=dict)
    calls: dict[str, RecordedCall] = field(default_factory=dict)
    overrides: list[tuple[datetime, str, str, Mapping[str, Any]]] = field(default_factory=list)
    ended_at: datetime | None = None
    end: Mapping[str, Any] = field(default_factory=dict)
    halted: bool = False

    @property
    def sources(self) -> list[RecordedCall]:
        """Return the data the run read, with its classes and labels."""
        return [call for call in self.calls.values() if call.access == "read"]

    @property
    def effects(self) -> list[tuple[str, Mapping[str, str]]]:
        """(tool, thing) of everything that was created or changed, as far as tools name it."""
        return [
            (call.tool, thing)
            for call in self.calls.values()
            if call.access not in {"", "read"}
            for thing in call.things
        ]


def run_history(events: Iterable[Event], *, with_values: bool = True) -> RunHistory:
    """The story of a run's events, oldest first.

    Without values it says what the leaves say: codes and times, not words.
    """
    story = RunHistory()
    for event in events:
        details = event.details if with_values else event.plain()
        _told(story, event, details)
    return story


def _told(story: RunHistory, event: Event, details: Mapping[str, Any]) -> None:
    if event.type in _OF_RUNS:
        _OF_RUNS[event.type](story, event, details)
    elif event.type in _OF_CALLS:
        call = story.calls.get(event.subject_id)
        if call is None:
            tool = str(details.get("tool", event.subject_label))
            call = RecordedCall(event.subject_id, tool, event.recorded_at)
            story.calls[call.id] = call
        _OF_CALLS[event.type](call, event, details)
    if event.type in _OVERRIDES:
        story.overrides.append((event.recorded_at, event.type, event.actor_label, details))


def _begun(story: RunHistory, event: Event, details: Mapping[str, Any]) -> None:
    story.agent, story.begun_at, story.begun = event.actor_id, event.recorded_at, details


def _ended(story: RunHistory, event: Event, details: Mapping[str, Any]) -> None:
    story.ended_at, story.end = event.recorded_at, details


def _halted(story: RunHistory, event: Event, details: Mapping[str, Any]) -> None:
    story.halted = True
    _ended(story, event, details)


def _decided(call: RecordedCall, event: Event, details: Mapping[str, Any]) -> None:
    call.decisions.append({**details, "at": event.recorded_at})


def _asked(call: RecordedCall, event: Event, details: Mapping[str, Any]) -> None:
    text, shown = str(details.get("question", "")), details.get("shown", {})
    call.questions.append(RecordedRequest(event.recorded_at, str(details["tier"]), text, shown))


def _voted(call: RecordedCall, event: Event, details: Mapping[str, Any]) -> None:
    if call.questions:
        said = RecordedVote(
            event.recorded_at,
            event.actor_label,
            str(details["answer"]),
            str(details.get("reason", "")),
            str(details["tier"]),
        )
        call.questions[-1].answers.append(said)


def _answered(call: RecordedCall, event: Event, details: Mapping[str, Any]) -> None:
    if call.questions:
        last = call.questions[-1]
        last.end, last.ended_at = event.type.removeprefix("approval."), event.recorded_at


def _called(call: RecordedCall, event: Event, details: Mapping[str, Any]) -> None:
    call.attempts.append(CallAttempt(int(details["attempt"]), event.recorded_at))


def _came_to(call: RecordedCall, event: Event, details: Mapping[str, Any]) -> None:
    ends = {"completed": "succeeded", "unresolved": "unknown"}
    end = event.type.removeprefix("tool.call.")
    for one in call.attempts:
        if one.number == details.get("attempt"):
            one.end, one.ended_at = ends.get(end, end), event.recorded_at
    if event.type == "tool.call.completed":
        call.access = str(details.get("access", ""))
        call.classes = tuple(details.get("classes", ()))
        call.labels = tuple(details.get("labels", ()))
        call.result, call.things = details.get("result"), list(details.get("things", ()))


def _resolved(call: RecordedCall, event: Event, details: Mapping[str, Any]) -> None:
    ends = {"took_effect": "succeeded", "did_not_take_effect": "failed"}
    if call.attempts:
        call.attempts[-1].end = ends.get(str(details["answer"]), call.attempts[-1].end)


_OF_RUNS = {"run.started": _begun, "run.closed": _ended, "run.halted": _halted}
_OF_CALLS = {
    "decision.made": _decided,
    "approval.requested": _asked,
    "approval.voted": _voted,
    "approval.approved": _answered,
    "approval.rejected": _answered,
    "approval.expired": _answered,
    "approval.withdrawn": _answered,
    "tool.call.requested": _called,
    "tool.call.completed": _came_to,
    "tool.call.failed": _came_to,
    "tool.call.unresolved": _came_to,
    "tool.call.resolved": _resolved,
}
