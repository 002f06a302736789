"""Signals: what has happened outside, kept for the run until a step takes it up."""

import json
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import Count, Sum, TextField
from django.db.models.functions import Cast, Length

from audit.bounded_values import event_value
from audit.services.recorder import record
from common.actors import Actor
from common.canonical import digest, normalise
from common.clock import database_now
from common.commands import command
from common.errors import NotFound
from workflows import events
from workflows.errors import InvalidRunState, SignalReused, TooManySignals
from workflows.models import Signal, WorkflowRun
from workflows.services.wakeups import wake
from workflows.spec_cache import data_class_of, spec_of

# All that wait are matched, one after the other, whenever their run moves.
MAX_WAITING = 100
MAX_WAITING_LENGTH = 1_000_000


@command
def send(
    run_id: UUID,
    *,
    actor: Actor,
    name: str,
    payload: Any,
    key: str,
    identity_id: int | None = None,
) -> tuple[Signal, bool]:
    """The signal, and whether it is new: the same key sent twice is one signal.

    Raises NotFound (also for another agent's run), InvalidRunState if the run has ended,
    SignalReused for the same key with other contents, TooManySignals, NotCanonical for a payload
    that cannot be written down the same everywhere.
    """
    runs = WorkflowRun.objects.filter(pk=run_id)
    if identity_id is not None:
        runs = runs.filter(run__identity_id=identity_id)
    run = runs.select_related("workflow").first()
    if run is None:
        raise NotFound
    payload = normalise(payload)
    found = _known(run_id, key, name, payload)
    if found is not None:
        return found, False
    if run.is_ended:
        raise InvalidRunState
    _ensure_room(run_id, payload)
    try:
        with transaction.atomic():
            signal = Signal.objects.create(
                run=run, name=name, key=key, payload=payload, received_at=database_now()
            )
    except IntegrityError:
        found = _known(run_id, key, name, payload)
        if found is None:
            raise
        return found, False
    data_class = data_class_of(spec_of(run.version_id), parent=run.parent_id, run=run.pk)
    record(
        events.SIGNAL_RECEIVED,
        actor=actor,
        subject=run,
        run_id=run.pk,
        name=name,
        **event_value("payload", payload, data_class),
    )
    wake(run.pk)
    return signal, True


def _ensure_room(run_id: UUID, payload: Any) -> None:
    """Raises TooManySignals. Signals sent at the same moment may exceed the bound by themselves."""
    waiting = Signal.objects.filter(run_id=run_id, consumed_at=None).aggregate(
        count=Count("pk"), length=Sum(Length(Cast("payload", TextField())))
    )
    length = (waiting["length"] or 0) + len(json.dumps(payload))
    if waiting["count"] >= MAX_WAITING or length > MAX_WAITING_LENGTH:
        raise TooManySignals


def _known(run_id: UUID, key: str, name: str, payload: Any) -> Signal | None:
    found = Signal.objects.filter(run_id=run_id, key=key).first()
    if found is not None and (found.name != name or digest(found.payload) != digest(payload)):
        raise SignalReused
    return found
