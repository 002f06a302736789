"""Sending sealed events to the sinks, each in the log's order from where it stands."""

from collections.abc import Sequence

from django.db import transaction

from audit import events
from audit.models import Leaf, SinkState
from audit.services.inspecting import LOG
from audit.services.recording import record
from audit.sinks.shapes import Sealed
from audit.sinks.targets import Sink, Undelivered, sinks
from common.actors import SYSTEM
from common.clock import database_now

BATCH = 500
MOST_AT_ONCE = 20


def forward_all() -> int:
    """Deliver what is new to each sink; how many events, by all of them together."""
    return sum(_forwarded(one) for one in sinks())


def _forwarded(sink: Sink) -> int:
    total = 0
    for _ in range(MOST_AT_ONCE):
        number = _one_batch(sink)
        total += number
        if number < BATCH:
            break
    return total


@transaction.atomic
def _one_batch(sink: Sink) -> int:
    """The sink's row is locked meanwhile: two workers do not deliver the same. What was delivered
    and not noted, because this process ended, is delivered again.
    """
    SinkState.objects.get_or_create(name=sink.name)
    state = SinkState.objects.select_for_update().get(name=sink.name)
    batch = _following(state.next_seq)
    if not batch:
        return 0
    try:
        sink.deliver(batch)
    except Undelivered as error:
        _note_trouble(state, error.code)
        return 0
    state.next_seq, state.delivered_at = batch[-1].seq + 1, database_now()
    state.trouble, state.since = "", None
    state.save()
    return len(batch)


def _following(seq: int) -> Sequence[Sealed]:
    rows = (
        Leaf.objects.filter(seq__gte=seq).order_by("seq").values_list("seq", "event__leaf", "hash")
    )
    return [Sealed(number, text, bytes(hashed)) for number, text, hashed in rows[:BATCH]]


def _note_trouble(state: SinkState, code: str) -> None:
    """An event when it begins or changes, not each time it is found again."""
    if state.trouble == code:
        return
    # Since when nothing was taken, whatever the word for it.
    state.trouble, state.since = code, state.since or database_now()
    state.save()
    record(
        events.SINK_REFUSED, actor=SYSTEM, subject=LOG, sink=state.name, error=code,
        number=state.next_seq,
    )  # fmt: skip
