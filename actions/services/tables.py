"""The tables of the governed path, as the deciding transaction writes them."""

from common.sql import Insert, Update

ACTIONS = Insert(
    "actions_action",
    {
        "id": "uuid",
        "run_id": "uuid",
        "idempotency_key": "text",
        "request_digest": "text",
        "agent": "text",
        "environment": "text",
        "tool": "text",
        "tool_digest": "text",
        "endpoint": "text",
        "arguments": "jsonb",
        "arguments_digest": "text",
        "claims": "jsonb",
        "facts": "jsonb",
        "amount": "numeric",
        "outcome": "text",
        "tier": "text",
        "reasons": "jsonb",
        "release": "integer",
        "status": "text",
        "approval_id": "uuid",
        "attempts_count": "smallint",
        "error_code": "text",
        "error": "text",
        "epoch": "integer",
        "scope": "text",
        "executor": "text",
        "decided_at": "timestamptz",
        "changed_at": "timestamptz",
    },
)

SEALED_ARGUMENTS = Insert("actions_sealedarguments", {"action_id": "uuid", "sealed": "text"})

ATTEMPTS = Insert(
    "actions_attempt",
    {
        "id": "uuid",
        "action_id": "uuid",
        "number": "smallint",
        "status": "text",
        "started_at": "timestamptz",
        "lease_until": "timestamptz",
        "exclusive_key": "text",
        "error_code": "text",
        "error": "text",
    },
)

RUNS = Insert(
    "actions_run",
    {
        "id": "uuid",
        "identity_id": "bigint",
        "agent": "text",
        "environment": "text",
        "initiator_kind": "text",
        "initiator": "text",
        "purpose": "text",
        "reference": "text",
        "status": "text",
        "labels": "jsonb",
        "budget_actions": "integer",
        "budget_amount": "numeric",
        "actions_count": "integer",
        "denials_count": "integer",
        "amount": "numeric",
        "opened_at": "timestamptz",
        "outcome": "text",
        "chain": "jsonb",
        "chain_epochs": "jsonb",
        "delegation": "text",
        "effects_count": "integer",
    },
)

RUN_TOTALS = Update(
    "actions_run",
    "id",
    {
        "id": "uuid",
        "status": "text",
        "actions_count": "integer",
        "denials_count": "integer",
        "amount": "numeric",
        "labels": "jsonb",
        "effects_count": "integer",
        "closed_at": "timestamptz",
        "outcome": "text",
    },
)

ATTEMPT_CLOSED = Update(
    "actions_attempt",
    "id",
    {
        "id": "uuid",
        "status": "text",
        "ended_at": "timestamptz",
        "error_code": "text",
        "error": "text",
    },
)

EXCLUSIVE_TURNS = Update("actions_exclusivekey", "key", {"key": "text", "turns": "bigint"})

RUN_LABELS = Update("actions_run", "id", {"id": "uuid", "labels": "jsonb"})

ACTION_PROGRESS = Update(
    "actions_action",
    "id",
    {
        "id": "uuid",
        "status": "text",
        "attempts_count": "smallint",
        "result": "jsonb",
        "error_code": "text",
        "error": "text",
        "changed_at": "timestamptz",
    },
)
