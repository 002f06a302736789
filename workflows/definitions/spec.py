"""A definition, compiled: frozen values that the engine goes by."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from functools import cached_property
from typing import Any

import jsonschema_rs

from common.cel import Expression
from tools.classes import apart_class, classes_in
from workflows.definitions.templates import Template


@dataclass(frozen=True, slots=True)
class PinnedTool:
    """A tool as a version pins it: a changed tool has another digest and is not called."""

    name: str
    digest: str
    title: str
    access: str
    idempotent: bool
    probe: str
    timeout_seconds: float
    input_schema: Mapping[str, Any]
    output_schema: Mapping[str, Any] | None

    @property
    def repeatable(self) -> bool:
        return self.idempotent or self.access == "read"

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the ways to handle an unknown outcome, the default first."""
        found = ["retry"] if self.repeatable else []
        if self.probe:
            found.append("probe")
        return (*found, "ask")


@dataclass(frozen=True, slots=True)
class Retry:
    """Full-jitter exponential back-off: uniform below a bound that grows by `factor`."""

    max_attempts: int = 3
    backoff: timedelta = timedelta(seconds=1)
    factor: float = 2.0
    max_backoff: timedelta = timedelta(minutes=5)

    def bound(self, failures: int) -> float:
        """The longest wait in seconds after so many failures."""
        grown = self.backoff.total_seconds() * self.factor ** min(failures - 1, 60)
        return min(self.max_backoff.total_seconds(), grown)


@dataclass(frozen=True, slots=True)
class ToolCall:
    tool: PinnedTool
    arguments: Template
    claims: Template


@dataclass(frozen=True, slots=True)
class Approval:
    tier: str
    question: str
    show: Template
    on_expiry: str


@dataclass(frozen=True, slots=True)
class Wait:
    """For a length of time, until a moment, or for a signal."""

    length: timedelta | None = None
    until: Expression | None = None
    signal: str = ""
    match: Expression | None = None
    timeout: timedelta | None = None
    on_timeout: str = "fail"


@dataclass(frozen=True, slots=True)
class Child:
    """Another workflow, done by the same agent or by the one it is handed over to."""

    workflow: str
    inputs: Template
    agent: str = ""


@dataclass(frozen=True, slots=True)
class Foreach:
    items: Expression
    max_items: int
    parallel: int
    fail: str
    steps: Mapping[str, "StepSpec"]


@dataclass(frozen=True, slots=True)
class StepSpec:
    name: str
    title: str
    kind: str
    needs: tuple[str, ...]
    when: Expression | None = None
    call: ToolCall | None = None
    timeout: timedelta | None = None
    retry: Retry = field(default_factory=Retry)
    on_unknown: str = "ask"
    compensate: ToolCall | None = None
    irreversible: str = ""
    approval: Approval | None = None
    wait: Wait | None = None
    child: Child | None = None
    foreach: Foreach | None = None

    def call_of(self, *, compensates: bool) -> ToolCall | None:
        """The call that the step makes, or the one that takes it back."""
        return self.compensate if compensates else self.call

    def class_of(self, *, compensates: bool) -> str:
        """Return how an unknown outcome is handled: as the step says, or for its compensation as
        its tool is.
        """
        if compensates and self.compensate is not None:
            return self.compensate.tool.classes[0]
        return self.on_unknown


@dataclass(frozen=True, slots=True)
class StopRule:
    condition: Expression
    reason: str
    then: str


@dataclass(frozen=True, slots=True)
class Limits:
    deadline: timedelta = timedelta(days=30)
    max_steps: int = 1_000
    actions: int | None = None
    amount: Decimal | None = None


def _all(steps: Mapping[str, StepSpec]) -> Iterator[StepSpec]:
    for step in steps.values():
        yield step
        if step.foreach:
            yield from _all(step.foreach.steps)


@dataclass(frozen=True)
class WorkflowSpec:
    """`steps` are in an order in which everything comes after what it needs."""

    slug: str
    title: str
    description: str
    roles: tuple[str, ...]
    inputs_schema: Mapping[str, Any]
    inputs_validator: jsonschema_rs.Validator
    limits: Limits
    stop_when: tuple[StopRule, ...]
    on_failure: str
    on_denied: str
    success: Expression | None
    output: Template
    steps: Mapping[str, StepSpec]

    @cached_property
    def data_class(self) -> str:
        """The strictest class that is kept apart among what its inputs and tools hold. What it
        makes of that (its output, its questions, its signals) is of this class.
        """
        found: list[str] = list(classes_in(self.inputs_schema))
        for step in _all(self.steps):
            calls = [one for one in (step.call, step.compensate) if one]
            for call in calls:
                found += classes_in(call.tool.input_schema, call.tool.output_schema)
        return apart_class(found)

    @cached_property
    def begins_others(self) -> bool:
        return any(step.child for step in _all(self.steps))

    def step(self, path: str) -> StepSpec:
        """The step at a path such as `mail`, or `tell[3].mail` inside a foreach."""
        outer, _, inner = path.partition(".")
        found = self.steps[outer.split("[", 1)[0]]
        return found.foreach.steps[inner] if inner and found.foreach else found
