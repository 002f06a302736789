"""Wrong or missing settings, said at start-up and not at the first request.

`check` reads settings alone; `check --deploy --database default` also asks what they lead to.
"""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import DatabaseError, connection

from audit.services.witness_client import witnesses
from audit.signed_notes import NoteInvalid
from audit.sinks.transports import SinkInvalid, sinks
from common.encryption import ring_of
from common.outgoing_tls import trusted
from portal import environment
from portal.startup import problems

MIN_SECRET_LENGTH = 40


@register(Tags.security)
def secrets_are_set(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    found: list[CheckMessage] = []
    if len(settings.SECRET_KEY) < MIN_SECRET_LENGTH:
        found.append(
            Error(
                "CHANCERY_SECRET_KEY is missing or shorter than 40 characters.",
                hint="python -m common.local_env makes one.",
                id="chancery.E001",
            )
        )
    try:
        ring_of(settings.ENCRYPTION_KEYS)
    except ValueError as error:
        found.append(
            Error(
                "CHANCERY_ENCRYPTION_KEYS must be one or more base64-encoded 32-byte keys, "
                f"separated by commas: {error}.",
                hint="python -m common.local_env makes one.",
                id="chancery.E002",
            )
        )
    return found


@register(Tags.security)
def settings_can_be_read(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    return [Error(text, id="chancery.E010") for text in environment.problems]


@register(Tags.security)
def witnesses_are_known(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    try:
        witnesses()
    except NoteInvalid as error:
        hint = "The key as the witness prints it, a space, its address."
        return [Error(f"CHANCERY_LOG_WITNESSES: {error}", hint=hint, id="chancery.E009")]
    return []


@register(Tags.security)
def sinks_are_known(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    try:
        sinks()
    except SinkInvalid as error:
        return [Error(f"CHANCERY_LOG_SINKS: {error}", id="chancery.E008")]
    return []


@register(Tags.security, deploy=True)
def production_is_complete(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    found: list[CheckMessage] = []
    if not settings.HTTPS:
        found.append(Error("CHANCERY_URL must be an https address.", id="chancery.E003"))
    if not settings.REDIS_URL:
        found.append(
            Error(
                "REDIS_URL is not set: request limits would be counted per process.",
                id="chancery.E004",
            )
        )
    if not settings.BROKER_URL:
        text = "Neither BROKER_URL nor REDIS_URL is set: no worker would be told of work."
        hint = "Without a broker, `manage.py workflow_worker` drives workflows from the database."
        found.append(Error(text, hint=hint, id="chancery.E005"))
    if "*" in settings.ALLOWED_HOSTS:
        text = "CHANCERY_ALLOWED_HOSTS answers to every name: a forged one would stand in links."
        found.append(Error(text, id="chancery.E011"))
    if not settings.EMAIL_HOST:
        text = "CHANCERY_SMTP_HOST is not set: mail to owners and sponsors is only printed."
        found.append(Warning(text, id="chancery.W002"))
    if settings.DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
        found.append(
            Warning("SQLite serves one writer at a time; use PostgreSQL.", id="chancery.W001")
        )
    if settings.DEMO:
        found.append(Error("CHANCERY_DEMO is on.", id="chancery.E006"))
    return found


@register(Tags.security)
def own_authorities_are_readable(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    try:
        trusted()
    except OSError as error:  # ssl.SSLError too
        text = f"CHANCERY_CA_FILE is no readable file of certificates ({type(error).__name__})."
        return [Error(text, hint="PEM, one or more certificates.", id="chancery.E017")]
    return []


@register(Tags.database)
def sealed_values_open(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Asked for with `check --database default`, and before migrations; nothing without tables."""
    if not kwargs.get("databases"):
        return []
    try:
        tables = connection.introspection.table_names()
    except DatabaseError as error:
        # The class alone: the message may name a user or an address.
        text = f"The database of DATABASE_URL does not answer ({type(error).__name__})."
        return [Error(text, id="chancery.E012")]
    if "tools_secretversion" not in tables:
        return []
    return [Error(text, id="chancery.E007") for text in problems()]
