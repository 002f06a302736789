"""Starting runs: which version, with which inputs, as which agent."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

from django.db import IntegrityError, connection
from django.utils import timezone

from actions.models import Run
from actions.services.runs import Budget, NewRun, run_rows
from actions.services.tables import RUNS
from agents.errors import InvalidToken
from agents.tokens import Caller, revalidate
from audit.bounded_values import event_value
from audit.generation import holding
from audit.services.recorder import EVENTS, Subject, event_row
from common.actors import Actor
from common.canonical import digest, normalise
from common.commands import command
from common.errors import GovernanceError, InvalidInput
from common.ids import uuid7
from common.input_checks import ensure_no_secret
from common.sql import together, write
from common.task_queue import queue
from policies.snapshot import Snapshot, snapshot
from tools.broken_rules import broken_rule
from tools.data_classes import as_recorded, ensure_no_secret_argument
from workflows import events
from workflows.definitions.spec import WorkflowSpec
from workflows.errors import (
    InvalidWorkflowInputs,
    NotAllowedToStart,
    NothingPublished,
    RunKeyReused,
    UnknownWorkflow,
    WorkflowPaused,
)
from workflows.models import WorkflowRun
from workflows.models.definitions import WHOLE
from workflows.services.tables import WORKFLOW_RUNS
from workflows.services.unit_of_work import DRIVE
from workflows.spec_cache import data_class_of, digest_of, spec_of

MAX_INPUT_BYTES = 64_000


@dataclass(frozen=True, slots=True)
class Start:
    """A request to start a run, and its reason."""

    workflow: str
    inputs: Mapping[str, Any]
    key: str
    initiator_kind: Run.Initiator
    initiator: str
    purpose: str = ""
    reference: str = ""
    labels: tuple[str, ...] = ()
    budget: Budget = field(default_factory=Budget)
    chain: tuple[str, ...] = ()
    parent: UUID | None = None
    parent_path: str = ""
    depth: int = 0
    deadline_at: datetime | None = None  # not later than that, whatever the definition says
    origin: Literal["caller", "run", "schedule"] = "caller"  # whose key it is
    id: UUID = field(default_factory=uuid7)


def start(caller: Caller, asked: Start, *, actor: Actor) -> tuple[WorkflowRun, bool]:
    """The run, and whether it was made just now: the same key gives the same run again.

    Raises UnknownWorkflow, WorkflowPaused, NothingPublished, NotAllowedToStart,
    InvalidWorkflowInputs, RunKeyReused, InvalidToken.
    """
    key = request_key(caller, asked)
    try:
        return _start(caller, asked, key, actor=actor), True
    except InvalidToken:
        raise  # whoever may no longer act is not answered at all
    except (IntegrityError, GovernanceError):
        # The same request was answered before, be it now refused or its key taken.
        found = _known(key, asked)
        if found is None:
            raise
        return found, False


def request_key(caller: Caller, asked: Start) -> str:
    """One key per agent, workflow and what the caller calls it; nobody's meets another's."""
    text = "\0".join((asked.origin, caller.identity.client_id, asked.workflow, asked.key))
    return hashlib.sha256(text.encode()).hexdigest()


def _known(key: str, asked: Start) -> WorkflowRun | None:
    found = WorkflowRun.objects.filter(idempotency_key=key).select_related("workflow").first()
    if found is not None and found.inputs_digest != digest(dict(asked.inputs)):
        raise RunKeyReused
    return found


@command
def _start(caller: Caller, asked: Start, key: str, *, actor: Actor) -> WorkflowRun:
    return start_in_transaction(caller, asked, key, actor=actor)


@dataclass(frozen=True, slots=True)
class _Found:
    """The workflow's state for a start, read under the generation's lock."""

    pk: int
    version_id: int
    mark: int
    now: datetime


def start_in_transaction(caller: Caller, asked: Start, key: str, *, actor: Actor) -> WorkflowRun:
    """The run, in the caller's transaction; the generation's shared lock is taken first."""
    found = _found(asked)
    held = _snapshot_of(found.mark)
    spec = spec_of(found.version_id)
    identity = revalidate(caller, held.directory).identity
    if not held.roles(caller) & set(spec.roles):
        raise NotAllowedToStart
    if caller.chain or caller.person:
        message = "A token to act for another agent starts no workflow."
        raise NotAllowedToStart(message)
    inputs = checked_inputs(spec, asked.inputs)
    opening = NewRun(
        asked.initiator_kind,
        asked.initiator,
        (asked.purpose or spec.title)[:500],
        asked.reference,
        asked.labels,
        _tighter(asked.budget, spec),
        asked.chain,
        id=asked.id,
    )
    run, opened = run_rows(identity, opening, actor=actor, now=found.now)
    row = _row(found, caller, asked, spec, inputs=inputs, key=key)
    event = event_row(
        events.RUN_STARTED,
        actor=actor,
        subject=Subject("workflows.workflowrun", str(asked.id), spec.slug),
        run_id=asked.id,
        at=found.now,
        details={
            "workflow": spec.slug,
            "version": found.version_id,
            "digest": digest_of(found.version_id),
            **_recorded(inputs, asked.parent, spec),
            "parent": str(asked.parent or ""),
        },
    )
    # The run first, then what refers to it: SQLite writes them one after the other.
    write(connection, [(RUNS, [run]), (WORKFLOW_RUNS, [row]), (EVENTS, [opened, event])])
    queue.enqueue(DRIVE, str(asked.id))
    return WorkflowRun(**row)


def _recorded(inputs: Any, parent: UUID | None, spec: WorkflowSpec) -> dict[str, Any]:
    """Inputs as the event keeps them; of a run that another began whole, if that works with what is
    kept apart.
    """
    above = data_class_of(spec, parent=parent) if parent is not None else ""
    if above:
        return event_value("inputs", inputs, above)
    return as_recorded("inputs", inputs, spec.inputs_schema)


def _found(asked: Start) -> _Found:
    """The workflow and the version this run starts on. Raises UnknownWorkflow, WorkflowPaused,
    NothingPublished.
    """
    clock = "clock_timestamp()" if connection.vendor == "postgresql" else "NULL"
    sql = (
        "SELECT f.id, f.paused, f.live_id, o.candidate_id, o.share, "  # noqa: S608
        f"(SELECT mark FROM audit_generation WHERE id = 1), {clock} "
        "FROM workflows_workflow f LEFT JOIN workflows_rollout o "
        "ON o.workflow_id = f.id AND o.status = 'running' WHERE f.slug = %s"
    )
    rows = together(connection, [*holding(), (sql, [asked.workflow])])[-1]
    if not rows:
        raise UnknownWorkflow
    [(pk, paused, live, candidate, share, mark, now)] = rows
    if paused:
        raise WorkflowPaused
    if live is None:
        raise NothingPublished
    is_tried = candidate is not None and bucket(asked.workflow, asked.id) < share
    return _Found(pk, candidate if is_tried else live, int(mark or 0), now or timezone.now())


def _snapshot_of(mark: int) -> Snapshot:
    """Return the cached snapshot of the generation, rebuilt only if it has moved."""
    held_mark, held = snapshot.cached_with_version()
    return held if held_mark == mark else snapshot.current()


def _row(
    found: _Found,
    caller: Caller,
    asked: Start,
    spec: WorkflowSpec,
    *,
    inputs: Mapping[str, Any],
    key: str,
) -> dict[str, Any]:
    deadline_at = found.now + min(spec.limits.deadline, timedelta(days=366))
    if asked.deadline_at is not None:
        deadline_at = min(deadline_at, asked.deadline_at)
    # When the hint is lost, the sweeper finds it by its wake time.
    return {
        "run_id": asked.id,
        "workflow_id": found.pk,
        "version_id": found.version_id,
        "parent_id": asked.parent,
        "parent_path": asked.parent_path,
        "depth": asked.depth,
        "status": WorkflowRun.Status.RUNNING.value,
        "inputs": inputs,
        "inputs_digest": digest(dict(asked.inputs)),
        "idempotency_key": key,
        "scope": " ".join(sorted(caller.scopes)),
        "epoch": caller.epoch,
        "reason": "",
        "ending": "",
        "steps_count": 0,
        "errors_count": 0,
        "unknown_count": 0,
        "finished_seq": 0,
        "is_partial": False,
        "next_wake_at": found.now,
        "last_hint_at": found.now,
        "deadline_at": deadline_at,
        "started_at": found.now,
        "revision": 0,
    }


def _tighter(given: Budget, spec: WorkflowSpec) -> Budget:
    """The smaller of what the definition and the starter allow."""
    limits = spec.limits
    actions = [one for one in (given.actions, limits.actions) if one is not None]
    amounts: list[Decimal] = [one for one in (given.amount, limits.amount) if one is not None]
    return Budget(min(actions, default=None), min(amounts, default=None))


def checked_inputs(spec: WorkflowSpec, given: Any) -> dict[str, Any]:
    """The inputs with defaults put in. Raises InvalidWorkflowInputs, naming no value, and
    SecretFound.
    """
    try:
        plain = normalise(given)
    except InvalidInput as error:
        raise InvalidWorkflowInputs(str(error)) from error
    if not isinstance(plain, dict) or len(str(plain)) > MAX_INPUT_BYTES:
        raise InvalidWorkflowInputs
    properties = spec.inputs_schema.get("properties", {})
    defaults = {
        name: rule["default"]
        for name, rule in properties.items()
        if isinstance(rule, dict) and "default" in rule
    }
    filled = {**defaults, **plain}
    ensure_no_secret(filled)
    ensure_no_secret_argument(filled, spec.inputs_schema)
    broken = broken_rule(spec.inputs_validator, spec.inputs_schema, filled)
    if broken is not None:
        raise InvalidWorkflowInputs(broken.said_of("the inputs"), at=broken.where)
    return filled


def bucket(slug: str, run_id: UUID) -> int:
    """Return the place of a run among WHOLE parts; stable: repeats go to the same version."""
    found = hashlib.sha256(f"{slug}:{run_id}".encode()).digest()
    return int.from_bytes(found[:8], "big") % WHOLE
