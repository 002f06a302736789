"""The change log of governed records: django-auditlog, anchored in the event log.

Each entry of django-auditlog gets an event in the same transaction, and a change to a record that
decisions depend on moves the generation. Both happen in receivers, so that no command can forget.
"""

from typing import Any

from auditlog.models import LogEntry
from auditlog.registry import auditlog
from django.db import models

from audit import change_capture, events, generation
from audit.services.recorder import Subject, record
from common.actors import SYSTEM, acting_now

_EVENT_OF_ACTION = {
    LogEntry.Action.CREATE: events.RECORD_CREATED,
    LogEntry.Action.UPDATE: events.RECORD_UPDATED,
    LogEntry.Action.DELETE: events.RECORD_DELETED,
}

# People and environments are registered with django-auditlog by their own app, one floor below.
_deciding: set[str] = {"accounts.user", "accounts.environment"}


def govern(
    model: type[models.Model],
    *,
    decides: bool = False,
    hidden: tuple[str, ...] = (),
    ignored: tuple[str, ...] = (),
    sealed: tuple[str, ...] = (),
    related: tuple[str, ...] = (),
) -> None:
    """Record every change of the model's rows.

    `decides`: decisions are made from it, so a change moves the generation. `hidden` fields are
    masked whole, `ignored` ones not recorded, `related` names many-to-many fields to follow.
    `sealed` ones are bytes, which the change log cannot hold: whoever changes one says so by
    `note_sealed`.
    """
    auditlog.register(
        model,
        mask_fields=list(hidden),
        mask_callable="common.redaction.hidden",
        exclude_fields=[*ignored, *sealed],
        m2m_fields=set(related),
    )
    change_capture.watch(model, sealed)
    if decides:
        _deciding.add(model._meta.label_lower)


def note_sealed(instance: models.Model, field: str) -> None:
    """An entry that a sealed value of an existing row was changed, without the value."""
    LogEntry.objects.log_create(
        instance, action=LogEntry.Action.UPDATE, changes={field: ["(hidden)", "(hidden)"]}
    )


def name_the_actor(sender: Any, instance: LogEntry, **kwargs: Any) -> None:
    """Before an entry is saved: put in who acts, as passed to the command."""
    actor = acting_now() or SYSTEM
    instance.additional_data = {"actor": actor.kind, "id": actor.id, "label": actor.label}
    instance.actor_id = int(actor.id) if actor.kind == "human" else None


def anchor(sender: Any, instance: LogEntry, created: bool, **kwargs: Any) -> None:  # noqa: FBT001 - Django's signature
    """After an entry is saved: its event, and the next generation if decisions depend on it."""
    if not created:
        return
    content_type = instance.content_type
    label = f"{content_type.app_label}.{content_type.model}"
    changes = instance.changes_dict
    related = change_capture.is_related(instance)
    record(
        events.RECORD_RELATED_CHANGED if related else _EVENT_OF_ACTION[instance.action],
        actor=acting_now() or SYSTEM,
        # Names of fields, not values: the entry can be erased one day, the event cannot.
        subject=Subject(label, str(instance.object_pk)[:64], f"{label} {instance.object_pk}"),
        model=label,
        pk=str(instance.object_pk),
        entry=instance.pk,
        changes=sorted(changes),
    )
    if label in _deciding:
        generation.advance()
