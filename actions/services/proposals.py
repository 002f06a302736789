"""What a caller wants to do, and what the portal finds out before deciding on it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from actions.models import Run
from agents.tokens import Caller, seen_from
from common.canonical import digest
from common.cel import ExpressionFailed
from common.errors import NotFound
from policies.asking import AskedCall, may_ask
from policies.evaluation import Reason
from policies.snapshot import Snapshot
from tools.calling import gather_facts
from tools.definitions import ToolSpec
from tools.errors import FactsUnavailable, UnknownTool


@dataclass(frozen=True, slots=True)
class Proposal:
    """One call that an agent proposes within a run."""

    caller: Caller
    run_id: UUID
    tool: str
    arguments: Mapping[str, Any]
    claims: Mapping[str, Any]
    idempotency_key: str
    asynchronous: bool = False
    driver: str = ""
    lease: timedelta | None = None
    step: str = ""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A proposal with arguments checked and facts found, from one generation's snapshot."""

    proposal: Proposal
    mark: int
    snapshot: Snapshot
    call: AskedCall
    arguments_digest: str
    request_digest: str


def prepare(proposal: Proposal, mark: int, snapshot: Snapshot) -> Prepared:
    """The proposal with what the portal finds out about it.

    Raises UnknownTool, InvalidArguments, InvalidClaims; NotFound for another agent's run;
    InvalidToken if the caller may no longer act. Facts that cannot be established are no error
    here: they deny.
    """
    caller = seen_from(proposal.caller, snapshot.directory)
    spec = snapshot.catalog.tools.get(proposal.tool)
    if spec is None or spec.serves_facts_only:
        raise UnknownTool
    arguments, arguments_digest = spec.canonical_arguments(proposal.arguments)
    claims = spec.canonical_claims(proposal.claims)
    if spec.sources:
        _ensure_own(proposal.run_id, caller)
    call = found_out(snapshot, caller, spec, arguments, claims=claims, run_id=proposal.run_id)
    return Prepared(proposal, mark, snapshot, call, arguments_digest, sent_digest(proposal))


def sent_digest(proposal: Proposal) -> str:
    """Over what was sent, before defaults: a repeated request is the same request even if the
    tool's definition has changed in between.
    """
    return digest([proposal.tool, proposal.arguments, proposal.claims])


def _ensure_own(run_id: UUID, caller: Caller) -> None:
    """Facts are read in the run's name: not in somebody else's."""
    if not Run.objects.filter(pk=run_id, identity_id=caller.identity.pk).exists():
        raise NotFound


def found_out(
    snapshot: Snapshot,
    caller: Caller,
    spec: ToolSpec,
    arguments: Mapping[str, Any],
    *,
    claims: Mapping[str, Any],
    run_id: UUID,
) -> AskedCall:
    """The call with its facts and amount; with a problem instead where they cannot be had."""
    facts: Mapping[str, Any] = {}
    amount = Decimal(0)
    problem: Reason | None = None
    if may_ask(snapshot, caller, spec, run_id=run_id):
        try:
            facts = gather_facts(
                snapshot.catalog,
                spec,
                arguments,
                claims,
                environment=caller.identity.environment,
                run_id=str(run_id),
            )
            amount = _amount(spec, arguments)
        except FactsUnavailable as error:
            problem = Reason("chancery:facts-unavailable", "Facts unavailable", str(error))
    return AskedCall(caller, spec, arguments, claims, facts, amount, problem)


def _amount(spec: ToolSpec, arguments: Mapping[str, Any]) -> Decimal:
    if spec.amount is None:
        return Decimal(0)
    try:
        value = spec.amount.evaluate({"args": arguments})
    except ExpressionFailed as error:
        message = "The call's amount could not be computed."
        raise FactsUnavailable(message) from error
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 10**12:
        message = "The call's amount is not a sum of money."
        raise FactsUnavailable(message)
    return round(Decimal(str(value)), 4)
