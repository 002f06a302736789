"""The tables whose changes are captured: those of every record in the change log."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

from auditlog.models import LogEntry
from auditlog.registry import auditlog
from django.db import connection, models

from common.change_triggers import NOTES, Noticed, install

ENTRIES = LogEntry._meta.label_lower


# Columns that the change log leaves out and that are noticed all the same.
_watched: set[tuple[str, str]] = set()


def watch(model: type[models.Model], fields: Iterable[str]) -> None:
    _watched.update((model._meta.label_lower, field) for field in fields)


@dataclass(frozen=True, slots=True)
class Spoken:
    """A table whose changes are explained by events instead of the change log: by those of these
    types, each for one change, which name the row as their subject or in the detail `by`.
    """

    table: Noticed
    types: frozenset[str]
    by: str = ""


_spoken: dict[str, Spoken] = {}


def expect_events(
    model: type[models.Model],
    columns: Iterable[str],
    types: Iterable[str],
    *,
    key: str = "",
    by: str = "",
    changes: Iterable[str] = ("update",),
    when: str = "",
) -> None:
    """Have changes of these columns noticed, and reported unless an event says so; see `Spoken`.

    `key`: the column that names the row for the event, if not the primary key.
    """
    watched, label = set(columns), model._meta.label_lower
    every = [str(one.column) for one in model._meta.concrete_fields]
    row = key or str(model._meta.pk.column)
    left_out = [name for name in every if name not in watched]
    table = Noticed(
        model._meta.db_table, label, row, every, left_out, changes=tuple(changes), when=when
    )
    _spoken[label] = Spoken(table, frozenset(types), by)


def spoken() -> dict[str, Spoken]:
    return dict(_spoken)


def noticed() -> list[Noticed]:
    found = [
        Noticed(
            LogEntry._meta.db_table,
            ENTRIES,
            "object_pk",
            (),
            operation="action",
            also="id",
        )
    ]
    for model in auditlog.get_models():
        found.append(_of(model))
        found += [_of_relation(relation, rows) for relation, rows in _relations(model)]
    return found + [one.table for one in _spoken.values()]


def _of(model: type[models.Model]) -> Noticed:
    fields = model._meta.concrete_fields
    # The moment of the last save is set after the change log has compared.
    moments = {one.name for one in fields if getattr(one, "auto_now", False)}
    excluded = set(auditlog.get_model_fields(model)["exclude_fields"])
    label = model._meta.label_lower
    left_out = moments | {name for name in excluded if (label, name) not in _watched}
    columns = {one.name: str(one.column) for one in fields}
    return Noticed(
        model._meta.db_table,
        label,
        str(model._meta.pk.column),
        list(columns.values()),
        [column for name, column in columns.items() if name in left_out],
    )


def _relations(model: type[models.Model]) -> list[tuple[Any, type[models.Model]]]:
    """Many-to-many fields whose rows are nothing but the relation, with the model of those rows."""
    pairs = [(one, one.remote_field.through) for one in model._meta.many_to_many]
    return [(one, rows) for one, rows in pairs if rows is not None and rows._meta.auto_created]


def _of_relation(relation: Any, rows: type[models.Model]) -> Noticed:
    columns = [str(one.column) for one in rows._meta.concrete_fields]
    return Noticed(rows._meta.db_table, rows._meta.label_lower, relation.m2m_column_name(), columns)


@cache
def related_owners() -> dict[str, str]:
    """By the label of a relation's table: that of the record which its rows belong to."""
    return {
        rows._meta.label_lower: model._meta.label_lower
        for model in auditlog.get_models()
        for _, rows in _relations(model)
    }


def is_related(entry: LogEntry) -> bool:
    """Whether an entry of the change log says who belongs to what."""
    changes = (entry.changes_dict or {}).values()
    return any(isinstance(one, dict) and one.get("type") == "m2m" for one in changes)


def notice(sender: object, **kwargs: object) -> None:
    """After migrations: every table that there is, again, since a rebuilt table has lost its
    triggers.
    """
    there = set(connection.introspection.table_names())
    if NOTES in there:
        install(connection, [one for one in noticed() if one.table in there])
