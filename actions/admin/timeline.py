"""One run from end to end: actions, what was decided, who answered, each try, the outcome."""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime

from django.db.models import QuerySet

from actions.models import Action, Attempt, Run
from approvals.models import ApprovalRequest

MAX_SHOWN = 200
_TONES = {
    "succeeded": "good",
    "denied": "bad",
    "halted": "bad",
    "rejected": "bad",
    "failed": "bad",
    "waiting": "wait",
    "ready": "wait",
    "executing": "wait",
}


@dataclass(frozen=True)
class Step:
    """One thing that happened to an action."""

    at: datetime | None
    what: str
    text: str
    badge: str = ""


@dataclass
class Entry:
    """One action on the line."""

    action: Action
    tone: str
    steps: list[Step] = field(default_factory=list)


def timeline(run: Run) -> list[Entry]:
    """The run's first MAX_SHOWN actions in order. Four queries, however many they are."""
    actions = list(_light(run).prefetch_related("attempts")[:MAX_SHOWN])
    asked: dict[str, list[ApprovalRequest]] = defaultdict(list)
    requests = ApprovalRequest.objects.filter(run_id=run.pk).select_related("tier")
    for request in requests.order_by("pk").prefetch_related("votes__voter"):
        asked[request.subject_id].append(request)
    return [_entry(action, asked[str(action.pk)]) for action in actions]


def _light(run: Run) -> QuerySet[Action]:
    """Without what can be large and is not shown here."""
    return run.actions.order_by("pk").defer("arguments", "claims", "facts", "result")


def entry_of(action: Action) -> Entry:
    requests = ApprovalRequest.objects.about("actions.action", action.pk).order_by("pk")
    found = requests.select_related("tier").prefetch_related("votes__voter")
    return _entry(action, list(found))


def _entry(action: Action, requests: list[ApprovalRequest]) -> Entry:
    entry = Entry(action, _TONES.get(action.status, "doubt"))
    reasons = "; ".join(reason["title"] for reason in action.reasons)
    entry.steps.append(Step(action.decided_at, "decided", reasons, action.outcome))
    for request in requests:
        entry.steps += _answers(request)
    if action.redecision:
        again = action.redecision
        text = "; ".join(reason["title"] for reason in again["reasons"])
        moment = datetime.fromisoformat(again["at"])
        entry.steps.append(Step(moment, "decided again", text, again["outcome"]))
    for attempt in action.attempts.all():
        text = f"try {attempt.number}"
        if attempt.error_code:
            text += f": {attempt.error_code} {attempt.error}"
        entry.steps += _tried(attempt, text)
    # Each line says what was so at its time, so the lines are in the order of their times.
    entry.steps.sort(key=lambda step: step.at or action.decided_at)
    return entry


def _tried(attempt: Attempt, text: str) -> list[Step]:
    if attempt.ended_at is None:
        return [Step(attempt.started_at, "called", text, attempt.status)]
    began = Step(attempt.started_at, "called", f"try {attempt.number}")
    return [began, Step(attempt.ended_at, "ended", text, attempt.status)]


def _answers(request: ApprovalRequest) -> list[Step]:
    steps = [Step(request.opened_at, "asked", f"{request.tier}", _while_open(request))]
    steps += [
        Step(vote.cast_at, "answered", f"{vote.voter}: {vote.reason}", vote.answer)
        for vote in request.votes.all()
    ]
    if request.decided_at is not None:
        steps.append(Step(request.decided_at, "came to", f"{request.tier}", request.status))
    return steps


def _while_open(request: ApprovalRequest) -> str:
    return "" if request.decided_at is not None else request.status
