"""Reads of the deciding transaction under lock: the generation, runs, and repeated requests."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import connection

from actions.services.proposals import PreparedProposal
from audit.generation import current_mark
from common.sql import Row
from policies.authorization import RunContext
from policies.evaluation import Decision


@dataclass
class LockedRun:
    """A run as the deciding transaction holds it, moving with each decision of the batch."""

    id: UUID
    identity_id: int
    status: str
    initiator: str
    purpose: str
    labels: tuple[str, ...]
    actions: int
    denials: int
    amount: Decimal
    budget_actions: int | None
    budget_amount: Decimal | None
    chain: tuple[str, ...] = ()
    delegation: str = ""
    chain_epochs: Mapping[str, int] = field(default_factory=dict)
    effects: int = 0
    closed_at: datetime | None = None
    outcome: str = ""

    def state(self) -> RunContext:
        return RunContext(
            initiator=self.initiator,
            purpose=self.purpose,
            labels=self.labels,
            actions=self.actions,
            denials=self.denials,
            amount=self.amount,
            budget_actions=self.budget_actions,
            budget_amount=self.budget_amount,
            chain=self.chain,
            id=self.id,
        )

    def count(self, decision: Decision, amount: Decimal) -> None:
        self.actions += 1
        if decision.outcome in {"denied", "halted"}:
            self.denials += 1
        if decision.outcome == "allowed":
            self.amount += amount

    def totals(self) -> Row:
        return {
            "id": self.id,
            "status": self.status,
            "actions_count": self.actions,
            "denials_count": self.denials,
            "amount": str(self.amount),
            "labels": list(self.labels),
            "effects_count": self.effects,
            "closed_at": self.closed_at,
            "outcome": self.outcome,
        }


RUN_COLUMNS = (
    "r.id, r.identity_id, r.status, r.initiator, r.purpose, r.labels, r.actions_count, "
    "r.denials_count, r.amount, r.budget_actions, r.budget_amount, r.chain, r.delegation, "
    "r.chain_epochs, r.effects_count"
)
RUN_WIDTH = len(RUN_COLUMNS.split(","))


def lock_runs(
    prepared: Sequence[PreparedProposal],
) -> tuple[int, dict[UUID, LockedRun], dict[tuple[UUID, str], tuple[UUID, str]]]:
    """The mark, the runs (locked) and the actions that have one of the idempotency keys."""
    on_postgresql = connection.vendor == "postgresql"
    one = "(%s::uuid, %s::text)" if on_postgresql else "(%s, %s)"
    parameters: list[Any] = []
    for item in prepared:
        run_id = item.proposal.run_id
        parameters += [run_id if on_postgresql else run_id.hex, item.proposal.idempotency_key]
    sql = (
        f"WITH asked(run_id, key) AS (VALUES {', '.join([one] * len(prepared))}) "  # noqa: S608
        f"SELECT (SELECT mark FROM audit_generation WHERE id = 1), {RUN_COLUMNS}, "
        "asked.key, a.id, a.request_digest FROM asked JOIN actions_run r ON r.id = asked.run_id "
        "LEFT JOIN actions_action a ON a.run_id = r.id AND a.idempotency_key = asked.key "
        "ORDER BY r.id" + (" FOR UPDATE OF r" if on_postgresql else "")
    )
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        found = cursor.fetchall()
    runs: dict[UUID, LockedRun] = {}
    known: dict[tuple[UUID, str], tuple[UUID, str]] = {}
    for row in found:
        run = run_row(row[1 : RUN_WIDTH + 1])
        runs.setdefault(run.id, run)
        key, action_id, request_digest = row[RUN_WIDTH + 1 :]
        if action_id is not None:
            known[run.id, key] = (as_uuid(action_id), request_digest)
    mark = found[0][0] if found else current_mark()
    return int(mark or 0), runs, known


def run_row(row: Sequence[Any]) -> LockedRun:
    """A row of RUN_COLUMNS as either database gives it."""
    return LockedRun(
        id=as_uuid(row[0]),
        identity_id=row[1],
        status=row[2],
        initiator=row[3],
        purpose=row[4],
        labels=tuple(as_json(row[5])),
        actions=row[6],
        denials=row[7],
        amount=Decimal(str(row[8])),
        budget_actions=row[9],
        budget_amount=None if row[10] is None else Decimal(str(row[10])),
        chain=tuple(as_json(row[11])),
        delegation=row[12],
        chain_epochs=as_json(row[13]),
        effects=row[14],
    )


def as_json(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


def as_uuid(value: Any) -> UUID:
    return value if isinstance(value, UUID) else UUID(str(value))
