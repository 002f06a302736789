"""The form of a definition as JSON Schema 2020-12, without what only compiling can tell."""

from typing import Any

import jsonschema_rs

from workflows.definitions.durations import PATTERN

MAX_STEPS = 200
MAX_ITEMS = 1_000
MAX_PARALLEL = 20

_NAME = {"type": "string", "pattern": "^[a-z][a-z0-9_]{0,49}$"}
_SLUG = {"type": "string", "pattern": "^[a-z0-9][a-z0-9-]{0,63}$"}
_TOOL = {"type": "string", "pattern": "^[a-z0-9_-]{1,64}\\.[A-Za-z0-9_-]{1,100}$"}
_TEXT = {"type": "string", "minLength": 1, "maxLength": 500}
_DURATION = {"type": "string", "pattern": PATTERN}
_EXPRESSION = {"type": "string", "pattern": r"^\$\{[\s\S]+\}$"}
_VALUES = {"type": "object"}


def _object(required: list[str], **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": required,
        "properties": properties,
    }


_RETRY = _object(
    [],
    max_attempts={"type": "integer", "minimum": 1, "maximum": 20},
    backoff=_DURATION,
    factor={"type": "number", "minimum": 1, "maximum": 10},
    max_backoff=_DURATION,
)
_CALL = {"tool": _TOOL, "with": _VALUES, "claims": _VALUES}
_COMMON = {
    "title": _TEXT,
    "needs": {"type": "array", "items": _NAME, "uniqueItems": True, "maxItems": MAX_STEPS},
    "when": _EXPRESSION,
}
_TOOL_STEP = _object(
    ["tool"],
    **_COMMON,
    **_CALL,
    timeout=_DURATION,
    retry=_RETRY,
    on_unknown={"enum": ["retry", "probe", "ask"]},
    compensate=_object(["tool"], **_CALL),
    irreversible=_TEXT,
)
_APPROVAL_STEP = _object(
    ["approval"],
    **_COMMON,
    approval=_object(
        ["tier", "question"],
        tier=_SLUG,
        question=_TEXT,
        show=_VALUES,
        on_expiry={"enum": ["fail", "halt", "continue"]},
    ),
)
_WAIT_STEP = _object(
    ["wait"],
    **_COMMON,
    wait={
        "oneOf": [
            _object(["for"], **{"for": _DURATION}),
            _object(["until"], until=_EXPRESSION),
            _object(
                ["signal", "timeout"],
                signal={"type": "string", "pattern": "^[a-z0-9][a-z0-9._-]{0,63}$"},
                match=_EXPRESSION,
                timeout=_DURATION,
                on_timeout={"enum": ["fail", "continue"]},
            ),
        ]
    },
)
_CHILD = {"workflow": _SLUG, "with": _VALUES}
_WORKFLOW_STEP = _object(["workflow"], **_COMMON, workflow=_object(["workflow"], **_CHILD))
_HANDOFF_STEP = _object(
    ["handoff"], **_COMMON, handoff=_object(["agent", "workflow"], agent=_SLUG, **_CHILD)
)
_INNER = {
    "type": "object",
    "minProperties": 1,
    "maxProperties": 20,
    "propertyNames": _NAME,
    "additionalProperties": {"type": "object"},
}
_FOREACH_STEP = _object(
    ["foreach"],
    **_COMMON,
    foreach=_object(
        ["in", "max_items", "steps"],
        **{"in": _EXPRESSION},
        max_items={"type": "integer", "minimum": 1, "maximum": MAX_ITEMS},
        parallel={"type": "integer", "minimum": 1, "maximum": MAX_PARALLEL},
        fail={"enum": ["stop", "collect"]},
        steps=_INNER,
    ),
)

# One step has exactly one kind, which is the key that says what it does.
KINDS = {
    "tool": _TOOL_STEP,
    "approval": _APPROVAL_STEP,
    "wait": _WAIT_STEP,
    "foreach": _FOREACH_STEP,
    "workflow": _WORKFLOW_STEP,
    "handoff": _HANDOFF_STEP,
}
INNER_KINDS = ("tool", "approval", "wait")
_ENDINGS = ["halt", "fail", "compensate"]

SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    **_object(
        ["workflow", "title", "schema", "roles", "steps"],
        workflow=_SLUG,
        title=_TEXT,
        description={"type": "string", "maxLength": 4_000},
        schema={"const": 1},
        roles={"type": "array", "items": _SLUG, "minItems": 1, "maxItems": 50},
        inputs={"type": "object"},
        limits=_object(
            [],
            deadline=_DURATION,
            max_steps={"type": "integer", "minimum": 1, "maximum": 10_000},
            actions={"type": "integer", "minimum": 1, "maximum": 100_000},
            amount={"type": "number", "minimum": 0},
        ),
        stop_when={
            "type": "array",
            "maxItems": 20,
            "items": _object(
                ["if", "reason"],
                **{"if": _EXPRESSION},
                reason=_TEXT,
                then={"enum": _ENDINGS},
            ),
        },
        on_failure={"enum": _ENDINGS},
        on_denied={"enum": ["halt", "fail"]},
        success=_EXPRESSION,
        output=_VALUES,
        steps={
            "type": "object",
            "minProperties": 1,
            "maxProperties": MAX_STEPS,
            "propertyNames": _NAME,
            "additionalProperties": {"$ref": "#/$defs/step"},
        },
    ),
    "$defs": {
        # The step's own form is checked by its kind: a `oneOf` of six could not say what is wrong.
        "step": {"type": "object"},
        "inner": {"type": "object"},
    },
}

VALIDATOR = jsonschema_rs.Draft202012Validator(SCHEMA)
STEP_VALIDATORS = {kind: jsonschema_rs.Draft202012Validator(form) for kind, form in KINDS.items()}
