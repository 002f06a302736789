"""The generation: how a stop or a change reaches every decision not yet committed.

A deciding transaction holds a shared lock and reads the generation; a change holds the exclusive
lock and moves it. So once a change has committed, no decision made before it can still commit.
On SQLite every transaction is IMMEDIATE and so alone.
"""

import secrets
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from django.db import connection

from common.commands import command

P = ParamSpec("P")
R = TypeVar("R")

# Where PostgreSQL tells listeners, at commit, that the generation has moved.
CHANNEL = "chancery_generation"
# Any fixed 63-bit number will do; this one names the lock in pg_locks.
LOCK = 0x6368616E63657279

_READ = "SELECT mark FROM audit_generation WHERE id = 1"


# The statements that follow find rows by key and carry their rows as one parameter: one plan does
# for all of them, and planning each anew would cost as much as running it.
HOLD_SHARED = (
    "SELECT pg_advisory_xact_lock_shared(%s), "
    "set_config('plan_cache_mode', 'force_generic_plan', true)"
)


def hold_shared() -> None:
    """Keep changes out until the current transaction ends. First statement of a decision."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(HOLD_SHARED, [LOCK])


def holding() -> list[tuple[str, list[int]]]:
    """The statement of `hold_shared`, for those that send it together with what follows."""
    return [(HOLD_SHARED, [LOCK])] if connection.vendor == "postgresql" else []


def current_mark() -> int:
    """The mark of the committed state; 0 before the first change."""
    with connection.cursor() as cursor:
        cursor.execute(_READ)
        row = cursor.fetchone()
    return int(row[0]) if row else 0


def hold_exclusive() -> None:
    """Keep decisions out until the current transaction ends. Before any row is locked: a decision
    holds its shared lock when it meets the rows.
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])


def deciding_command(function: Callable[P, R]) -> Callable[P, R]:
    """A command that changes what decisions are made from; see `common.commands.command`."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        hold_exclusive()
        return function(*args, **kwargs)

    return command(run)


def advance() -> None:
    """Move to a new generation, in the transaction that changes what decisions are made from."""
    hold_exclusive()
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO audit_generation (id, number, mark) VALUES (1, 1, %s) "
            "ON CONFLICT (id) DO UPDATE SET number = audit_generation.number + 1, "
            "mark = excluded.mark",
            [secrets.randbits(62) + 1],
        )
        if connection.vendor == "postgresql":
            cursor.execute("SELECT pg_notify(%s, '')", [CHANNEL])
