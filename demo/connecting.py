"""The airline as an in-process system of the portal."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from django.conf import settings

from demo.airline.store import Store
from demo.airline.system import Airline, AirlineRefusal, IdempotencyConflict, NoSuchTool
from tools.connectors.base import Call, Refused


@cache
def airline(path: str) -> Airline:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    return Airline(Store(Path(path)))


def answer(tool: str, arguments: Mapping[str, Any], call: Call) -> Any:
    """Each run acts on a world of its own, as each run of the recorded trace did."""
    system = airline(settings.DEMO_AIRLINE_DB)
    try:
        return system.call(
            tool, arguments, sandbox=call.run_id, idempotency_key=call.idempotency_key
        )
    except (AirlineRefusal, IdempotencyConflict, NoSuchTool) as error:
        raise Refused(str(error)) from error
