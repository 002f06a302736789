"""The index that events are found by: made from sealed events, behind the sealer, and made anew
for events that lost values.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from uuid import UUID

from django.db import connection, transaction

from audit import blind_index
from audit.models import Event, IndexMark, Leaf, Term
from common.isolation import each

BATCH = 2_000
MOST_AT_ONCE = 20


def index(*, limit: int = BATCH) -> int:
    """Index events that were sealed since; how many. No more than MOST_AT_ONCE batches: a worker
    has other work to do.
    """
    total = 0
    for _ in range(MOST_AT_ONCE):
        number = _index_batch(limit)
        total += number
        if number < limit:
            break
    return total


@transaction.atomic
def _index_batch(limit: int) -> int:
    mark = alone_with_index()
    found = Leaf.objects.filter(seq__gte=mark.next_seq).order_by("seq")
    places = list(found.values_list("seq", "event_id")[:limit])
    if places:
        add_terms(Event.objects.filter(pk__in=[event for _, event in places]).with_values())
        mark.next_seq = places[-1][0] + 1
        mark.save()
    return len(places)


def alone_with_index() -> IndexMark:
    """Until the transaction ends nobody else indexes: what is read of an event is what it has."""
    IndexMark.objects.get_or_create(pk=1)
    return IndexMark.objects.select_for_update().get(pk=1)


def behind() -> int:
    """Count the sealed events that are not indexed yet."""
    mark = IndexMark.objects.filter(pk=1).first()
    last = Leaf.objects.order_by("-seq").values_list("seq", flat=True).first()
    return (0 if last is None else last + 1) - (mark.next_seq if mark else 0)


def add_terms(events: Iterable[Event]) -> None:
    chosen = list(events)
    agents = _agents_of({one.run_id for one in chosen if one.run_id})
    # An event whose words cannot be read is not found by them, and keeps no other from being.
    found = each(
        chosen, lambda one: {(term, one.pk) for term in _terms_of(one, agents)}, what="event"
    )
    _write(sorted(set().union(*found)))


def terms_by_event(uids: Sequence[UUID]) -> dict[int, set[int]]:
    """By what these events are found, from what they have now."""
    chosen = list(Event.objects.filter(uid__in=uids).with_values())
    agents = _agents_of({one.run_id for one in chosen if one.run_id})
    return {one.pk: _terms_of(one, agents) for one in chosen}


def forget_terms(before: Mapping[int, set[int]], after: Mapping[int, set[int]]) -> None:
    """Remove the terms of values that events no longer have."""
    for number, terms_before in before.items():
        gone = terms_before - after.get(number, set())
        Term.objects.filter(event_number=number, term__in=gone).delete()


def _terms_of(event: Event, agents: dict[UUID, str]) -> set[int]:
    found = blind_index.words_beside(event.values())
    found |= {blind_index.about(event.subject_id), blind_index.about(event.subject_label)}
    plain = event.plain()
    if isinstance(plain.get("tool"), str):
        found.add(blind_index.tool(plain["tool"]))
    if event.actor_kind == "agent":
        found.add(blind_index.agent(event.actor_id))
    if event.run_id in agents:
        found.add(blind_index.agent(agents[event.run_id]))
    return found


def _agents_of(runs: Collection[UUID]) -> dict[UUID, str]:
    """Whose each run is, by the event that began it: a schedule begins runs of agents, too."""
    found = {}
    for one in Event.objects.filter(type="run.started", run_id__in=runs):
        began = one.actor_id if one.actor_kind == "agent" else ""
        agent = one.plain().get("agent") or began
        if agent and one.run_id:
            found[one.run_id] = agent
    return found


def _write(pairs: Sequence[tuple[int, int]]) -> None:
    if not pairs:
        return
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(
                "INSERT INTO audit_term (term, event_number) "
                "SELECT * FROM unnest(%s::bigint[], %s::bigint[]) ON CONFLICT DO NOTHING",
                [[term for term, _ in pairs], [number for _, number in pairs]],
            )
        else:
            cursor.executemany(
                "INSERT OR IGNORE INTO audit_term (term, event_number) VALUES (%s, %s)", pairs
            )
