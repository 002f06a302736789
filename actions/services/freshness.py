"""Whether the facts of a call still hold when it is decided.

Facts are read before the deciding transaction, and what they tell of may change meanwhile:

1. While a call that may change something is being made in the run, on the same system, or one that
   shares the tool's `exclusive_by` value in any run, nothing is read: the call waits its turn.
2. What was counted of such calls is noted, then the facts are read.
3. Under the run's lock, and that of the exclusive key, the counts are compared; if one moved, the
   facts are read again.

What something else than the portal changes in the meantime, no lock here can see.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from actions.errors import CallInFlight
from actions.models import Action, Attempt, ExclusiveKey, Run
from common.canonical import digest
from tools.catalog import Catalog
from tools.definitions import ToolSpec

# How long an agent's request waits for another call; a executor and a worker come back instead.
PATIENCE_SECONDS = 10.0
_PAUSE_SECONDS, _MAX_PAUSE_SECONDS = 0.02, 0.25


@dataclass(frozen=True, slots=True)
class ReadAt:
    """Counters read before the facts were; `key` is empty if the tool shares nothing."""

    effects: int
    key: str = ""
    turns: int = 0


def exclusive_key(spec: ToolSpec, arguments: Mapping[str, Any], environment: str) -> str:
    """Return the key shared by calls of the system with the same argument value; or nothing."""
    if not spec.exclusive_by:
        return ""
    name = spec.exclusive_by
    return digest([spec.system, environment, name, arguments.get(name)])


def wait_for_turn(
    run_id: UUID,
    spec: ToolSpec,
    arguments: Mapping[str, Any],
    *,
    environment: str,
    catalog: Catalog,
    idempotency_key: str,
    patience: float,
    answered: UUID | None = None,
) -> ReadAt | None:
    """The counts to read facts by, once no other call is under way; None if nothing depends on it.

    A request that is repeated waits for nothing: it gets its answer. `answered`: an action whose
    call is over, though that is not written down yet. Raises CallInFlight once `patience` (seconds)
    is over.
    """
    key = exclusive_key(spec, arguments, environment)
    if not spec.sources and not key:
        return None
    if key:
        ExclusiveKey.objects.get_or_create(key=key)
    deadline, pause = time.monotonic() + patience, _PAUSE_SECONDS
    while True:
        found = _read_at(run_id, key)
        if not _is_under_way(run_id, spec, key, catalog, answered=answered):
            return found
        if Action.objects.filter(run_id=run_id, idempotency_key=idempotency_key).exists():
            return found
        if time.monotonic() + pause > deadline:
            raise CallInFlight
        time.sleep(pause)
        pause = min(2 * pause, _MAX_PAUSE_SECONDS)


def _read_at(run_id: UUID, key: str) -> ReadAt:
    effects = Run.objects.filter(pk=run_id).values_list("effects_count", flat=True).first() or 0
    if not key:
        return ReadAt(effects)
    turns = ExclusiveKey.objects.filter(pk=key).values_list("turns", flat=True).get()
    return ReadAt(effects, key, turns)


def _is_under_way(
    run_id: UUID, spec: ToolSpec, key: str, catalog: Catalog, *, answered: UUID | None
) -> bool:
    """Looked at after the counts were noted: what begins in between has moved them."""
    begun = Attempt.objects.filter(status=Attempt.Status.STARTED)
    if key and begun.filter(exclusive_key=key).exists():
        return True
    if not spec.sources:
        return False
    prefix = f"{spec.system}."
    names = begun.filter(action__run_id=run_id, action__tool__startswith=prefix)
    if answered is not None:
        names = names.exclude(action_id=answered)
    return any(
        name not in catalog.tools or catalog.tools[name].access != "read"
        for name in names.values_list("action__tool", flat=True)
    )


def locked_turns(keys: Iterable[str]) -> dict[str, int]:
    """The turns of these keys, locked until the transaction ends; after the runs, everywhere."""
    wanted = {key for key in keys if key}
    if not wanted:
        return {}
    rows = ExclusiveKey.objects.select_for_update().filter(pk__in=wanted).order_by("pk")
    return dict(rows.values_list("key", "turns"))


def is_current(read_at: ReadAt | None, *, effects: int, turns: Mapping[str, int]) -> bool:
    """Whether nothing was begun since the facts were read; the run and the key are locked."""
    if read_at is None:
        return True
    is_own_turn = not read_at.key or turns.get(read_at.key) == read_at.turns
    return read_at.effects == effects and is_own_turn
