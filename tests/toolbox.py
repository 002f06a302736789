"""A system for tests: small tools with effects that can be counted."""

import time
from collections.abc import Mapping
from threading import Lock
from typing import Any

from tools.connectors.base import Call, ConnectorError

_NUMBER = {"type": "number"}
_TEXT = {"type": "string"}


def _schema(required: list[str], **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


CONFIRMED = {"name": "confirmed", "title": "Confirmed", "type": "bool", "default": False}
ACCOUNT = {"name": "account", "tool": "read_account", "arguments": {"id": "args.account"}}
TOOLS: dict[str, dict[str, Any]] = {
    "read_account": {
        "title": "Read an account",
        "access": "read",
        "idempotent": True,
        "input_schema": _schema(["id"], id=_TEXT),
        "labels": ["confidential"],
    },
    "pay": {
        "title": "Pay",
        "access": "write",
        "idempotent": True,
        "input_schema": _schema(
            ["account", "amount"], account=_TEXT, amount=_NUMBER, note={**_TEXT, "default": ""}
        ),
        "sources": [ACCOUNT],
        "facts": [
            {"name": "frozen", "title": "Frozen", "expression": "account.frozen == true"},
            {"name": "large", "title": "Over 100", "expression": "double(args.amount) > 100.0"},
            {"name": "huge", "title": "Over 1000", "expression": "double(args.amount) > 1000.0"},
        ],
        "claims": [CONFIRMED],
        "amount": "args.amount",
    },
    "mail": {
        "title": "Send a mail",
        "access": "execute",
        "idempotent": False,
        "input_schema": _schema(["to"], to=_TEXT),
    },
    "wipe": {
        "title": "Wipe an account",
        "access": "execute",
        "idempotent": False,
        "input_schema": _schema(["id"], id=_TEXT),
    },
}
POLICIES = {
    "permit-toolbox": """@id("permit-toolbox")
permit(principal in Role::"keepers", action in Action::"toolbox", resource);""",
    "frozen-accounts": """@id("frozen-accounts") @title("Frozen accounts")
@reason("Nothing is paid from a frozen account.")
forbid(principal, action == Action::"toolbox.pay", resource) when { context.facts.frozen };""",
    "large-payments": """@id("large-payments") @title("Large payments") @tier("supervisor")
@reason("A supervisor signs payments over 100.")
forbid(principal, action == Action::"toolbox.pay", resource) when { context.facts.large };""",
    "huge-payments": """@id("huge-payments") @title("Huge payments") @tier("dual")
@reason("Two managers sign payments over 1000.")
forbid(principal, action == Action::"toolbox.pay", resource) when { context.facts.huge };""",
    "never-wipe": """@id("never-wipe") @title("Never wipe") @halt
@reason("An agent that tries to wipe an account is stopped.")
forbid(principal, action == Action::"toolbox.wipe", resource);""",
    "no-confidential-mail": """@id("no-confidential-mail") @title("No confidential mail")
@reason("A run that has read confidential data sends no mail.")
forbid(principal, action == Action::"toolbox.mail", resource)
when { context.run.labels.contains("confidential") };""",
}


class ToolboxSystem:
    """Answers for the system `toolbox`. `fail_with` and `delay_seconds` are for one test."""

    def __init__(self) -> None:
        self._lock = Lock()
        self.accounts: dict[str, dict[str, Any]] = {"a": {"frozen": False}}
        self.effects: list[tuple[str, dict[str, Any]]] = []
        self.keys: set[str] = set()
        self.calls: list[str] = []
        self.fail_with: list[ConnectorError] = []
        self.fail_reads_with: ConnectorError | None = None
        self.delay_seconds = 0.0
        self.answer: Any = None

    def __call__(self, tool: str, arguments: Mapping[str, Any], call: Call) -> Any:
        if tool == "read_account":
            if self.fail_reads_with is not None:
                raise self.fail_reads_with
            return {"frozen": False, **self.accounts.get(str(arguments["id"]), {})}
        with self._lock:
            self.calls.append(tool)
            if self.fail_with:
                raise self.fail_with.pop(0)
        time.sleep(self.delay_seconds)
        with self._lock:
            if call.idempotency_key not in self.keys:
                self.keys.add(str(call.idempotency_key))
                self.effects.append((tool, dict(arguments)))
        return self.answer or {"done": tool}
