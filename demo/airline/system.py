import json
from collections.abc import Mapping
from typing import Any

from demo.airline.arguments import schemas, understood
from demo.airline.refusals import (
    AirlineRefusal,
    ArgumentsRefused,
    IdempotencyConflict,
    NoSuchTool,
)
from demo.airline.store import Answer, Store, Write
from demo.airline.tools import FACTS, READS, WRITES

__all__ = [
    "FACT_TOOLS",
    "READ_TOOLS",
    "WRITE_TOOLS",
    "Airline",
    "AirlineRefusal",
    "ArgumentsRefused",
    "IdempotencyConflict",
    "NoSuchTool",
]

READ_TOOLS = frozenset(READS)
WRITE_TOOLS = frozenset(WRITES)
FACT_TOOLS = frozenset(FACTS)

_TOOLS = {**READS, **WRITES, **FACTS}


class Airline:
    def __init__(self, store: Store) -> None:
        self._store = store

    def call(
        self,
        tool: str,
        arguments: Mapping[str, Any],
        *,
        sandbox: str,
        idempotency_key: str | None,
    ) -> Answer:
        """The airline's answer, ready for JSON. Reads ignore the idempotency key.

        Raises UnknownTool, AirlineRefusal or IdempotencyConflict; then nothing changed.
        """
        if tool not in _TOOLS:
            raise NoSuchTool(tool)
        known = understood(arguments, schemas()[tool])
        carry_out = _TOOLS[tool]
        if tool in WRITE_TOOLS:
            write = Write(sandbox, tool, arguments, idempotency_key)
            return self._store.write(write, lambda rows: carry_out(rows, known))
        answer = self._store.read(sandbox, lambda rows: carry_out(rows, known))
        # The caller gets data of its own, never a part of the shared base world.
        return json.loads(json.dumps(answer))
