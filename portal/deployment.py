"""Checks that a deployment reaches what it needs: database, migrations, static files, broker, the
log's key. With `check --deploy --database default`.
"""

import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor

from audit.models import Checkpoint

# Beside web processes and workers: sweeper, beat, sealer, watchers of halts, a person at a console.
OTHERS = 10
BROKER_SECONDS = 2


@register(Tags.database, deploy=True)
def database_is_ready(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    if not kwargs.get("databases"):
        return []
    try:
        connection.ensure_connection()
    except DatabaseError:
        return []  # `checks.sealed_values_open` says so
    executor = MigrationExecutor(connection)
    missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if missing:
        text = f"{len(missing)} migrations have not been applied."
        return [Error(text, hint="python manage.py migrate", id="chancery.E013")]
    return [*_log_key(), *_connections()]


@register(Tags.staticfiles, deploy=True)
def static_files_are_collected(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    if not kwargs.get("databases") or (Path(settings.STATIC_ROOT) / "staticfiles.json").exists():
        return []
    text = "The static files have not been collected: pages would fail."
    return [Error(text, hint="python manage.py collectstatic", id="chancery.E014")]


@register(Tags.caches, deploy=True)
def broker_is_reached(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Check that each address is listened at; who listens shows when it is used."""
    if not kwargs.get("databases"):
        return []
    found: list[CheckMessage] = []
    for name in ("REDIS_URL", "BROKER_URL"):
        address = urlsplit(getattr(settings, name))
        if not address.hostname:
            continue
        place = (address.hostname, address.port or _PORTS.get(address.scheme, 6379))
        try:
            socket.create_connection(place, timeout=BROKER_SECONDS).close()
        except OSError:
            found.append(Error(f"Nobody answers at the address of {name}.", id="chancery.E015"))
    return found


_PORTS = {"amqp": 5672, "amqps": 5671}


def _log_key() -> list[CheckMessage]:
    if settings.LOG_SIGNING_KEY or Checkpoint.objects.exists():
        return []
    text = "The log has no checkpoint yet: nothing that happens can be proved."
    hint = "Give CHANCERY_LOG_SIGNING_KEY to the sealer, and to it alone, and start it."
    return [Warning(text, hint=hint, id="chancery.W003")]


def _connections() -> list[CheckMessage]:
    """Whether all processes of this machine together stay below what the database admits."""
    if connection.vendor != "postgresql":
        return []
    with connection.cursor() as cursor:
        cursor.execute("SHOW max_connections")
        most = int(cursor.fetchone()[0])
        cursor.execute("SHOW superuser_reserved_connections")
        most -= int(cursor.fetchone()[0])
    needed = settings.WEB_WORKERS * settings.WEB_POOL + settings.WORKERS + OTHERS
    if needed <= most:
        return []
    text = f"Up to {needed} connections may be opened, and PostgreSQL admits {most}."
    hint = (
        "Raise max_connections, lower WEB_WORKERS or CHANCERY_DATABASE_POOL, or put a pooler "
        "between. Other machines count too."
    )
    return [Error(text, hint=hint, id="chancery.E016")]
