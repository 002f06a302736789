"""A call that a caller proposes, and the context the portal gathers before deciding on it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from actions.models import Run
from actions.services.freshness import PATIENCE_SECONDS, ReadAt, wait_for_turn
from agents.tokens import Caller, revalidate
from common.canonical import digest
from common.cel import ExpressionFailed
from common.errors import NotFound
from common.input_checks import ensure_no_secret
from policies.authorization import CallContext, is_worth_evaluating
from policies.evaluation import Reason
from policies.snapshot import Snapshot
from tools.definitions import GovernedArguments, ToolSpec
from tools.errors import FactAbsent, FactsUnavailable, UnknownTool
from tools.invocation import gather_facts
from tools.secret_arguments import secrets_set_apart

# The digits after the point that amounts and budgets are kept with.
SMALLEST = Decimal("0.0000000001")


@dataclass(frozen=True, slots=True)
class Proposal:
    """One call that an agent proposes within a run."""

    caller: Caller
    run_id: UUID
    tool: str
    arguments: Mapping[str, Any] = field(repr=False)
    claims: Mapping[str, Any]
    idempotency_key: str
    asynchronous: bool = False
    executor: str = ""
    lease: timedelta | None = None
    step: str = ""
    # For a executor that looks ahead: how long to wait for other calls, and which one is over.
    patience: float = PATIENCE_SECONDS
    answered: UUID | None = None
    # The definition by whose word credentials among the arguments were let in.
    vouched_by: str = ""


@dataclass(frozen=True, slots=True)
class PreparedProposal:
    """A proposal with arguments checked and facts found, from one generation's snapshot."""

    proposal: Proposal
    mark: int
    snapshot: Snapshot
    call: CallContext
    arguments_digest: str
    request_digest: str
    read_at: ReadAt | None = None
    secrets: Mapping[str, Any] = field(default_factory=dict, repr=False)


def prepare(proposal: Proposal, mark: int, snapshot: Snapshot) -> PreparedProposal:
    """The proposal with what the portal finds out about it.

    Raises UnknownTool, InvalidArguments, InvalidClaims, SecretFound; NotFound for another agent's
    run; InvalidToken if the caller may no longer act; CallInFlight if another call that its facts
    depend on is not over in time. Facts that cannot be established are no error here: they deny.
    """
    caller = revalidate(proposal.caller, snapshot.directory)
    spec = snapshot.catalog.tools.get(proposal.tool)
    if spec is None or spec.serves_facts_only:
        raise UnknownTool
    given = _arguments(proposal, spec)
    claims = spec.canonical_claims(proposal.claims)
    if spec.sources or spec.exclusive_by:
        _ensure_own(proposal.run_id, caller)
    call = CallContext(caller, spec, given.shown, claims, {}, Decimal(0))
    read_at = turn_of(proposal, call, snapshot)
    call = build_call_context(snapshot, call, run_id=proposal.run_id)
    sent = sent_digest(proposal, spec)
    return PreparedProposal(
        proposal, mark, snapshot, call, given.digest, sent, read_at, given.secrets
    )


def _arguments(proposal: Proposal, spec: ToolSpec) -> GovernedArguments:
    if proposal.executor:
        # A workflow's data is recorded where it goes: there is no secret in it to pass on.
        return GovernedArguments(*spec.canonical_arguments(proposal.arguments))
    given = spec.governed_arguments(proposal.arguments)
    if proposal.vouched_by and proposal.vouched_by != spec.digest:
        # The definition that declared them is another one now.
        ensure_no_secret(given.shown, vouched=spec.vouched_arguments(given.shown))
    return given


def turn_of(proposal: Proposal, call: CallContext, snapshot: Snapshot) -> ReadAt | None:
    """See `wait_for_turn`; nothing waits that would be refused whatever its facts are."""
    if not is_worth_evaluating(snapshot, call.caller, call.tool, run_id=proposal.run_id):
        return None
    return wait_for_turn(
        proposal.run_id,
        call.tool,
        call.arguments,
        environment=call.caller.identity.environment,
        catalog=snapshot.catalog,
        idempotency_key=proposal.idempotency_key,
        patience=proposal.patience,
        answered=proposal.answered,
    )


def sent_digest(proposal: Proposal, spec: ToolSpec | None) -> str:
    """Over what was sent, before defaults: a repeated request is the same request even if the
    tool's definition has changed in between. In place of declared secrets their fingerprints count:
    a digest of a secret would let somebody try which one it was.
    """
    arguments = proposal.arguments
    if spec is not None and spec.takes_secrets:
        arguments, _ = secrets_set_apart(arguments, spec.input_schema)
    return digest([proposal.tool, arguments, proposal.claims])


def _ensure_own(run_id: UUID, caller: Caller) -> None:
    """Facts are read in the run's name: not in somebody else's."""
    if not Run.objects.filter(pk=run_id, identity_id=caller.identity.pk).exists():
        raise NotFound


def build_call_context(snapshot: Snapshot, call: CallContext, *, run_id: UUID) -> CallContext:
    """The call with its facts and amount; with a problem instead where they cannot be had."""
    if not is_worth_evaluating(snapshot, call.caller, call.tool, run_id=run_id):
        return call
    try:
        facts = gather_facts(
            snapshot.catalog,
            call.tool,
            call.arguments,
            call.claims,
            environment=call.caller.identity.environment,
            run_id=str(run_id),
        )
        return replace(call, facts=facts, amount=_amount(call.tool, call.arguments))
    except FactsUnavailable as error:
        is_absent = isinstance(error, FactAbsent)
        name = "chancery:fact-absent" if is_absent else "chancery:facts-unavailable"
        title = "No such thing" if is_absent else "Facts unavailable"
        problem = Reason(name, title, str(error))
        return replace(call, problem=problem)


def _amount(spec: ToolSpec, arguments: Mapping[str, Any]) -> Decimal:
    if spec.amount is None:
        return Decimal(0)
    try:
        value = spec.amount.evaluate({"args": spec.open_arguments(arguments)})
    except ExpressionFailed as error:
        message = "The call's amount could not be computed."
        raise FactsUnavailable(message) from error
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 10**12:
        message = "The call's amount is not a sum of money."
        raise FactsUnavailable(message)
    amount = Decimal(str(value))
    # To the digits that are kept, half to even; but what is something never counts as nothing.
    return amount.quantize(SMALLEST) or (SMALLEST if amount else Decimal(0))
