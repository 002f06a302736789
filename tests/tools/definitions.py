"""A tool's attributes as a definition is compiled from them, with one change at a time."""

from typing import Any

from tools.definitions import ToolSpec, compile_spec

TEXT = {"type": "string"}
NUMBER = {"type": "number"}
SCHEMA = {
    "type": "object",
    "properties": {"account": TEXT, "amount": NUMBER},
    "required": ["account"],
    "additionalProperties": False,
}
FACT = {"name": "large", "title": "Large", "expression": "double(args.amount) > 100.0"}
SOURCE = {"name": "account", "tool": "read_account", "arguments": {"id": "args.account"}}
CLAIM = {"name": "confirmed", "title": "Confirmed", "type": "bool", "default": False}


def definition(**changes: Any) -> dict[str, Any]:
    return {
        "pk": 1,
        "system_pk": 1,
        "system": "bank",
        "kind": "in_process",
        "name": "pay",
        "title": "Pay",
        "description": "Pays.",
        "path": "",
        "access": "write",
        "idempotent": True,
        "timeout_seconds": 10.0,
        "labels": ["confidential"],
        "serves_facts_only": False,
        "withdrawn": False,
        "input_schema": SCHEMA,
        "sources": [],
        "facts": [],
        "claims": [],
        "amount": "",
        **changes,
    }


def compiled_tool(**changes: Any) -> ToolSpec:
    return compile_spec(definition(**changes))


def taking(**properties: Any) -> ToolSpec:
    """A tool that takes these properties and no others."""
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return compiled_tool(input_schema=schema)
