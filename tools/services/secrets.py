"""Secrets of endpoints: given, replaced, withdrawn, wrapped anew. Values go in and never out."""

import re
from collections.abc import Iterator

from django.db import connection
from django.db.models import QuerySet
from django.utils import timezone

from audit.generation import deciding_command
from audit.services.recorder import Subject, record
from common.actors import Actor
from common.commands import command
from common.encryption import sealing_key_id
from common.errors import InvalidInput, NotFound
from common.input_checks import clean_reason
from common.model_validation import validate_fields
from common.sql import Row, Update, write
from tools import envelope, events
from tools.connectors.addresses import origin_of
from tools.connectors.base import NotPermitted
from tools.envelope import Place
from tools.errors import SecretNotInForce
from tools.models import Endpoint, Secret, SecretVersion

# Shorter values occur by chance: masking them in answers would destroy what they mean.
MIN_LENGTH = 8
MAX_LENGTH = 8_000
BATCH = 2_000
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}", re.ASCII)
# What the connector says itself, and what decides where a request ends (RFC 9110, RFC 9112).
_OWN_HEADERS = frozenset(
    (
        "host",
        "content-type",
        "content-length",
        "accept",
        "accept-encoding",
        "user-agent",
        "idempotency-key",
        "x-chancery-run",
        "connection",
        "transfer-encoding",
        "te",
        "trailer",
        "upgrade",
        "expect",
    )
)

REWRAPPED = Update(
    "tools_secretversion",
    key="id",
    columns={"id": "bigint", "key_id": "text", "wrapped_key": "text"},
)


@deciding_command
def add_secret(
    endpoint_id: int,
    *,
    actor: Actor,
    name: str,
    placement: Secret.Placement,
    value: str,
    parameter: str = "",
    prefix: str = "",
    username: str = "",
) -> Secret:
    """A secret for an endpoint, bound to the origin that the endpoint has now.

    To use it at another address it must be given again: whoever can change an endpoint cannot
    thereby send its secrets elsewhere. Raises NotFound, InvalidInput.
    """
    endpoint = Endpoint.objects.select_for_update().filter(pk=endpoint_id).first()
    if endpoint is None:
        raise NotFound
    secret = Secret(
        endpoint=endpoint,
        name=name,
        placement=placement,
        parameter="" if placement == Secret.Placement.BASIC else parameter.strip(),
        prefix=prefix.strip() if placement == Secret.Placement.HEADER else "",
        username=username.strip() if placement == Secret.Placement.BASIC else "",
        origin=_origin(endpoint),
    )
    _ensure_placed(secret)
    validate_fields(secret, exclude=("endpoint", "withdrawn_at"))
    secret.save()
    _add_version(secret, value, actor=actor, number=1)
    record(
        events.SECRET_ADDED,
        actor=actor,
        subject=secret,
        placement=str(placement),
        origin=secret.origin,
    )
    return secret


@deciding_command
def rotate_secret(secret_id: int, *, actor: Actor, value: str, reason: str) -> SecretVersion:
    """A new value; calls use it from the commit on, and the former one is gone.

    Raises NotFound, InvalidInput, SecretNotInForce.
    """
    reason = clean_reason(reason)
    secret = _locked(secret_id)
    former = secret.versions.select_for_update().get(status=SecretVersion.Status.CURRENT)
    _destroy(former)
    version = _add_version(secret, value, actor=actor, number=former.number + 1)
    record(
        events.SECRET_ROTATED,
        actor=actor,
        subject=secret,
        version=version.number,
        reason=reason,
    )
    return version


@deciding_command
def withdraw_secret(secret_id: int, *, actor: Actor, reason: str) -> Secret:
    """The secret is used no more and its value is destroyed. Raises NotFound, SecretNotInForce."""
    reason = clean_reason(reason)
    secret = _locked(secret_id)
    for version in secret.versions.select_for_update().exclude(
        status=SecretVersion.Status.DESTROYED
    ):
        _destroy(version)
    secret.withdrawn_at = timezone.now()
    secret.save(update_fields=["withdrawn_at"])
    record(events.SECRET_WITHDRAWN, actor=actor, subject=secret, reason=reason)
    return secret


