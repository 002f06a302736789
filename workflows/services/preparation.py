"""Finding out, before the transaction, what the next call will need: arguments, facts, a probe.

What is slow happens here, outside any lock. The transaction that follows looks again at everything
and uses what was prepared only if it is still what comes next.
"""

import base64
import hashlib
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal
from uuid import UUID

from actions.errors import CallInFlight
from actions.models import Action
from actions.services.proposals import PreparedProposal, Proposal, prepare
from actions.services.redecision import prepare_from_action
from agents.errors import InvalidToken
from agents.tokens import Caller
from common.cel import ExpressionFailed
from common.errors import GovernanceError
from policies.snapshot import Snapshot, snapshot
from tools.connectors.base import Call, ConnectorError
from tools.invocation import call_tool
from workflows.definitions.spec import StepSpec, WorkflowSpec
from workflows.expression_context import values_of
from workflows.planning import StepStart, plan
from workflows.run_state import StepState, WorkflowState, forward_path

EXECUTOR = "workflows"


@dataclass(frozen=True)
class ProbeResult:
    """The system's answer about a call by its key. `error`: it could not tell."""

    found: bool = False
    result: Any = None
    error: str = ""
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class PreparedStep:
    """The prepared call of one step."""

    path: str
    kind: Literal["begin", "resume", "probe"]
    mark: int = 0
    prepared: PreparedProposal | None = None
    refusal: GovernanceError | None = None
    failure: str = ""
    action_id: UUID | None = None
    probed: ProbeResult | None = None
    # Another call changes what this one depends on: it waits its turn.
    is_behind: bool = False


def prepare_next(
    spec: WorkflowSpec, case: WorkflowState, lease: timedelta, *, answered: UUID | None = None
) -> PreparedStep | None:
    """Prepare the next call; None if no call comes next. `answered`: see `wait_for_turn`."""
    moves = plan(spec, case, case.now)
    if moves.end is not None or case.is_resting:
        return None
    for path in moves.go_on:
        found = _of_open(spec, case, case.steps[path], lease, answered)
        if found is not None:
            return found
    for one in moves.begin:
        if one.step.call_of(compensates=bool(one.compensates)) is not None:
            return _begin(case, one, lease, answered)
    return None


def required_preparation(
    state: StepState, step: StepSpec
) -> Literal["begin", "resume", "probe"] | None:
    """Whether an open step goes on with a call, and of what kind."""
    if step.call_of(compensates=bool(state.compensates)) is None:
        return None
    if state.action_id is None:
        return "begin" if state.status == "waiting" else None
    if state.action_status == "ready":
        return "resume"
    if state.status == "unknown" and state.action_status == "unknown":
        return "probe"
    return None


def _of_open(
    spec: WorkflowSpec,
    case: WorkflowState,
    state: StepState,
    lease: timedelta,
    answered: UUID | None,
) -> PreparedStep | None:
    step = spec.step(forward_path(state.path))
    kind = required_preparation(state, step)
    if kind == "begin":
        values = values_of(spec, case, state, case.now)
        begin = StepStart(state.path, step, values, state.scope, state.compensates)
        return _begin(case, begin, lease, answered)
    if kind is None or state.action_id is None:
        return None
    action = Action.objects.with_run().filter(pk=state.action_id).first()
    if action is None:
        return None
    mark, held = snapshot.cached_with_version()
    if kind == "probe":
        return PreparedStep(state.path, "probe", mark, probed=_probe(action, step, held))
    try:
        prepared = prepare_from_action(action, mark, held, patience=0)
    except CallInFlight:
        return PreparedStep(state.path, "resume", mark, is_behind=True)
    return PreparedStep(state.path, "resume", mark, prepared=prepared, action_id=action.pk)


def _begin(
    case: WorkflowState, one: StepStart, lease: timedelta, answered: UUID | None
) -> PreparedStep:
    """A call prepared as an agent's own would be: its arguments checked, its facts found out."""
    call = one.step.call_of(compensates=bool(one.compensates))
    mark, held = snapshot.cached_with_version()
    if call is None:
        return PreparedStep(one.path, "begin", mark)
    try:
        arguments = call.arguments.resolve(one.values)
        claims = call.claims.resolve(one.values)
    except ExpressionFailed as error:
        return PreparedStep(one.path, "begin", mark, failure=str(error))
    existing = case.steps.get(one.path)
    try:
        proposal = Proposal(
            caller=caller_of(case, held),
            run_id=case.id,
            tool=call.tool.name,
            arguments=arguments,
            claims=claims,
            idempotency_key=step_key(case.id, one.path, existing.generation if existing else 0),
            executor=EXECUTOR,
            lease=lease,
            step=one.path,
            patience=0,
            answered=answered,
        )
        prepared = prepare(proposal, mark, held)
    except CallInFlight:
        return PreparedStep(one.path, "begin", mark, is_behind=True)
    except GovernanceError as refusal:
        return PreparedStep(one.path, "begin", mark, refusal=refusal)
    return PreparedStep(one.path, "begin", mark, prepared=prepared)


def caller_of(case: WorkflowState, held: Snapshot) -> Caller:
    """The run's agent, within what the token that started it covered. Raises InvalidToken."""
    identity = held.directory.identities.get(case.client_id)
    if identity is None:
        raise InvalidToken
    scopes = frozenset(case.scope.split())
    return Caller(identity, scopes, jti="", epoch=case.epoch, expires_at=0)


def step_key(run_id: UUID, path: str, generation: int) -> str:
    """One key for all attempts of a step; another for its undoing, and for doing it anew.

    The key of the Action; the tool is given the Action's own identifier, which is as stable. It
    has a space, as no key of an agent's own can have, so that the two never meet.
    """
    text = f"{run_id}|{path}|{generation}"
    found = base64.b32encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"step {found[:32].lower()}"


def _probe(action: Action, step: StepSpec, held: Snapshot) -> ProbeResult:
    """Ask the system by the call's key. A read made by the portal itself, as facts are."""
    spec = held.catalog.tools[action.tool]
    probe = held.catalog.tool_of(spec.system, spec.probe)
    if probe is None or probe.withdrawn or probe.access != "read":
        return ProbeResult(error="The tool's probe is not a read tool in service.")
    call = Call(str(action.run_id), None, probe.timeout_seconds)
    try:
        arguments, _ = probe.canonical_arguments({"key": str(action.pk)})
        answer = call_tool(
            held.catalog, probe, arguments, environment=action.environment, call=call
        )
    except (ConnectorError, GovernanceError) as error:
        return ProbeResult(error=str(error))
    value = answer.value
    if not isinstance(value, dict) or not isinstance(value.get("found"), bool):
        return ProbeResult(error="The probe's answer does not say whether the call was found.")
    return ProbeResult(found=value["found"], result=value.get("result"), labels=tuple(spec.labels))
