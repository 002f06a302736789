"""The keys of other issuers: fetched from their address, and replaced when they replace them.

Fetched keys are kept: an issuer that cannot be reached is believed by the keys that it had. A key
that an assertion names and nobody knows is looked for once a minute at most.
"""

import logging
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import SplitResult, urlsplit

import httpcore
from django.conf import settings
from django.utils import timezone

from agents import events, keys
from agents.errors import InvalidKey, IssuerUnreachable
from agents.models import FederatedCredential
from audit.services.recorder import record
from common.actors import SYSTEM, Actor
from common.addresses import AddressRefused, resolved
from common.commands import command
from common.errors import GovernanceError
from common.http_deadline import BoundedBackend, Deadline
from common.isolation import each
from common.json_text import parsed
from common.outgoing_tls import trusted

log = logging.getLogger(__name__)

FETCH_SECONDS = 5.0
MAX_BYTES = 200_000
REFRESH_EVERY = timedelta(minutes=10)
NOT_SOONER_THAN = timedelta(minutes=1)


def fetched(jwks_uri: str) -> list[dict[str, Any]]:
    """The keys at the address. Raises IssuerUnreachable, and InvalidKey for what is no key set."""
    parts, host, port = _place(jwks_uri)
    is_private = jwks_uri in settings.PRIVATE_ISSUERS
    if parts.scheme != "https" and not (is_private and settings.DEBUG):
        message = "The address of an issuer's keys is an https address."
        raise IssuerUnreachable(message)
    try:
        body = _first_answer(parts, resolved(host, port, allow_private=is_private), port, host)
    except AddressRefused as error:
        raise IssuerUnreachable(str(error)) from error
    except (OSError, httpcore.TimeoutException, httpcore.NetworkError) as error:
        message = "The address of the issuer's keys did not answer."
        raise IssuerUnreachable(message) from error
    except httpcore.ProtocolError as error:
        message = "What the address of the issuer's keys answers is not HTTP."
        raise IssuerUnreachable(message) from error
    try:
        return keys.accepted_issuer_keys(parsed(body))
    except ValueError as error:
        message = "What the address of the issuer's keys answers is not JSON."
        raise InvalidKey(message) from error


def _place(jwks_uri: str) -> tuple[SplitResult, str, int]:
    """The address with its host and port. Raises IssuerUnreachable for what is none."""
    try:
        parts = urlsplit(jwks_uri)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as error:
        raise IssuerUnreachable from error
    if not parts.hostname or parts.username is not None:
        raise IssuerUnreachable
    return parts, parts.hostname, port


def _first_answer(parts: SplitResult, addresses: list[str], port: int, host: str) -> bytes:
    """From the first of a name's addresses where somebody answers, all within FETCH_SECONDS."""
    deadline = Deadline(FETCH_SECONDS)
    share = FETCH_SECONDS / (len(addresses) + 1)
    for address in addresses[:-1]:
        try:
            return _read(
                parts, address, port, host, BoundedBackend(deadline, connect_seconds=share)
            )
        except (httpcore.ConnectError, httpcore.ConnectTimeout):
            continue
    return _read(parts, addresses[-1], port, host, BoundedBackend(deadline))


def _read(parts: SplitResult, address: str, port: int, host: str, backend: BoundedBackend) -> bytes:
    literal = f"[{address}]" if ":" in address else address
    url = f"{parts.scheme}://{literal}:{port}{parts.path or '/'}"
    url = f"{url}?{parts.query}" if parts.query else url
    headers: dict[bytes | str, bytes | str] = {
        "Host": parts.netloc,
        "Accept": "application/json",
        "User-Agent": "chancery",
    }
    extensions = {"sni_hostname": host} if parts.scheme == "https" else {}
    with (
        httpcore.ConnectionPool(ssl_context=trusted(), network_backend=backend) as pool,
        pool.stream("GET", url, headers=headers, extensions=extensions) as response,
    ):
        if response.status != 200:
            message = f"The address of the issuer's keys answered {response.status}."
            raise IssuerUnreachable(message)
        body = b""
        for chunk in response.iter_stream():
            body += chunk
            if len(body) > MAX_BYTES:
                message = "What the address of the issuer's keys answers is too large."
                raise IssuerUnreachable(message)
        return body


def with_key(credential: FederatedCredential, kid: str) -> FederatedCredential:
    """The credential; with its keys fetched again if none has this `kid`, and it is time."""
    if not credential.jwks_uri or any(jwk.get("kid") == kid for jwk in credential.jwks):
        return credential
    last = credential.fetched_at
    if last is not None and timezone.now() - last < NOT_SOONER_THAN:
        return credential
    return refresh(credential.pk)


def refresh(credential_id: int) -> FederatedCredential:
    """Fetch the issuer's keys again and keep what came of it."""
    credential = FederatedCredential.objects.get(pk=credential_id)
    found: list[dict[str, Any]] = []
    trouble = ""
    try:
        found = fetched(credential.jwks_uri)
    except GovernanceError as refusal:
        trouble = str(refusal)[:200]
        log.warning("keys of %s: %s", credential.issuer, refusal.code)
    return _keep(credential_id, found, trouble, actor=SYSTEM)


@command
def _keep(
    credential_id: int, found: list[dict[str, Any]], trouble: str, *, actor: Actor
) -> FederatedCredential:
    row = FederatedCredential.objects.select_for_update().get(pk=credential_id)
    if row.withdrawn_at is not None:
        return row
    has_changed = bool(found) and found != row.jwks
    row.fetched_at, row.trouble = timezone.now(), trouble
    if has_changed:
        row.jwks = found
    row.save(update_fields=["fetched_at", "trouble", "jwks"])
    if has_changed:
        record_keys(row, actor=actor)
    return row


def record_keys(row: FederatedCredential, *, actor: Actor) -> None:
    record(
        events.FEDERATED_KEYS_REPLACED,
        actor=actor,
        subject=row.identity,
        issuer=row.issuer,
        subject_name=row.subject,
        kid=[str(jwk.get("kid"))[:100] for jwk in row.jwks],
    )


def refresh_due(*, now: datetime | None = None) -> int:
    """Look at the addresses of all issuers whose keys were fetched a while ago; how many."""
    before = (now or timezone.now()) - REFRESH_EVERY
    due = FederatedCredential.objects.in_force().exclude(jwks_uri="")
    due = due.exclude(fetched_at__gt=before)
    found = list(due.values_list("pk", flat=True))
    return len(each(found, refresh, what="credential"))
