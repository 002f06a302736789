"""Starting runs: which version, with which inputs, as which agent."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import IntegrityError

from actions.models import Run
from actions.services import runs
from actions.services.runs import Budget
from agents.tokens import Caller
from audit.services import record
from common.actors import Actor
from common.canonical import digest, normalised
from common.clock import database_now
from common.commands import command
from common.errors import InvalidInput
from common.ids import uuid7
from common.queueing import queue
from policies.snapshot import snapshot
from workflows import events
from workflows.compiled import spec_of
from workflows.definitions.spec import WorkflowSpec
from workflows.errors import (
    InvalidWorkflowInputs,
    NotAllowedToStart,
    NothingPublished,
    RunKeyReused,
    UnknownWorkflow,
    WorkflowPaused,
)
from workflows.models import Rollout, Workflow, WorkflowRun
from workflows.models.definitions import WHOLE
from workflows.services.turns import DRIVE

MAX_INPUT_BYTES = 64_000


@dataclass(frozen=True, slots=True)
class Start:
    """What is to be started, and why."""

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
    id: UUID = field(default_factory=uuid7)


def start(caller: Caller, asked: Start, *, actor: Actor) -> tuple[WorkflowRun, bool]:
    """The run, and whether it was made just now: the same key gives the same run again.

    Raises UnknownWorkflow, WorkflowPaused, NothingPublished, NotAllowedToStart,
    InvalidWorkflowInputs, RunKeyReused, InvalidToken.
    """
    key = request_key(caller, asked)
    found = _known(key, asked)
    if found is not None:
        return found, False
    try:
        return _start(caller, asked, key, actor=actor), True
    except IntegrityError:
        # Somebody else's request with the same key was first.
        found = _known(key, asked)
        if found is None:
            raise
        return found, False


def request_key(caller: Caller, asked: Start) -> str:
    """One key per agent, workflow and what the caller calls it."""
    text = "\0".join((caller.identity.client_id, asked.workflow, asked.key))
    return hashlib.sha256(text.encode()).hexdigest()


def _known(key: str, asked: Start) -> WorkflowRun | None:
    found = WorkflowRun.objects.filter(idempotency_key=key).select_related("workflow").first()
    if found is not None and found.inputs_digest != digest(dict(asked.inputs)):
        raise RunKeyReused
    return found


@command
def _start(caller: Caller, asked: Start, key: str, *, actor: Actor) -> WorkflowRun:
    return started(caller, asked, key, actor=actor)


def started(caller: Caller, asked: Start, key: str, *, actor: Actor) -> WorkflowRun:
    """The run, in the caller's transaction, as for the child of another run."""
    workflow = Workflow.objects.select_related("live").filter(slug=asked.workflow).first()
    if workflow is None:
        raise UnknownWorkflow
    if workflow.paused:
        raise WorkflowPaused
    if workflow.live is None:
        raise NothingPublished
    version_id = chosen_version(workflow, asked.id)
    spec = spec_of(version_id)
    if not snapshot.fresh().roles(caller) & set(spec.roles):
        raise NotAllowedToStart
    inputs = checked_inputs(spec, asked.inputs)
    run = runs.open_run(
        caller,
        actor=actor,
        run_id=asked.id,
        initiator_kind=asked.initiator_kind,
        initiator=asked.initiator,
        purpose=(asked.purpose or spec.title)[:500],
        reference=asked.reference,
        labels=asked.labels,
        budget=_tighter(asked.budget, spec),
        chain=asked.chain,
    )
    return _recorded(workflow, version_id, caller, asked, run, inputs=inputs, key=key, actor=actor)


def _recorded(
    workflow: Workflow,
    version_id: int,
    caller: Caller,
    asked: Start,
    run: Run,
    *,
    inputs: Mapping[str, Any],
    key: str,
    actor: Actor,
) -> WorkflowRun:
    now = database_now()
    spec = spec_of(version_id)
    # When the hint is lost, the sweeper finds it by its wake time.
    made = WorkflowRun.objects.create(
        run=run,
        workflow=workflow,
        version_id=version_id,
        parent_id=asked.parent,
        parent_path=asked.parent_path,
        depth=asked.depth,
        inputs=inputs,
        inputs_digest=digest(dict(asked.inputs)),
        idempotency_key=key,
        scope=" ".join(sorted(caller.scopes)),
        epoch=caller.epoch,
        wake_at=now,
        hinted_at=now,
        deadline_at=now + min(spec.limits.deadline, timedelta(days=366)),
        started_at=now,
    )
    record(
        events.RUN_STARTED,
        actor=actor,
        subject=made,
        run_id=run.pk,
        workflow=workflow.slug,
        version=version_id,
        digest=made.version.digest,
        inputs_digest=made.inputs_digest,
        parent=str(asked.parent or ""),
    )
    queue.enqueue(DRIVE, str(run.pk))
    return made


def _tighter(given: Budget, spec: WorkflowSpec) -> Budget:
    """The smaller of what the definition and the starter allow."""
    limits = spec.limits
    actions = [one for one in (given.actions, limits.actions) if one is not None]
    amounts: list[Decimal] = [one for one in (given.amount, limits.amount) if one is not None]
    return Budget(min(actions, default=None), min(amounts, default=None))


def checked_inputs(spec: WorkflowSpec, given: Any) -> dict[str, Any]:
    """The inputs with defaults put in. Raises InvalidWorkflowInputs, naming no value."""
    try:
        plain = normalised(given)
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
    broken = next(spec.inputs_validator.iter_errors(filled), None)
    if broken is not None:
        where = "/".join(str(part) for part in broken.instance_path)
        missing = getattr(broken.kind, "property", None)
        rule = "/".join(str(part) for part in broken.schema_path[-1:])
        said = f"{missing} is required." if missing else f"{where}: breaks the rule '{rule}'."
        raise InvalidWorkflowInputs(said, at=where)
    return filled


def bucket(slug: str, run_id: UUID) -> int:
    """Where a run falls among WHOLE parts; stable, so that repeats go to the same version."""
    found = hashlib.sha256(f"{slug}:{run_id}".encode()).digest()
    return int.from_bytes(found[:8], "big") % WHOLE


def chosen_version(workflow: Workflow, run_id: UUID) -> int:
    """The live version, or the one being rolled out for its share of runs."""
    rollout = Rollout.objects.filter(workflow=workflow, status=Rollout.Status.RUNNING).first()
    if rollout is not None and bucket(workflow.slug, run_id) < rollout.share:
        return rollout.candidate_id
    live_id = workflow.live_id
    if live_id is None:
        raise NothingPublished
    return live_id