def rewrap_all(*, actor: Actor) -> Iterator[int]:
    """Wrap every data key with the ring's present key, batch by batch; yields how many were done.

    Calls go on meanwhile: each row is whole at any moment. Safe to stop and to repeat. Raises
    CannotUnseal if a data key was wrapped with a key that the ring does not hold.
    """
    last = 0
    while True:
        last, done = _rewrap_some(last, actor=actor)
        if not done:
            return
        yield done


def to_rewrap() -> int:
    return _outdated().count()


@command
def _rewrap_some(after: int, *, actor: Actor) -> tuple[int, int]:
    rows = list(
        _outdated()
        .filter(pk__gt=after)
        .select_for_update(of=("self",))
        .select_related("secret__endpoint")
        .order_by("pk")[:BATCH]
    )
    if not rows:
        return after, 0
    written: list[Row] = []
    for row in rows:
        key_id, wrapped = envelope.rewrapped(row.wrapped_key, place_of(row))
        written.append({"id": row.pk, "key_id": key_id, "wrapped_key": wrapped})
    write(connection, [(REWRAPPED, written)])
    record(
        events.SECRETS_REWRAPPED,
        actor=actor,
        subject=Subject("tools.keyring", written[0]["key_id"], "key ring"),
        number=len(written),
        key=written[0]["key_id"],
    )
    return rows[-1].pk, len(rows)


def place_of(version: SecretVersion) -> Place:
    return Place(version.secret_id, version.number, version.secret.endpoint.environment_id)


def _outdated() -> QuerySet[SecretVersion]:
    kept = SecretVersion.objects.exclude(status=SecretVersion.Status.DESTROYED)
    return kept.exclude(key_id=sealing_key_id())


def _add_version(secret: Secret, value: str, *, actor: Actor, number: int) -> SecretVersion:
    _ensure_sendable(value)
    kept = envelope.closed(value, Place(secret.pk, number, secret.endpoint.environment_id))
    return SecretVersion.objects.create(
        secret=secret,
        number=number,
        key_id=kept.key_id,
        wrapped_key=kept.wrapped_key,
        ciphertext=kept.ciphertext,
        created_by=actor.label,
    )


def _destroy(version: SecretVersion) -> None:
    """Without its data key the value is lost, in backups of the key ring's future too."""
    version.status = SecretVersion.Status.DESTROYED
    version.wrapped_key = version.ciphertext = ""
    version.save(update_fields=["status", "wrapped_key", "ciphertext"])


def _locked(secret_id: int) -> Secret:
    secrets = Secret.objects.select_for_update(of=("self",)).select_related("endpoint__system")
    secret = secrets.filter(pk=secret_id).first()
    if secret is None:
        raise NotFound
    if secret.withdrawn_at is not None:
        raise SecretNotInForce
    return secret


def _origin(endpoint: Endpoint) -> str:
    try:
        origin = origin_of(endpoint.base_url)
    except NotPermitted as error:
        raise InvalidInput(str(error)) from error
    if not origin.startswith("https://") and not endpoint.allow_private:
        message = "A secret is sent over https only, or within a private network."
        raise InvalidInput(message)
    return origin


def _ensure_placed(secret: Secret) -> None:
    if secret.placement == Secret.Placement.HEADER:
        known = _HEADER.fullmatch(secret.parameter)
        if known is None or secret.parameter.lower() in _OWN_HEADERS:
            message = "This is not a header that can carry a secret."
            raise InvalidInput(message)
    if secret.placement == Secret.Placement.BASIC and ":" in secret.username:
        message = "A user name has no colon (RFC 7617)."
        raise InvalidInput(message)


def _ensure_sendable(value: str) -> None:
    if not MIN_LENGTH <= len(value) <= MAX_LENGTH:
        message = f"A secret has between {MIN_LENGTH} and {MAX_LENGTH:,} characters."
        raise InvalidInput(message)
    if not (value.isascii() and value.isprintable()) or value != value.strip():
        message = "A secret is printable ASCII, without space around it."
        raise InvalidInput(message)
