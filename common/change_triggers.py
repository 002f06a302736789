"""Triggers that note every change of a table, also one that passes by the portal.

What is noted lies in one table, `audit_dbchange`: which row, what was done to it, which columns
changed, by which database user, in which transaction. The triggers say nothing of values.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from django.db.backends.base.base import BaseDatabaseWrapper

NOTES = "audit_dbchange"

# With a path of its own: a table of the same name in a session's own schema takes no note.
_FUNCTION = f"""
CREATE OR REPLACE FUNCTION {NOTES}_note() RETURNS trigger LANGUAGE plpgsql
SET search_path = {{schema}}, pg_temp AS $$
DECLARE
  ignored text[] := string_to_array(TG_ARGV[1], ',');
  changed text;
  old_row jsonb := to_jsonb(OLD);
  new_row jsonb := to_jsonb(NEW);
  kept jsonb := coalesce(new_row, old_row);
BEGIN
  IF TG_OP = 'TRUNCATE' THEN
    INSERT INTO {NOTES} (at, transaction, "table", row, operation, columns, database_user)
      VALUES (clock_timestamp(), pg_current_xact_id()::text, TG_ARGV[2], '', 'truncate', '',
              session_user);
    RETURN NULL;
  END IF;
  IF TG_OP = 'UPDATE' THEN
    SELECT string_agg(n.key, ',' ORDER BY n.key) INTO changed
      FROM jsonb_each(new_row) AS n JOIN jsonb_each(old_row) AS o ON o.key = n.key
      WHERE n.value IS DISTINCT FROM o.value AND NOT n.key = ANY (ignored);
    IF changed IS NULL THEN RETURN NULL; END IF;
  END IF;
  INSERT INTO {NOTES} (at, transaction, "table", row, operation, columns, database_user)
    VALUES (clock_timestamp(), pg_current_xact_id()::text, TG_ARGV[2], kept ->> TG_ARGV[0],
            CASE WHEN TG_ARGV[3] <> '' THEN kept ->> TG_ARGV[3] ELSE lower(TG_OP) END,
            CASE WHEN TG_ARGV[4] <> '' THEN kept ->> TG_ARGV[4]
                 ELSE left(coalesce(changed, ''), 500) END, session_user);
  RETURN NULL;
END $$
"""  # noqa: S608 - names are ours


@dataclass(frozen=True, slots=True)
class Noticed:
    """A table whose changes are noted under `label`. `key`: the column that names the row;
    `ignored`: columns whose change alone is none; `operation`: a column that says what was done,
    where it is not what was done to the row, and `also` one kept beside it. `changes`:
    which of insert, update and delete are noted; `when`: SQL over OLD and NEW, for updates alone.
    """

    table: str
    label: str
    key: str
    columns: Sequence[str]
    ignored: Sequence[str] = ()
    operation: str = ""
    also: str = ""
    changes: Sequence[str] = ("insert", "update", "delete")
    when: str = ""


def install(connection: BaseDatabaseWrapper, noticed: Sequence[Noticed]) -> None:
    """Have these tables noticed; safe to repeat, and needed again after a table was rebuilt."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT quote_ident(current_schema())")
            cursor.execute(_FUNCTION.format(schema=cursor.fetchone()[0]))
        for one in noticed:
            made = _on_postgresql(one) if connection.vendor == "postgresql" else _on_sqlite(one)
            for statement in made:
                cursor.execute(statement)


def _on_postgresql(one: Noticed) -> list[str]:
    name = f"{one.table}_noticed"
    parts = (one.key, ",".join(one.ignored), one.label, one.operation, one.also)
    given = ", ".join(f"'{part}'" for part in parts)
    events = "INSERT" if one.operation else " OR ".join(one.changes).upper()
    when = f"WHEN ({one.when}) " if one.when else ""
    return [
        f"DROP TRIGGER IF EXISTS {name} ON {one.table}",
        f"CREATE TRIGGER {name} AFTER {events} ON {one.table} "
        f"FOR EACH ROW {when}EXECUTE FUNCTION {NOTES}_note({given})",
        f"DROP TRIGGER IF EXISTS {name}_emptied ON {one.table}",
        f"CREATE TRIGGER {name}_emptied AFTER TRUNCATE ON {one.table} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION {NOTES}_note({given})",
        f"ALTER TABLE {one.table} ENABLE ALWAYS TRIGGER {name}",
        f"ALTER TABLE {one.table} ENABLE ALWAYS TRIGGER {name}_emptied",
    ]


def remove(connection: BaseDatabaseWrapper) -> None:
    """Have nothing noticed any more, as before the table of notes is taken away."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            # With the function all triggers that call it.
            cursor.execute(f"DROP FUNCTION IF EXISTS {NOTES}_note() CASCADE")
            return
        cursor.execute(
            "SELECT name FROM sqlite_master WHERE type = 'trigger' AND sql LIKE %s",
            [f"%INSERT INTO {NOTES} %"],
        )
        for (name,) in cursor.fetchall():
            cursor.execute(f"DROP TRIGGER {name}")


def _on_sqlite(one: Noticed) -> list[str]:
    watched = [name for name in one.columns if name not in one.ignored]
    changed = " || ".join(
        f"CASE WHEN NEW.\"{c}\" IS NOT OLD.\"{c}\" THEN '{c},' ELSE '' END" for c in watched
    )
    met = " OR ".join(f'NEW."{c}" IS NOT OLD."{c}"' for c in watched)
    into = f'INSERT INTO {NOTES} (at, "transaction", "table", "row", operation, columns, '
    into += "database_user) VALUES (strftime('%Y-%m-%d %H:%M:%f', 'now'), ''"
    found = []
    for event in ("insert",) if one.operation else one.changes:
        row = "OLD" if event == "delete" else "NEW"
        done = f'{row}."{one.operation}"' if one.operation else f"'{event}'"
        columns = f"rtrim({changed}, ',')" if event == "update" else "''"
        columns = f'{row}."{one.also}"' if one.also else columns
        condition = f"({met}) AND ({one.when})" if one.when else met
        when = f"WHEN {condition} " if event == "update" else ""
        name = f"{one.table}_noticed_{event}"
        given = f"'{one.label}', {row}.\"{one.key}\", {done}, {columns}, ''"
        trigger = f"CREATE TRIGGER {name} AFTER {event.upper()} ON {one.table} {when}"
        found += [f"DROP TRIGGER IF EXISTS {name}", f"{trigger}BEGIN {into}, {given}); END"]
    return found
