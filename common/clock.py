"""The one clock of leases and time limits: the database's, which all processes share."""

from datetime import UTC, datetime

from django.db import connection
from django.utils import timezone


def database_now() -> datetime:
    """The present moment by the database server. SQLite has none of its own: this machine's."""
    if connection.vendor != "postgresql":
        return timezone.now()
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        [moment] = cursor.fetchone()
    found: datetime = moment
    return found.astimezone(UTC)
