"""Access tokens: RFC 9068 profile, ES256, five minutes, one audience and key per environment.

Scopes are a ceiling. What an agent may do is decided per call, from live grants and policy.
"""

import hashlib
import re
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

from django.conf import settings
from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from agents.directory import Directory, KnownIdentity
from agents.errors import InvalidScope, InvalidToken
from common.ids import uuid7

LIFETIME_SECONDS = 300
CLOCK_SKEW_SECONDS = 30
MAX_TOKEN_BYTES = 8_000
SCOPE_ALL = "tools"
MAX_SCOPE_LENGTH = 2_000
_SCOPE = re.compile(r"tools|system:[\w-]{1,64}|tool:[\w-]{1,64}\.[\w-]{1,100}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Caller:
    """An agent's identity, proven by a token."""

    identity: KnownIdentity
    scopes: frozenset[str]
    jti: str
    epoch: int
    expires_at: int
    kid: str = ""

    def scope_covers(self, tool: str) -> bool:
        system = tool.split(".", 1)[0]
        return bool(self.scopes & {SCOPE_ALL, f"system:{system}", f"tool:{tool}"})


def covers(held: Collection[str], asked: Iterable[str]) -> bool:
    """Whether every right asked for lies within those held: all tools, a system's, or one tool."""
    return SCOPE_ALL in held or all(
        scope in held
        or (scope.startswith("tool:") and f"system:{scope[5:].split('.', 1)[0]}" in held)
        for scope in asked
    )


def audience(environment: str) -> str:
    return f"{settings.ISSUER}/env/{environment}"


def agent_uri(identity: KnownIdentity) -> str:
    return f"{settings.ISSUER}/agents/{identity.environment}/{identity.agent_slug}"


def granted_scope(asked: str) -> str:
    """The scope to grant; what is not asked for is not granted. Raises InvalidScope."""
    parts = asked.split()
    if not parts:
        return SCOPE_ALL
    if len(asked) > MAX_SCOPE_LENGTH or not all(_SCOPE.fullmatch(part) for part in parts):
        raise InvalidScope
    return " ".join(sorted(set(parts)))


def mint(
    identity: KnownIdentity, *, scope: str, kid: str, key: ECKey
) -> tuple[str, dict[str, Any]]:
    """A signed token and its claims."""
    now = int(time.time())
    claims = {
        "iss": settings.ISSUER,
        "aud": audience(identity.environment),
        "sub": agent_uri(identity),
        "client_id": identity.client_id,
        "scope": scope,
        "env": identity.environment,
        "iat": now,
        "exp": now + LIFETIME_SECONDS,
        "jti": str(uuid7()),
        "eps": {identity.client_id: identity.epoch},
    }
    token = jwt.encode({"alg": "ES256", "typ": "at+jwt", "kid": kid}, claims, key)
    return token, claims


class VerifiedTokens:
    """Signatures already checked, by digest of the token. State is checked on every use."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._lock = Lock()
        self._claims: dict[bytes, dict[str, Any]] = {}

    def get(self, digest: bytes) -> dict[str, Any] | None:
        return self._claims.get(digest)

    def put(self, digest: bytes, claims: dict[str, Any]) -> None:
        with self._lock:
            if len(self._claims) >= self._size:
                self._claims.clear()
            self._claims[digest] = claims


_verified = VerifiedTokens(size=10_000)


def verify(token: str, directory: Directory) -> Caller:
    """The caller behind a bearer token. Raises InvalidToken, whatever is wrong with it.

    Checked in order: size, `kid` among live keys, algorithm and type, signature, issuer, audience
    and environment of that very key, times, required claims, and that the identity is usable in
    the token's epoch.
    """
    if len(token) > MAX_TOKEN_BYTES:
        raise InvalidToken
    digest = hashlib.sha256(token.encode()).digest()
    claims = _verified.get(digest)
    if claims is None:
        claims = _checked_claims(token, directory)
        _verified.put(digest, claims)
    return _live_caller(claims, directory)


def _checked_claims(token: str, directory: Directory) -> dict[str, Any]:
    try:
        header = jwt_header(token)
        known = directory.verification_keys.get(str(header.get("kid")))
        if known is None or header.get("typ") != "at+jwt":
            raise InvalidToken
        decoded = jwt.decode(token, known.key, algorithms=["ES256"])
    except (JoseError, ValueError, TypeError, RecursionError) as error:
        raise InvalidToken from error
    claims = dict(decoded.claims)
    expected = {
        "iss": settings.ISSUER,
        "aud": audience(known.environment),
        "env": known.environment,
    }
    if any(claims.get(name) != value for name, value in expected.items()):
        raise InvalidToken
    claims["kid"] = str(header["kid"])
    return claims


def _live_caller(claims: dict[str, Any], directory: Directory) -> Caller:
    now = time.time()
    expires, issued = claims.get("exp"), claims.get("iat")
    if not isinstance(expires, int) or not isinstance(issued, int):
        raise InvalidToken
    if expires <= now or issued > now + CLOCK_SKEW_SECONDS:
        raise InvalidToken
    identity = directory.identities.get(str(claims.get("client_id")))
    if claims["kid"] not in directory.verification_keys or identity is None:
        raise InvalidToken
    epochs = claims.get("eps")
    epoch = epochs.get(identity.client_id) if isinstance(epochs, dict) else None
    if not identity.usable or epoch != identity.epoch or identity.environment != claims["env"]:
        raise InvalidToken
    return Caller(
        identity=identity,
        scopes=frozenset(str(claims.get("scope", "")).split()),
        jti=str(claims.get("jti")),
        epoch=identity.epoch,
        expires_at=expires,
        kid=claims["kid"],
    )


def seen_from(caller: Caller, directory: Directory) -> Caller:
    """The caller as a newer directory knows it. Raises InvalidToken if it may no longer act.

    Everything is looked at again: the identity with its epoch, and the key that signed the token.
    """
    identity = directory.identities.get(caller.identity.client_id)
    if identity is None or not identity.usable or identity.epoch != caller.epoch:
        raise InvalidToken
    if caller.kid and caller.kid not in directory.verification_keys:
        raise InvalidToken
    return replace(caller, identity=identity)


def jwt_header(token: str) -> dict[str, Any]:
    """The header of a compact JWS, not yet verified. Raises ValueError or JoseError."""
    parts = token.split(".")
    if len(parts) != 3:
        message = "not a compact JWS"
        raise ValueError(message)
    return dict(jws.extract_compact(token.encode()).headers())
