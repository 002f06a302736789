"""What a caller wants to do, and what the portal finds out before deciding on it."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from agents.errors import InvalidToken
from agents.tokens import Caller, still_valid
from common.canonical import digest
from common.cel import ExpressionFailed
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
    """Raises UnknownTool, InvalidArguments, InvalidClaims; InvalidToken if the caller may no
    longer act. Facts that cannot be established are no error here: they deny.
    """
    if not still_valid(proposal.caller, snapshot.directory):
        raise InvalidToken
    spec = snapshot.catalog.tools.get(proposal.tool)
    if spec is None or spec.serves_facts_only:
        raise UnknownTool
    arguments, arguments_digest = spec.canonical_arguments(proposal.arguments)
    claims = spec.canonical_claims(proposal.claims)
    call = found_out(
        snapshot, proposal.caller, spec, arguments, claims=claims, run_id=proposal.run_id
    )
    request_digest = digest([proposal.tool, arguments_digest, digest(claims)])
    return Prepared(proposal, mark, snapshot, call, arguments_digest, request_digest)


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
    if may_ask(snapshot, caller, spec):
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
