"""The engine's tables as its transactions write them."""

from common.sql import Insert, Update

_STEP = {
    "id": "uuid",
    "run_id": "uuid",
    "path": "text",
    "scope": "text",
    "kind": "text",
    "compensates": "text",
    "started_at": "timestamptz",
}
_STEP_MOVES = {
    "status": "text",
    "waiting_for": "text",
    "input": "jsonb",
    "output": "jsonb",
    "action_id": "uuid",
    "approval_id": "uuid",
    "child_id": "uuid",
    "attempts": "smallint",
    "crashes": "smallint",
    "generation": "smallint",
    "total": "integer",
    "begun": "integer",
    "done": "integer",
    "failures": "integer",
    "due_at": "timestamptz",
    "finished_seq": "integer",
    "error_code": "text",
    "error": "text",
    "folded": "boolean",
    "in_doubt": "boolean",
    "ended_at": "timestamptz",
}
STEPS = Insert("workflows_steprun", _STEP | _STEP_MOVES)
STEP_MOVES = Update("workflows_steprun", "id", {"id": "uuid", **_STEP_MOVES})
STEP_COLUMNS = tuple(STEPS.columns)

RUN_MOVES = Update(
    "workflows_workflowrun",
    "run_id",
    {
        "run_id": "uuid",
        "status": "text",
        "output": "jsonb",
        "reason": "text",
        "ending": "text",
        "steps_count": "integer",
        "errors_count": "integer",
        "unknown_count": "integer",
        "finished_seq": "integer",
        "success_condition_met": "boolean",
        "is_partial": "boolean",
        "next_wake_at": "timestamptz",
        "last_hint_at": "timestamptz",
        "ended_at": "timestamptz",
        "revision": "integer",
    },
)
WORKFLOW_RUNS = Insert(
    "workflows_workflowrun",
    {
        "run_id": "uuid",
        "workflow_id": "bigint",
        "version_id": "bigint",
        "parent_id": "uuid",
        "parent_path": "text",
        "depth": "smallint",
        "status": "text",
        "inputs": "jsonb",
        "inputs_digest": "text",
        "idempotency_key": "text",
        "scope": "text",
        "epoch": "integer",
        "reason": "text",
        "ending": "text",
        "steps_count": "integer",
        "errors_count": "integer",
        "unknown_count": "integer",
        "finished_seq": "integer",
        "is_partial": "boolean",
        "next_wake_at": "timestamptz",
        "last_hint_at": "timestamptz",
        "deadline_at": "timestamptz",
        "started_at": "timestamptz",
        "revision": "integer",
    },
)
WAKES = Insert("workflows_wakeup", {"run_id": "uuid", "created_at": "timestamptz"})
