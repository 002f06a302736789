"""A run as the engine holds it in one transaction: plain values, changed in place, then written."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from actions.services.locking import RunRow
from common.ids import uuid7

# What a step that has come to an end can be, for those that need it.
DONE = frozenset({"succeeded", "skipped"})
BROKEN = frozenset({"failed", "denied", "expired", "cancelled"})
OPEN = frozenset({"running", "retry", "waiting", "unknown"})
RESTING = frozenset(
    {"succeeded", "failed", "halted", "compensated", "compensation_failed", "cancelled"}
)
UNDO = "undo:"


@dataclass
class StepState:
    """One step of a run. The last four are news: how what it waits for stands now."""

    path: str
    kind: str
    status: str
    scope: str = ""
    undoes: str = ""
    waits_for: str = ""
    input: Any = None
    output: Any = None
    action_id: UUID | None = None
    approval_id: UUID | None = None
    child_id: UUID | None = None
    tries: int = 0
    crashes: int = 0
    generation: int = 0
    total: int = 0
    begun: int = 0
    done: int = 0
    failures: int = 0
    due_at: datetime | None = None
    finished_seq: int | None = None
    error_code: str = ""
    error: str = ""
    folded: bool = False
    started_at: datetime | None = None
    ended_at: datetime | None = None
    id: UUID = field(default_factory=uuid7)
    action_status: str | None = None
    approval_status: str | None = None
    child_status: str | None = None
    has_signal: bool = False

    @property
    def is_open(self) -> bool:
        return self.status in OPEN

    @property
    def in_flight(self) -> bool:
        """Whether something may be happening, or have happened, that must be settled first."""
        return self.status in {"running", "unknown"} or (
            self.status == "waiting" and self.waits_for == "child"
        )


@dataclass
class Case:
    """A workflow run with its Run and the steps in play."""

    run: RunRow
    client_id: str
    environment: str
    workflow: str
    version_id: int
    status: str
    inputs: Any
    scope: str
    epoch: int
    parent_id: UUID | None
    depth: int
    deadline_at: datetime
    started_at: datetime
    now: datetime
    mark: int
    steps: dict[str, StepState] = field(default_factory=dict)
    ending: str = ""
    reason: str = ""
    output: Any = None
    steps_count: int = 0
    errors_count: int = 0
    unknown_count: int = 0
    finished_seq: int = 0
    had_success: bool | None = None
    is_partial: bool = False
    wake_at: datetime | None = None
    hinted_at: datetime | None = None
    ended_at: datetime | None = None
    turn: int = 0

    @property
    def id(self) -> UUID:
        return self.run.id

    @property
    def is_resting(self) -> bool:
        return self.status in RESTING

    def unknown_steps(self) -> int:
        return sum(1 for step in self.steps.values() if step.status == "unknown")


def item_scope(path: str, index: int) -> str:
    return f"{path}[{index}]"


def index_of(scope: str) -> int:
    return int(scope.rpartition("[")[2].removesuffix("]"))


def undo_path(path: str) -> str:
    return f"{UNDO}{path}"


def forward_path(path: str) -> str:
    """The path of the step that a path belongs to, be it of the step or of its undoing."""
    return path.removeprefix(UNDO)
