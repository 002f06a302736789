"""Rules about rows that the database itself keeps, on PostgreSQL and SQLite.

Python guards are courtesy: raw SQL passes them. These triggers do not let it pass. A person who
owns the database can still drop them, which is what the sealed log is for.
"""

from collections.abc import Sequence

from django.db.backends.base.base import BaseDatabaseWrapper

# A test database is emptied between tests with TRUNCATE; a real one never is.
_POSTGRESQL_FUNCTION = """
CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'TRUNCATE' AND current_database() LIKE 'test\\_%' THEN RETURN NULL; END IF;
  RAISE EXCEPTION '{table} is append-only' USING ERRCODE = 'integrity_constraint_violation';
END $$
"""


def append_only(table: str, *, unique: Sequence[str] = ("id",)) -> dict[str, list[str]]:
    """Statements, per vendor, that refuse every change and removal of the table's rows.

    SQLite's `INSERT OR REPLACE` deletes without firing a delete trigger, so there an insert
    that meets an existing value of a `unique` column is refused before it can replace.
    """
    function = f"{table}_append_only"
    postgresql = [
        _POSTGRESQL_FUNCTION.format(name=function, table=table),
        *_guards(table, function),
    ]
    refusal = f"SELECT RAISE(ABORT, '{table} is append-only')"
    met = " OR ".join(f"EXISTS (SELECT 1 FROM {table} WHERE {c} = NEW.{c})" for c in unique)  # noqa: S608
    sqlite = [
        f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} BEGIN {refusal}; END",
        f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} BEGIN {refusal}; END",
        f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} WHEN {met} "
        f"BEGIN {refusal}; END",
    ]
    return {"postgresql": postgresql, "sqlite": sqlite}


def _guards(table: str, function: str) -> list[str]:
    """PostgreSQL's triggers for every change of the table, which a replica role does not escape."""
    return [
        *(
            f"CREATE TRIGGER {table}_no_{name} BEFORE {operation} ON {table} "
            f"FOR EACH {scope} EXECUTE FUNCTION {function}()"
            for name, operation, scope in (
                ("change", "UPDATE OR DELETE", "ROW"),
                ("truncate", "TRUNCATE", "STATEMENT"),
            )
        ),
        f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_no_change",
        f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_no_truncate",
    ]


def frozen_columns(
    table: str, columns: Sequence[str], *, never: Sequence[str] = (), key: str = "id"
) -> dict[str, list[str]]:
    """Statements, per vendor, that keep rows: these columns never change once a row exists, an
    update that meets one of the conditions in `never` is refused, and no row is removed or
    replaced. Conditions are SQL over OLD and NEW that both databases understand.
    """
    function = f"{table}_frozen"
    changed_pg = " OR ".join((*(f"NEW.{c} IS DISTINCT FROM OLD.{c}" for c in columns), *never))
    changed_lite = " OR ".join((*(f"NEW.{c} IS NOT OLD.{c}" for c in columns), *never))
    message = f"{table}: what was decided on cannot be changed"
    postgresql = [
        f"""
        CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
          IF TG_OP = 'DELETE' THEN
            RAISE EXCEPTION '{message}' USING ERRCODE = 'integrity_constraint_violation';
          END IF;
          IF {changed_pg} THEN
            RAISE EXCEPTION '{message}' USING ERRCODE = 'integrity_constraint_violation';
          END IF;
          RETURN NEW;
        END $$
        """,
        f"CREATE TRIGGER {table}_frozen BEFORE UPDATE OR DELETE ON {table} "
        f"FOR EACH ROW EXECUTE FUNCTION {function}()",
    ]
    refusal = f"BEGIN SELECT RAISE(ABORT, '{message}'); END"
    met = f"EXISTS (SELECT 1 FROM {table} WHERE {key} = NEW.{key})"  # noqa: S608 - names are ours
    sqlite = [
        f"CREATE TRIGGER {table}_frozen BEFORE UPDATE ON {table} WHEN {changed_lite} {refusal}",
        f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} {refusal}",
        f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} WHEN {met} {refusal}",
    ]
    return {"postgresql": postgresql, "sqlite": sqlite}


def never_truncated(table: str) -> list[str]:
    """PostgreSQL's statements that refuse to empty the table at once; also for replicas."""
    function = f"{table}_kept"
    return [
        _POSTGRESQL_FUNCTION.format(name=function, table=table),
        f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION {function}()",
        f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_no_truncate",
        f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_frozen",
    ]


def losing_only(table: str, *, key: str, labels: Sequence[str]) -> dict[str, list[str]]:
    """Statements, per vendor, that let a row lose values and nothing else: what leaves the JSON
    object `disclosures` must be named in `erased`, where it stays, and a label may be emptied.
    """
    message = f"{table} can only lose values"
    changed = " OR ".join(f"NEW.{c} <> OLD.{c} AND NEW.{c} <> ''" for c in labels)
    changed = f"NEW.{key} <> OLD.{key} OR {changed}"
    return {
        "postgresql": _losing_on_postgresql(table, changed, message),
        "sqlite": _losing_on_sqlite(table, changed, message, key),
    }


