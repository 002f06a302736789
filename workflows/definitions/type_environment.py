"""Names that an expression may use, and the type of each."""

from collections.abc import Mapping
from typing import Any

from common.cel import Declared
from workflows.definitions.spec import StepSpec

_CEL_OF_JSON = {
    "string": "STRING",
    "integer": "INT",
    "number": "DOUBLE",
    "boolean": "BOOL",
    "array": "LIST",
    "object": "MAP",
}
RUN: Mapping[str, str] = {
    "run.id": "STRING",
    "run.agent": "STRING",
    "run.environment": "STRING",
    "run.date": "STRING",
    "run.steps": "INT",
    "run.errors": "INT",
    "run.denials": "INT",
    "run.actions": "INT",
    "run.amount": "DOUBLE",
    "run.labels": "LIST<STRING>",
    "run.age_seconds": "INT",
}


def cel_type(schema: Any) -> str:
    """The type of what a JSON Schema admits; DYN where it does not say or says several."""
    kind = schema.get("type") if isinstance(schema, Mapping) else None
    if kind == "array" and cel_type(schema.get("items")) == "STRING":
        return "LIST<STRING>"
    return _CEL_OF_JSON.get(kind, "DYN") if isinstance(kind, str) else "DYN"


def of_inputs(schema: Mapping[str, Any]) -> dict[str, str]:
    """`inputs.x`, typed if it always has a value. Only what is declared can be named."""
    required = set(schema.get("required", ()))
    found = {}
    for name, rule in schema.get("properties", {}).items():
        is_there = name in required or (isinstance(rule, Mapping) and "default" in rule)
        found[f"inputs.{name}"] = cel_type(rule) if is_there else "DYN"
    return found


def of_step(step: StepSpec) -> dict[str, str]:
    """`steps.x.status` and `steps.x.output`, with the members that a result always has."""
    stem = f"steps.{step.name}"
    found = {f"{stem}.status": "STRING", f"{stem}.output": "DYN"}
    schema = step.call.tool.output_schema if step.call else None
    if schema and step.when is None and schema.get("type") == "object":
        properties = schema.get("properties", {})
        for name in schema.get("required", ()):
            found[f"{stem}.output.{name}"] = cel_type(properties.get(name))
        if schema.get("additionalProperties") is False:
            del found[f"{stem}.output"]
    return found


def declared(*parts: Mapping[str, str]) -> Declared:
    merged = {name: kind for part in parts for name, kind in part.items()}
    return tuple(sorted(merged.items()))
