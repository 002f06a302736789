"""A run as the engine holds it in one transaction: plain values, changed in place, then written."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from actions.services.run_locks import LockedRun
from common.cel import WorkMeter
from common.ids import uuid7

# What a step that has come to an end can be, for those that need it.
DONE = frozenset({"succeeded", "skipped"})
BROKEN = frozenset({"failed", "denied", "expired", "cancelled"})
OPEN = frozenset({"running", "retry", "waiting", "unknown"})
OVER = frozenset({"succeeded", "failed", "compensated", "cancelled"})
RESTING = OVER | {"halted", "compensation_failed"}
UNDO = "undo:"


@dataclass
class StepState:
    """One step of a run. The last four are news: how what it waits for stands now."""

    path: str
    kind: str
    status: str
    scope: str = ""
    compensates: str = ""
    waiting_for: str = ""
    input: Any = None
    output: Any = None
    action_id: UUID | None = None
    approval_id: UUID | None = None
    child_id: UUID | None = None
    attempts: int = 0
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
    in_doubt: bool = False
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
    def is_anew(self) -> bool:
        """Whether it is to begin again from its start, by a person's order."""
        return self.status == "retry" and self.action_id is None

    @property
    def in_flight(self) -> bool:
        """Whether something may be happening, or have happened, that must be settled first.

        A call that was not answered may have taken effect, though it is to be made again.
        """
        return (
            self.status in {"running", "unknown"}
            or (self.status == "waiting" and self.waiting_for == "child")
            or (self.is_open and self.in_doubt)
        )

    def start_anew(self, now: datetime) -> None:
        """Forget how it went. What is done next has another key, so nothing is taken for it."""
        self.status, self.waiting_for, self.ended_at, self.due_at = "retry", "", None, now
        self.generation += 1
        self.attempts = self.crashes = 0
        self.total = self.begun = self.done = self.failures = 0
        self.action_id = self.approval_id = self.child_id = None
        self.action_status = self.approval_status = self.child_status = None
        self.finished_seq, self.error_code, self.error = None, "", ""
        self.input = self.output = None
        self.folded = self.in_doubt = self.has_signal = False


@dataclass
class WorkflowState:
    """A workflow run with its Run and the steps in play."""

    run: LockedRun
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
    success_condition_met: bool | None = None
    is_partial: bool = False
    next_wake_at: datetime | None = None
    last_hint_at: datetime | None = None
    ended_at: datetime | None = None
    revision: int = 0
    is_paused_by_parent: bool = False  # a run that it is part of rests
    cut_off: str = ""  # why it may not go on by itself any more
    # Of this turn. The generation is locked during it, so a long one would delay every halt.
    work: WorkMeter = field(default_factory=WorkMeter, compare=False)
    data_class: str = ""  # of what it makes, if the log is to keep that apart

    @property
    def id(self) -> UUID:
        return self.run.id

    @property
    def is_resting(self) -> bool:
        return self.status in RESTING

    @property
    def is_over(self) -> bool:
        return self.status in OVER

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