def _losing_on_postgresql(table: str, changed: str, message: str) -> list[str]:
    function = f"{table}_losing"
    return [
        f"""
        CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
          IF TG_OP = 'TRUNCATE' AND current_database() LIKE 'test\\_%' THEN RETURN NULL; END IF;
          IF TG_OP <> 'UPDATE' OR {changed}
            OR NOT OLD.disclosures @> NEW.disclosures OR NOT NEW.erased @> OLD.erased
            OR EXISTS (SELECT 1 FROM jsonb_object_keys(OLD.disclosures) AS k
                       WHERE NOT NEW.disclosures ? k AND NOT NEW.erased ? k)
            OR EXISTS (SELECT 1 FROM jsonb_object_keys(NEW.erased) AS k
                       WHERE NEW.disclosures ? k OR NOT (OLD.erased ? k OR OLD.disclosures ? k))
          THEN RAISE EXCEPTION '{message}' USING ERRCODE = 'integrity_constraint_violation'; END IF;
          RETURN NEW;
        END $$
        """,  # noqa: S608 - names are ours
        *_guards(table, function),
    ]


def _losing_on_sqlite(table: str, changed: str, message: str, key: str) -> list[str]:
    there = "EXISTS (SELECT 1 FROM json_each({}) AS o WHERE o.key = n.key AND o.value = n.value)"
    named = "EXISTS (SELECT 1 FROM json_each({}) AS o WHERE o.key = n.key)"
    is_kept, is_erased = named.format("NEW.disclosures"), named.format("NEW.erased")
    was = f"({named.format('OLD.erased')} OR {named.format('OLD.disclosures')})"
    wrong = {
        "NEW.disclosures": f"NOT {there.format('OLD.disclosures')}",
        "OLD.erased": f"NOT {there.format('NEW.erased')}",
        "OLD.disclosures": f"NOT {is_kept} AND NOT {is_erased}",
        "NEW.erased": f"{is_kept} OR NOT {was}",
    }
    grown = " OR ".join(
        f"EXISTS (SELECT 1 FROM json_each({given}) AS n WHERE {condition})"  # noqa: S608 - ours
        for given, condition in wrong.items()
    )
    met = f"EXISTS (SELECT 1 FROM {table} WHERE {key} = NEW.{key})"  # noqa: S608 - names are ours
    refusal = f"BEGIN SELECT RAISE(ABORT, '{message}'); END"
    return [
        f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} "
        f"WHEN {changed} OR {grown} {refusal}",
        f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} {refusal}",
        f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} WHEN {met} {refusal}",
    ]


def inserted_only(table: str, *, when: str) -> dict[str, list[str]]:
    """Statements, per vendor, that refuse new rows for which the condition over NEW fails."""
    function, message = f"{table}_begins", f"{table}: a row begins undecided"
    return {
        "postgresql": [
            f"""
            CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
              IF NOT ({when}) THEN
                RAISE EXCEPTION '{message}' USING ERRCODE = 'integrity_constraint_violation';
              END IF;
              RETURN NEW;
            END $$
            """,
            f"CREATE TRIGGER {function} BEFORE INSERT ON {table} "
            f"FOR EACH ROW EXECUTE FUNCTION {function}()",
        ],
        "sqlite": [
            f"CREATE TRIGGER {function} BEFORE INSERT ON {table} WHEN NOT ({when}) "
            f"BEGIN SELECT RAISE(ABORT, '{message}'); END"
        ],
    }


def inserted_removal(table: str) -> dict[str, list[str]]:
    """Statements, per vendor, that take `inserted_only` away."""
    return {
        "postgresql": [f"DROP TRIGGER IF EXISTS {table}_begins ON {table}"],
        "sqlite": [f"DROP TRIGGER IF EXISTS {table}_begins"],
    }


def removal(table: str) -> dict[str, list[str]]:
    """Statements, per vendor, that take away every trigger made here."""
    names = ("no_change", "no_truncate", "frozen")
    postgresql = [f"DROP TRIGGER IF EXISTS {table}_{name} ON {table}" for name in names]
    lite = ("no_update", "no_delete", "no_replace", "frozen")
    return {
        "postgresql": postgresql,
        "sqlite": [f"DROP TRIGGER IF EXISTS {table}_{name}" for name in lite],
    }


def run(connection: BaseDatabaseWrapper, statements: dict[str, list[str]]) -> None:
    with connection.cursor() as cursor:
        for statement in statements[connection.vendor]:
            cursor.execute(statement)
