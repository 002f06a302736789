"""Writing events: in the transaction of the change that they record, or not at all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone

from audit.errors import RecordOutsideTransaction
from audit.event_types import EventType, ensure_declared
from audit.leaf_encoding import encode_event, mac_of
from audit.writer_sequences import next_numbers
from common.actors import Actor
from common.canonical import normalise
from common.encryption import derived_keys
from common.ids import uuid7
from common.request_context import current_request_id
from common.sql import Insert, Row, Write, write

_EVENTS = Insert(
    "audit_event",
    {
        "uid": "uuid",
        "recorded_at": "timestamptz",
        "type": "text",
        "actor_kind": "text",
        "actor_id": "text",
        "subject_kind": "text",
        "subject_id": "text",
        "run_id": "uuid",
        "request_id": "text",
        "writer": "text",
        "writer_number": "bigint",
        "leaf": "text",
        "mac": "bytea",
        "mac_key": "text",
    },
)
_PAYLOADS = Insert(
    "audit_eventpayload",
    {
        "event_id": "uuid",
        "actor_label": "text",
        "subject_label": "text",
        "disclosures": "jsonb",
    },
)


class _Log:
    """The log as a place to write to: an event's row becomes its leaf and what lies beside it.

    Only when the rows are written are they final, and only then does their writer number them.
    """

    def expanded(
        self, connection: BaseDatabaseWrapper, rows: Sequence[Row]
    ) -> list[tuple[Write, Sequence[Row]]]:
        key_id, key = mac_key()
        numbers = next_numbers(connection, len(rows))
        events, payloads = [], []
        for row, number in zip(rows, numbers, strict=True):
            made = encode_event(row, writer=number)
            events.append(
                {name: row[name] for name in _KEPT}
                | {
                    "writer": number[0],
                    "writer_number": number[1],
                    "leaf": made.text,
                    "mac": mac_of(made.text, key),
                    "mac_key": key_id,
                }
            )
            payloads.append(
                {
                    "event_id": row["uid"],
                    **made.labels,
                    "disclosures": dict(made.disclosures),
                }
            )
        return [(_EVENTS, events), (_PAYLOADS, payloads)]


EVENTS = _Log()
_KEPT = (
    "uid",
    "recorded_at",
    "type",
    "actor_kind",
    "actor_id",
    "subject_kind",
    "subject_id",
    "run_id",
    "request_id",
)


def mac_key() -> tuple[str, bytes]:
    """The key that events are authenticated with now, and its id."""
    return next(iter(mac_keys().items()))


def mac_keys() -> Mapping[str, bytes]:
    """By id, the one in use first: derived from the sealing keys, so that there is no other key
    to keep. Every process of the portal has them; nobody in the database does.
    """
    return _mac_keys(settings.ENCRYPTION_KEYS)


@lru_cache(maxsize=4)
def _mac_keys(ring: str) -> Mapping[str, bytes]:
    return derived_keys(ring, purpose="audit event mac")


@dataclass(frozen=True, slots=True)
class Subject:
    """The subject of an event, by name."""

    kind: str
    id: str
    label: str

    @classmethod
    def of(cls, instance: models.Model) -> "Subject":
        return cls(instance._meta.label_lower, str(instance.pk), str(instance)[:200])


def event_row(
    event_type: EventType,
    *,
    actor: Actor,
    subject: Subject,
    run_id: UUID | None = None,
    at: datetime | None = None,
    details: Mapping[str, Any] | None = None,
    vouched: frozenset[str] = frozenset(),
) -> dict[str, Any]:
    """One row of the log, for writers that commit several rows in one statement. `vouched`: see
    `common.redaction.redact`.

    Raises UnknownEvent for an undeclared event or detail.
    """
    given = normalise(dict(details or {}))
    ensure_declared(event_type, frozenset(given))
    return {
        "uid": uuid7(),
        "recorded_at": at or timezone.now(),
        "type": event_type.name,
        "actor_kind": actor.kind,
        "actor_id": actor.id[:64],
        "actor_label": actor.label[:200],
        "subject_kind": subject.kind,
        "subject_id": subject.id,
        "subject_label": subject.label[:200],
        "run_id": run_id,
        "request_id": current_request_id(),
        "details": given,
        "vouched": vouched,
    }


def record(
    event_type: EventType,
    *,
    actor: Actor,
    subject: Subject | models.Model,
    run_id: UUID | None = None,
    **details: Any,
) -> None:
    """Record an event in the caller's transaction.

    Raises RecordOutsideTransaction outside one, UnknownEvent for an undeclared event or detail,
    and the database's own error if the row cannot be written: then the change fails with it.
    """
    if not connection.in_atomic_block:
        message = f"{event_type.name} must be recorded in the transaction of its change"
        raise RecordOutsideTransaction(message)
    named = subject if isinstance(subject, Subject) else Subject.of(subject)
    write_events(
        [event_row(event_type, actor=actor, subject=named, run_id=run_id, details=details)]
    )


def write_events(rows: Sequence[Row]) -> None:
    """Many events in one statement, in the caller's transaction; see `event_row`."""
    write(connection, [(EVENTS, rows)])
