"""Opening secrets for a call: written down first, towards their own origin only."""

from datetime import timedelta
from uuid import UUID

from django.db import connection
from django.utils import timezone

from audit.services.recorder import EVENTS, Subject, event_row
from common.actors import Actor
from common.commands import command
from common.encryption import CannotUnseal
from common.ids import is_identifier, uuid7
from common.sql import Insert, Row, write
from tools import envelope, events
from tools.connectors.addresses import origin_of
from tools.connectors.base import Call, EndpointSpec, NotPermitted, SecretSpec
from tools.credentials import Credential, Hidden
from tools.envelope import Envelope
from tools.errors import SecretUnusable
from tools.models import SecretLease, SecretVersion
from tools.services.secrets import place_of

LEASES = Insert(
    "tools_secretlease",
    {
        "id": "uuid",
        "version_id": "bigint",
        "run_id": "uuid",
        "tool": "text",
        "call": "text",
        "opened_at": "timestamptz",
        "ends_at": "timestamptz",
    },
)
KEPT_FOR = timedelta(days=90)


@command
def open_secrets(
    endpoint: EndpointSpec, tool: str, call: Call, *, actor: Actor
) -> tuple[Credential, ...]:
    """The endpoint's secrets for one call, each with its lease and event committed before use.

    Raises SecretUnusable if the endpoint has moved to another origin than a secret was given for,
    if one was withdrawn since, or cannot be opened.
    """
    try:
        origin = origin_of(endpoint.base_url)
    except NotPermitted as error:
        raise SecretUnusable from error
    current = {
        version.secret_id: version
        for version in SecretVersion.objects.select_related("secret__endpoint__system").filter(
            secret__in=[secret.pk for secret in endpoint.secrets],
            secret__withdrawn_at=None,
            status=SecretVersion.Status.CURRENT,
        )
    }
    found: list[Credential] = []
    leases: list[Row] = []
    recorded: list[Row] = []
    for secret in endpoint.secrets:
        version = current.get(secret.pk)
        if version is None:
            raise SecretUnusable
        found.append(_credential(secret, version, origin))
        lease, event = _rows(version, tool, call, origin=origin, actor=actor)
        leases.append(lease)
        recorded.append(event)
    write(connection, [(LEASES, leases), (EVENTS, recorded)])
    return tuple(found)


def _credential(secret: SecretSpec, version: SecretVersion, origin: str) -> Credential:
    if secret.origin != origin or version.secret.origin != origin:
        message = "The endpoint's secret was given for another origin, so nothing was sent."
        raise SecretUnusable(message)
    sealed = Envelope(version.key_id, version.wrapped_key, version.ciphertext)
    try:
        value = Hidden(envelope.opened(sealed, place_of(version)))
    except CannotUnseal as error:
        raise SecretUnusable from error
    return Credential(secret.placement, secret.parameter, secret.prefix, secret.username, value)


def _rows(
    version: SecretVersion, tool: str, call: Call, *, origin: str, actor: Actor
) -> tuple[Row, Row]:
    now = timezone.now()
    run_id = UUID(call.run_id) if is_identifier(call.run_id) else None
    lease = {
        "id": uuid7(),
        "version_id": version.pk,
        "run_id": run_id,
        "tool": tool,
        "call": call.idempotency_key or "",
        "opened_at": now,
        "ends_at": now + timedelta(seconds=call.timeout_seconds),
    }
    event = event_row(
        events.SECRET_USED,
        actor=actor,
        subject=Subject.of(version.secret),
        run_id=run_id,
        at=now,
        details={
            "version": version.number,
            "tool": tool,
            "call": call.idempotency_key or "",
            "origin": origin,
        },
    )
    return lease, event


def prune() -> int:
    """Forget leases of long ago; that the secret was used stays in the log."""
    return SecretLease.objects.filter(opened_at__lt=timezone.now() - KEPT_FOR).delete()[0]
