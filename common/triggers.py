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
    refusal = f"SELECT RAISE(ABORT, '{table} is append-only')"
    met = " OR ".join(f"EXISTS (SELECT 1 FROM {table} WHERE {c} = NEW.{c})" for c in unique)  # noqa: S608
    sqlite = [
        f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} BEGIN {refusal}; END",
        f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} BEGIN {refusal}; END",
        f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} WHEN {met} "
        f"BEGIN {refusal}; END",
    ]
    return {"postgresql": postgresql, "sqlite": sqlite}


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
