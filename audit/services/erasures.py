"""Erasing values: asked by one person, approved by another, and never what is held.

The value goes with its salt, so that the digest in the leaf says nothing any more (RFC 9901
section 11.1); the leaf, its place and every proof stay. What is left says which event erased it.
"""

from collections.abc import Collection, Sequence
from uuid import UUID

from auditlog.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db.models import Q, QuerySet

from accounts.models import FormerName
from audit import events
from audit.errors import NothingToErase, TooManyEvents, UnderLegalHold
from audit.event_types import EventType
from audit.leaf_encoding import MAX_ITEMS
from audit.models import Erasure, Event, EventPayload, EventQuerySet
from audit.services.dual_control import decide, person
from audit.services.legal_holds import alone_with_holds, held
from audit.services.recorder import Subject, event_row, record, write_events
from audit.services.search_index import alone_with_index, forget_terms, terms_by_event
from common.actors import Actor
from common.clock import database_now
from common.commands import command
from common.input_checks import clean_reason

MAX_EVENTS = 5_000
BASES = {
    "consent_withdrawn": "consent was withdrawn (GDPR 17(1)(b))",
    "not_needed": "no longer needed (GDPR 17(1)(a))",
    "objection": "the person objects (GDPR 17(1)(c))",
    "unlawful": "should not have been recorded (GDPR 17(1)(d))",
    "legal_duty": "a law demands it (GDPR 17(1)(e))",
}


@command
def ask(
    about: str,
    about_id: str,
    *,
    actor: Actor,
    basis: str,
    purpose: str,
    fields: Sequence[str] = (),
) -> Erasure:
    """Raises NothingToErase, TooManyEvents, HeldEvents, ReasonRequired and PeopleOnly."""
    erasure = Erasure(
        purpose=clean_reason(purpose),
        asked_by_id=person(actor),
        asked_at=database_now(),
        about=about,
        about_id=about_id,
        fields=list(fields),
        basis=basis,
    )
    _erasable(erasure)
    erasure.save()
    record(
        events.ERASURE_ASKED,
        actor=actor,
        subject=erasure,
        about=about,
        basis=basis,
        purpose=erasure.purpose,
    )
    return erasure


@command
def decide_erasure(erasure_id: UUID, *, actor: Actor, approve: bool, reason: str) -> Erasure:
    """Approved, the values are gone with this transaction.

    Raises what `dual_control.decide` and `ask` raise.
    """
    asked = Erasure.objects.select_for_update().filter(pk=erasure_id).first()
    erasure = decide(asked, actor=actor, approve=approve, reason=reason)
    number = 0
    if approve:
        number = _erase(erasure, actor=actor)
        Erasure.objects.filter(pk=erasure.pk).update(events_count=number)
    record(
        events.ERASURE_DECIDED,
        actor=actor,
        subject=erasure,
        answer=erasure.status,
        reason=erasure.decision,
        events=number,
    )
    return erasure


def concerned(erasure: Erasure) -> EventQuerySet:
    """The events that it is about. What others say of a person in words is not found by it."""
    if erasure.about == Erasure.About.RUN:
        return Event.objects.filter(run_id=erasure.about_id)
    if erasure.about == Erasure.About.EVENT:
        return Event.objects.filter(uid=erasure.about_id)
    own = Q(actor_kind="human", actor_id=erasure.about_id)
    return Event.objects.filter(own | Q(subject_kind="accounts.user", subject_id=erasure.about_id))


def _entries(erasure: Erasure) -> QuerySet[LogEntry]:
    """Return the change log's entries about the person themselves; none for other erasures."""
    entries: QuerySet[LogEntry] = LogEntry.objects.all()
    if erasure.about != Erasure.About.PERSON or erasure.fields:
        return entries.none()
    kind = ContentType.objects.get_by_natural_key("accounts", "user")
    return entries.filter(content_type=kind, object_pk=erasure.about_id)


def _empty_entries(erasure: Erasure) -> None:
    """Names and addresses in the change log, and the name under which the person acted; by whom a
    change was is still in the log, by key.
    """
    _entries(erasure).update(
        object_repr="", changes={}, changes_text="", serialized_data=None, actor_email=None,
        remote_addr=None, remote_port=None,
    )  # fmt: skip
    if erasure.about == Erasure.About.PERSON and not erasure.fields:
        _acted(erasure).update(additional_data={}, remote_addr=None, remote_port=None)
        person_id = int(erasure.about_id) if erasure.about_id.isdecimal() else None
        FormerName.objects.filter(person_id=person_id).delete()


def _acted(erasure: Erasure) -> QuerySet[LogEntry]:
    """Entries that name the person as who made the change."""
    acted: QuerySet[LogEntry] = LogEntry.objects.filter(
        additional_data__actor="human", additional_data__id=erasure.about_id
    )
    return acted


def _has_entries(erasure: Erasure) -> bool:
    """Whether the change log says anything of the person that can still go."""
    if erasure.about != Erasure.About.PERSON or erasure.fields:
        return False
    left = _entries(erasure).exclude(object_repr="", changes={}, actor_email=None)
    return left.exists() or _acted(erasure).exists()


def _erasable(erasure: Erasure) -> list[Event]:
    found = concerned(erasure)
    if held(found).exists():
        raise UnderLegalHold
    if erasure.fields:
        found = found.filter(payload__disclosures__has_any_keys=erasure.fields)
    else:
        found = found.exclude(payload__disclosures={})
    chosen = list(found.with_values().order_by("id")[: MAX_EVENTS + 1])
    if len(chosen) > MAX_EVENTS:
        raise TooManyEvents
    if not chosen and not _has_entries(erasure):
        raise NothingToErase
    return chosen


def _fields(event: Event, wanted: Collection[str]) -> list[str]:
    return sorted(name for name in event.payload.disclosures if not wanted or name in wanted)


def _erase(erasure: Erasure, *, actor: Actor) -> int:
    alone_with_holds()
    chosen = _erasable(erasure)
    remove(
        [(one.payload, _fields(one, erasure.fields)) for one in chosen],
        actor=actor,
        subject=Subject.of(erasure),
        because=(events.PAYLOAD_ERASED, {"request": str(erasure.pk), "basis": erasure.basis}),
    )
    _empty_entries(erasure)
    return len(chosen)


def remove(
    chosen: Sequence[tuple[EventPayload, Sequence[str]]],
    *,
    actor: Actor,
    subject: Subject,
    because: tuple[EventType, dict[str, str]],
) -> None:
    """Take these fields out of these payloads; for each batch of one kind an event says so."""
    kind, reasons = because
    uids = [payload.pk for payload, _ in chosen]
    alone_with_index()
    before = terms_by_event(uids)
    alike: dict[tuple[str, ...], list[EventPayload]] = {}
    for payload, fields in chosen:
        alike.setdefault(tuple(fields), []).append(payload)
    rows = []
    for names, payloads in alike.items():
        for at in range(0, len(payloads), MAX_ITEMS):
            batch = payloads[at : at + MAX_ITEMS]
            named = {"erased": [str(one.pk) for one in batch], "fields": list(names)}
            rows.append(event_row(kind, actor=actor, subject=subject, details=named | reasons))
            for payload in batch:
                payload.lose(names, said_by=rows[-1]["uid"])
    write_events(rows)
    forget_terms(before, terms_by_event(uids))
