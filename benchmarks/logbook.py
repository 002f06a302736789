"""A log filled with what agents do, for measuring how it is written, sealed, found and shown."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from common.ids import first_key_at

AGENTS, TOOLS, BATCH = 40, 60, 1_200
STEP = timedelta(seconds=8)
_TEXT = """
    refund customer invoice booking flight delayed insurance premium account balance letter address
    changed cancelled meeting ticket priority escalated shipment order delivery returned damaged
    warranty claim approved rejected subscription renewal upgrade discount voucher
"""
WORDS = _TEXT.split()


def agent(number: int) -> str:
    return f"agent-{number % AGENTS}.prod"


def tool(number: int) -> str:
    return f"system-{number % 6}.tool_{number % TOOLS}"


def events(number: int, *, until: datetime, seed: int = 1) -> Iterator[list[dict[str, Any]]]:
    """Rows of runs of six events each, oldest first, a batch at a time; the last is at `until`."""
    from audit.services.recorder import event_row

    chance = random.Random(seed)
    at = until - STEP * number
    batch: list[dict[str, Any]] = []
    for run_number in range(number // 6):
        run = uuid4()
        for kind, who, what, details in _steps(run, run_number, chance):
            at += STEP
            row = event_row(kind, actor=who, subject=what, run_id=run, at=at, details=details)
            batch.append({**row, "uid": _at(at)})
        if len(batch) >= BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _steps(run: UUID, number: int, chance: random.Random) -> list[tuple[Any, Any, Any, Any]]:
    """One run: begun, a call decided, made and answered, another one decided, closed."""
    from actions import events as kinds
    from audit.services.recorder import Subject
    from common.actors import SYSTEM, Actor

    doer = Actor("agent", agent(number), agent(number))
    words = " ".join(chance.choices(WORDS, k=8))
    about = Subject("actions.run", str(run), f"run {str(run)[-12:]}")
    first, second = (tool(chance.randrange(TOOLS)) for _ in range(2))
    subject = Subject("actions.action", str(uuid4()), first)
    other = Subject("actions.action", str(uuid4()), second)
    given = {"customer": f"c{chance.randrange(200_000)}", "note": words}
    digest = {"args_digest": f"{chance.getrandbits(256):064x}"}
    decided = {**digest, "arguments": given}
    begun = {"initiator": f"person {number % 900}", "purpose": words, "environment": "prod"}
    allowed = {"outcome": "allowed", "tier": "", "rules": ["permit-all"], "release": 1}
    called = {"tool": first, "attempt": 1, **digest}
    answer = {"result": {"status": "done", "number": chance.randrange(10**6)}}
    seen = {"labels": ["pii"], "classes": [], "access": "write"}
    denied = {"outcome": "denied", "tier": "", "rules": ["not-today"], "release": 1}
    return [
        (kinds.RUN_STARTED, doer, about, begun),
        (kinds.DECISION_MADE, doer, subject, {"tool": first, **allowed, **decided}),
        (kinds.CALL_REQUESTED, doer, subject, called),
        (kinds.CALL_COMPLETED, SYSTEM, subject, {**called, **seen, **answer}),
        (kinds.DECISION_MADE, doer, other, {"tool": second, **denied, **decided}),
        (kinds.RUN_CLOSED, doer, about, {"outcome": "done", "actions": 2, "events": 5}),
    ]


def _at(moment: datetime) -> UUID:
    """A version 7 UUID of that moment."""
    return UUID(int=first_key_at(moment).int | (uuid4().int & ((1 << 62) - 1)))


def now() -> datetime:
    return datetime.now(UTC)
