"""The database has what the models and the migrations say, on whichever it is.

A migration that rebuilds a table takes its triggers along on SQLite, and one that alters a column
may take a partial index along on PostgreSQL: both have happened, unseen.
"""

from importlib import import_module

import pytest
from django.apps import apps
from django.db import connection, models

pytestmark = pytest.mark.django_db

OWN = ("accounts", "actions", "agents", "approvals", "audit", "policies", "tools", "workflows")
MODELS = [model for app in OWN for model in apps.get_app_config(app).get_models()]
FROZEN = {
    "actions_action",
    *import_module("approvals.migrations.0002_frozen_requests").FROZEN,
    "policies_policyrelease",
    *import_module("workflows.migrations.0002_frozen_versions_and_steps").FROZEN,
    import_module("audit.migrations.0002_append_only_log").CHANGES,
}
APPEND_ONLY = set(import_module("audit.migrations.0002_append_only_log").UNIQUE)


def triggers() -> dict[str, set[str]]:
    """The names of each table's triggers."""
    query = (
        "SELECT relname, tgname FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid"
        if connection.vendor == "postgresql"
        else "SELECT tbl_name, name FROM sqlite_master WHERE type = 'trigger'"
    )
    found: dict[str, set[str]] = {}
    with connection.cursor() as cursor:
        cursor.execute(query)
        for table, name in cursor.fetchall():
            found.setdefault(table, set()).add(name)
    return found


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model._meta.label)
def test_every_constraint_and_index_is_in_the_database(model: type[models.Model]) -> None:
    with connection.cursor() as cursor:
        found = connection.introspection.get_constraints(cursor, model._meta.db_table)
    declared = {one.name for one in (*model._meta.constraints, *model._meta.indexes)}
    assert declared - set(found) == set()


@pytest.mark.parametrize("table", sorted(FROZEN))
def test_every_frozen_table_is_guarded(table: str) -> None:
    names = triggers().get(table, set())
    assert f"{table}_frozen" in names
    assert len(names) >= 2  # removing a row is refused too


@pytest.mark.parametrize("table", sorted(APPEND_ONLY))
def test_every_table_of_the_log_is_append_only(table: str) -> None:
    vendor = {"postgresql": {"no_change", "no_truncate"}}.get(
        connection.vendor, {"no_update", "no_delete", "no_replace"}
    )
    assert {f"{table}_{name}" for name in vendor} <= triggers().get(table, set())
