from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection, models
from django.utils import timezone

from audit.errors import RecordOutsideTransaction
from audit.vocabulary import EventType, ensure_declared
from common.actors import Actor
from common.canonical import normalised
from common.ids import uuid7
from common.requests import current_request_id
from common.sql import Insert, write

EVENTS = Insert(
    "audit_event",
    {
        "uid": "uuid",
        "recorded_at": "timestamptz",
        "type": "text",
        "actor_kind": "text",
        "actor_id": "text",
        "actor_label": "text",
        "subject_kind": "text",
        "subject_id": "text",
        "subject_label": "text",
        "run_id": "uuid",
        "request_id": "text",
        "details": "jsonb",
    },
)


@dataclass(frozen=True, slots=True)
class Subject:
    """What an event is about, by name."""

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
) -> dict[str, Any]:
    """One row of the log, for writers that commit several rows in one statement.

    Raises UnknownEvent for an undeclared event or detail.
    """
    given = normalised(dict(details or {}))
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
    row = event_row(event_type, actor=actor, subject=named, run_id=run_id, details=details)
    write(connection, [(EVENTS, [row])])
