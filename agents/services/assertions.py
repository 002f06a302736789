"""Client authentication: an agent's own signed assertion, or one by a trusted issuer.

RFC 7523 (`private_key_jwt`): no client secrets, no API keys. Every way to fail has one answer, and
about as much work is done for each.
"""

import hashlib
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.db import connection
from django.utils import timezone
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet

from agents import keys, tokens
from agents.errors import InvalidClient
from agents.models import AgentIdentity, AgentKey, AssertionReplay, FederatedCredential
from agents.services.issuer_keys import with_key
from agents.services.key_compromise import suspend_for_superseded_key
from common.actors import SYSTEM

MAX_SECONDS = 300
MAX_FEDERATED_SECONDS = 24 * 3600
MAX_BYTES = 4_000
MAX_FEDERATED_BYTES = 8_000
_THUMBPRINT = re.compile(r"[A-Za-z0-9_-]{43}")
_JTI = re.compile(r"[\x21-\x7e]{1,200}")
# What is verified against where no key is known: an answer must not tell by its time.
_NOBODYS = ECKey.generate_key("P-256", private=False)


@dataclass(frozen=True, slots=True)
class VerifiedAssertion:
    """An identity that has proven itself, and by what. Claims of a federated assertion are the
    issuer's own and are not spent: such assertions are used until they expire.
    """

    identity: AgentIdentity
    claims: dict[str, Any]
    key: AgentKey | None = None
    credential: FederatedCredential | None = None


def verify_assertion(assertion: str) -> VerifiedAssertion:
    """Raises InvalidClient. A key that was superseded by a newer one locks its identity: whoever
    uses it holds a copy that should be gone.
    """
    kid = _kid(assertion)
    if _THUMBPRINT.fullmatch(kid):
        found = AgentKey.objects.select_related("identity").filter(thumbprint=kid).first()
        if found is not None:
            return _by_own_key(assertion, found)
    return _by_issuer(assertion)


def _by_own_key(assertion: str, key: AgentKey) -> VerifiedAssertion:
    algorithm, public = keys.accepted_public_key(key.public_jwk)
    claims = checked_assertion(assertion, public, algorithm)
    client_id = key.identity.client_id
    if claims.get("iss") != client_id or claims.get("sub") != client_id:
        raise InvalidClient
    if key.is_superseded(timezone.now()):
        suspend_for_superseded_key(key, actor=SYSTEM)
        raise InvalidClient
    if key.status not in AgentKey.ACCEPTED:
        raise InvalidClient
    return VerifiedAssertion(key.identity, claims, key=key)


def _by_issuer(assertion: str) -> VerifiedAssertion:
    """By an assertion of a CI or cluster issuer, mapped by (issuer, subject) to one identity."""
    claims = _unverified(assertion)
    named = (claims.get("iss"), claims.get("sub"))
    if not all(isinstance(one, str) and len(one) <= 300 and one.isprintable() for one in named):
        raise InvalidClient
    found = (
        FederatedCredential.objects.in_force()
        .select_related("identity")
        .filter(issuer=str(claims.get("iss")), subject=str(claims.get("sub")))
        .first()
    )
    if found is not None:
        found = with_key(found, _kid(assertion))
    ring = KeySet.import_key_set({"keys": found.jwks}) if found else _NOBODYS
    verified = _decoded(assertion, ring, keys.FEDERATED_ALGORITHMS)
    if found is None or verified.get("aud") not in (settings.ISSUER, [settings.ISSUER]):
        raise InvalidClient
    _ensure_in_time(verified, longest=MAX_FEDERATED_SECONDS)
    return VerifiedAssertion(found.identity, verified, credential=found)


def _kid(assertion: str) -> str:
    if len(assertion) > MAX_FEDERATED_BYTES:
        raise InvalidClient
    try:
        return str(tokens.jwt_header(assertion).get("kid"))
    except (JoseError, ValueError, TypeError, RecursionError) as error:
        raise InvalidClient from error


def _unverified(assertion: str) -> dict[str, Any]:
    """Return the unverified claims of the assertion, to find the keys that verify it."""
    try:
        return tokens.jwt_claims(assertion)
    except (JoseError, ValueError, TypeError, RecursionError) as error:
        raise InvalidClient from error


def checked_assertion(assertion: str, key: keys.AgentPublicKey, algorithm: str) -> dict[str, Any]:
    """The claims of an assertion signed by `key`, its audience and times checked.

    Only the issuer itself is an acceptable audience, as one string: an assertion made for
    another server, or for several, cannot be replayed here (RFC 7523bis). Raises InvalidClient.
    """
    if len(assertion) > MAX_BYTES:
        raise InvalidClient
    # RFC 9864 names the algorithm Ed25519; many libraries still write EdDSA.
    accepted = [algorithm, "EdDSA"] if algorithm == "Ed25519" else [algorithm]
    claims = _decoded(assertion, key, accepted)
    jti = claims.get("jti")
    if claims.get("aud") != settings.ISSUER:
        raise InvalidClient
    if not isinstance(jti, str) or not _JTI.fullmatch(jti):
        raise InvalidClient
    _ensure_in_time(claims, longest=MAX_SECONDS)
    return claims


def _decoded(assertion: str, key: Any, algorithms: list[str]) -> dict[str, Any]:
    try:
        return dict(jwt.decode(assertion, key, algorithms=algorithms).claims)
    except (JoseError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise InvalidClient from error


def _ensure_in_time(claims: dict[str, Any], *, longest: int) -> None:
    issued, expires = (tokens.numeric_date(claims.get(name)) for name in ("iat", "exp"))
    begins = tokens.numeric_date(claims.get("nbf", issued))
    if issued is None or expires is None or begins is None:
        raise InvalidClient
    now = time.time()
    in_time = max(issued, begins) <= now + tokens.CLOCK_SKEW_SECONDS and now < expires
    if not in_time or not 0 < expires - issued <= longest:
        raise InvalidClient


def spend(used: VerifiedAssertion) -> None:
    """An agent's own assertion works once, in all processes. Raises InvalidClient."""
    if used.key is not None:
        client_id = used.identity.client_id
        expires_at = datetime.fromtimestamp(used.claims["exp"], UTC)
        if not claim_once(f"{client_id}\x00{used.claims['jti']}", expires_at):
            raise InvalidClient


def claim_once(what: str, expires_at: datetime) -> bool:
    """Whether this is seen for the first time; the primary key is the memory of all processes."""
    digest = hashlib.sha256(what.encode()).hexdigest()
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO agents_assertionreplay (digest, expires_at) VALUES (%s, %s) "
            "ON CONFLICT (digest) DO NOTHING",
            [digest, connection.ops.adapt_datetimefield_value(expires_at)],
        )
        return bool(cursor.rowcount == 1)


def prune(*, now: datetime | None = None) -> int:
    """Forget assertions that have expired and so could not be used anyway; how many."""
    deleted, _ = AssertionReplay.objects.filter(expires_at__lt=now or timezone.now()).delete()
    return deleted
