"""Sending sealed events to the sinks, each in the log's order from where it stands.

What is sent goes out without a transaction: a sink that hangs holds no lock. A lease keeps two
workers from delivering the same; one that lost it notes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID, uuid4

from django.db import transaction

from audit import events
from audit.models import Leaf, SinkState
from audit.services.access_log import LOG
from audit.services.recorder import record
from audit.sinks.formats import Sealed
from audit.sinks.transports import Sink, Undelivered, sinks
from common.actors import SYSTEM
from common.clock import database_now
from common.isolation import each

BATCH = 500
MOST_AT_ONCE = 20
# Longer than a delivery can take; see `audit.sinks.transports.TIMEOUT`.
LEASE = timedelta(minutes=2)


def forward_all() -> int:
    """Deliver what is new to each sink; how many events, by all of them together."""
    return sum(each(sinks(), _forward, what="sink"))


def _forward(sink: Sink) -> int:
    total = 0
    for _ in range(MOST_AT_ONCE):
        number = _one_batch(sink)
        if not number:
            break
        total += number
    return total


@dataclass(frozen=True, slots=True)
class _Order:
    """A batch that this process delivers, and nobody else until the lease is over."""

    sink: Sink
    lease: UUID
    batch: Sequence[Sealed]

    @property
    def end(self) -> int:
        return self.batch[-1].seq + 1


def _one_batch(sink: Sink) -> int:
    order = _lease_batch(sink)
    if order is None:
        return 0
    try:
        sink.deliver(order.batch)
    except Undelivered as error:
        _note_trouble(order, error.code)
        return 0
    return len(order.batch) if _note_delivered(order) else 0


@transaction.atomic
def _lease_batch(sink: Sink) -> _Order | None:
    """Lease the next batch to this process; None if there is none, or another process has it.

    What was delivered and not noted, because that process ended, comes again as the same batch.
    """
    SinkState.objects.get_or_create(name=sink.name)
    state = SinkState.objects.select_for_update().get(name=sink.name)
    now = database_now()
    if state.leased_until is not None and state.leased_until > now:
        return None
    batch = _following(state.next_seq, state.end_seq)
    if not batch:
        return None
    order = _Order(sink, uuid4(), batch)
    state.lease, state.leased_until, state.end_seq = order.lease, now + LEASE, order.end
    state.save()
    return order


def _following(start: int, end: int | None) -> Sequence[Sealed]:
    rows = Leaf.objects.filter(seq__gte=start).order_by("seq")
    if end is not None:
        rows = rows.filter(seq__lt=end)
    found = rows.values_list("seq", "event__leaf", "hash")[:BATCH]
    return [Sealed(number, text, bytes(hashed)) for number, text, hashed in found]


@transaction.atomic
def _note_delivered(order: _Order) -> bool:
    state = _still_leased(order)
    if state is None:
        return False
    state.next_seq, state.delivered_at = order.end, database_now()
    state.end_seq = state.lease = state.leased_until = None
    state.trouble, state.since = "", None
    state.save()
    return True


@transaction.atomic
def _note_trouble(order: _Order, code: str) -> None:
    """An event when it begins: what is wrong may be called otherwise each time."""
    state = _still_leased(order)
    if state is None:
        return
    state.lease = state.leased_until = None
    is_new = not state.trouble
    # Since when nothing was taken, whatever the word for it.
    state.trouble, state.since = code, state.since or database_now()
    state.save()
    if is_new:
        record(
            events.SINK_REFUSED, actor=SYSTEM, subject=LOG, sink=state.name, error=code,
            number=state.next_seq,
        )  # fmt: skip


def _still_leased(order: _Order) -> SinkState | None:
    held = SinkState.objects.select_for_update()
    return held.filter(name=order.sink.name, lease=order.lease).first()
