"""Access tokens: RFC 9068 profile, ES256, five minutes, one audience and key per environment.

Scopes are a ceiling. What an agent may do is decided per call, from live grants and policy.
"""

import hashlib
import json
import math
import re
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
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
MAX_CHAIN = 3
CLOCK_SKEW_SECONDS = 30
MAX_TOKEN_BYTES = 8_000
SCOPE_ALL = "tools"
MAX_SCOPE_LENGTH = 2_000
_SCOPE = re.compile(r"tools|system:[\w-]{1,64}|tool:[\w-]{1,64}\.[\w-]{1,100}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Caller:
    """An agent's identity, proven by a token.

    `chain`: the client ids of agents that this one acts for, the first first, and `epochs` of each.
    `key`: the thumbprint of the key that the token is bound to, if it is (RFC 9449).
    `person`: the delegation of the person at the root of the line, if there is one.
    """

    identity: KnownIdentity
    scopes: frozenset[str]
    jti: str
    epoch: int
    expires_at: int
    kid: str = ""
    chain: tuple[str, ...] = ()
    epochs: Mapping[str, int] = field(default_factory=dict)
    key: str = ""
    person: str = ""

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


def meet(one: Collection[str], other: Collection[str]) -> frozenset[str]:
    """The rights that lie within both."""
    ours = {scope for scope in one if covers(other, [scope])}
    return frozenset(ours | {scope for scope in other if covers(one, [scope])})


def audience(environment: str) -> str:
    return f"{settings.ISSUER}/env/{environment}"


def person_uri(pk: int) -> str:
    return f"{settings.ISSUER}/people/{pk}"


def agent_uri(identity: KnownIdentity) -> str:
    return f"{settings.ISSUER}/agents/{identity.environment}/{identity.agent_slug}"


def granted_scope(asked: str) -> str:
    """The scope to grant: what is asked for, without what this server does not know.

    Less is granted rather than nothing (RFC 6749 section 3.3); the answer says what it is. Raises
    InvalidScope if nothing is left.
    """
    if len(asked) > MAX_SCOPE_LENGTH:
        raise InvalidScope
    parts = asked.split()
    known = sorted({part for part in parts if _SCOPE.fullmatch(part)})
    if parts and not known:
        raise InvalidScope
    return " ".join(known) or SCOPE_ALL


@dataclass(frozen=True, slots=True)
class TokenSpec:
    """Contents of a token: for whom, for what, on whose behalf, bound to which key."""

    identity: KnownIdentity
    scope: str
    on_behalf: Caller | None = None
    key: str = ""
    person: str = ""
    person_uri: str = ""
    ends_at: float | None = None


def mint(what: TokenSpec, *, kid: str, key: ECKey) -> tuple[str, dict[str, Any]]:
    """A signed token and its claims.

    A token on somebody's behalf names in `sub` whose authority it is, in `act` who acts (RFC 8693
    section 4.1), and in `eps` the epoch of each party: it dies with any of them, and not later
    than the token that it came from.
    """
    identity, parent, now = what.identity, what.on_behalf, int(time.time())
    claims: dict[str, Any] = {
        "iss": settings.ISSUER,
        "aud": audience(identity.environment),
        "sub": agent_uri(identity),
        "client_id": identity.client_id,
        "scope": what.scope,
        "env": identity.environment,
        "iat": now,
        "exp": now + identity.token_seconds,
        "jti": str(uuid7()),
        "eps": {identity.client_id: identity.epoch},
    }
    if parent is not None:
        chain = [*parent.chain, parent.identity.client_id]
        claims["chain"] = chain
        claims["exp"] = min(claims["exp"], parent.expires_at)
        claims["eps"] |= {**parent.epochs, parent.identity.client_id: parent.epoch}
        claims["sub"] = f"{settings.ISSUER}/agents/{identity.environment}/{_slug(chain[0])}"
        claims["act"] = _acting([*chain[1:], identity.client_id], identity.environment)
    if what.person:
        # The person's authority, whoever acts in the end; their name is in no token.
        claims["dlg"], claims["sub"] = what.person, what.person_uri
        actors = [
            *(parent.chain if parent else ()),
            *([parent.identity.client_id] if parent else []),
        ]
        claims["act"] = _acting([*actors, identity.client_id], identity.environment)
    if what.ends_at is not None:
        claims["exp"] = min(claims["exp"], int(what.ends_at))
    if what.key:
        claims["cnf"] = {"jkt": what.key}
    token = jwt.encode({"alg": "ES256", "typ": "at+jwt", "kid": kid}, claims, key)
    return token, claims


def _slug(client_id: str) -> str:
    return client_id.rpartition(".")[0]


def _acting(actors: list[str], environment: str) -> dict[str, Any]:
    """The present actor, and within it those before. For people to read: nothing goes by it."""
    found: dict[str, Any] = {}
    for client_id in actors:
        uri = f"{settings.ISSUER}/agents/{environment}/{_slug(client_id)}"
        found = {"sub": uri, **({"act": found} if found else {})}
    return found


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
    """The caller behind an access token. Raises InvalidToken, whatever is wrong with it.

    Checked in order: size, `kid` among live keys, algorithm and type, signature, issuer, audience
    and environment of that very key, times, required claims, that it was not revoked, and that
    every party to it is usable in the epoch that the token was made in.
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
    jti, client_id = str(claims.get("jti")), str(claims.get("client_id"))
    if claims["kid"] not in directory.verification_keys or jti in directory.revoked:
        raise InvalidToken
    epochs, chain = claims.get("eps"), claims.get("chain", [])
    if not isinstance(epochs, dict) or not isinstance(chain, list):
        raise InvalidToken
    for party in (*chain, client_id):
        if not _stands(directory, party, epochs.get(party), environment=claims["env"]):
            raise InvalidToken
    person = str(claims.get("dlg", ""))
    if person and not _still_lets(directory, person):
        raise InvalidToken
    return Caller(
        identity=directory.identities[client_id],
        scopes=frozenset(str(claims.get("scope", "")).split()),
        jti=jti,
        epoch=epochs[client_id],
        expires_at=expires,
        kid=claims["kid"],
        chain=tuple(chain),
        epochs={party: epochs[party] for party in chain},
        key=str((claims.get("cnf") or {}).get("jkt", "")),
        person=person,
    )


def _still_lets(directory: Directory, person: str) -> bool:
    """Whether the person at the root is active, and has not taken the delegation back."""
    found = directory.persons.get(person)
    return found is not None and found.ends_at > time.time()


def _stands(directory: Directory, client_id: str, epoch: Any, *, environment: str) -> bool:
    """Whether an identity may act now, and was not stopped since it was in this epoch."""
    known = directory.identities.get(client_id)
    return (
        known is not None
        and known.usable
        and known.epoch == epoch
        and known.environment == environment
    )


def revalidate(caller: Caller, directory: Directory) -> Caller:
    """The caller as a newer directory knows it. Raises InvalidToken if it may no longer act.

    Everything is looked at again: every party with its epoch, whether the token was revoked, and
    the key that signed it.
    """
    client_id = caller.identity.client_id
    for party, epoch in {**caller.epochs, client_id: caller.epoch}.items():
        if not _stands(directory, party, epoch, environment=caller.identity.environment):
            raise InvalidToken
    if caller.kid and caller.kid not in directory.verification_keys:
        raise InvalidToken
    if caller.jti in directory.revoked:
        raise InvalidToken
    if caller.person and not _still_lets(directory, caller.person):
        raise InvalidToken
    return replace(caller, identity=directory.identities[client_id])


def numeric_date(value: Any) -> float | None:
    """Seconds since 1970 of a NumericDate (RFC 7519 section 2), which may have a fraction."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) and abs(value) < 10**11 else None


def jwt_header(token: str) -> dict[str, Any]:
    """The header of a compact JWS, not yet verified. Raises ValueError or JoseError."""
    parts = token.split(".")
    if len(parts) != 3:
        message = "not a compact JWS"
        raise ValueError(message)
    return dict(jws.extract_compact(token.encode()).headers())


def jwt_claims(token: str) -> dict[str, Any]:
    """The claims of a compact JWS, not verified. Raises ValueError, TypeError, JoseError."""
    claims = json.loads(jws.extract_compact(token.encode()).payload)
    if not isinstance(claims, dict):
        message = "claims that are no object"
        raise TypeError(message)
    return claims
