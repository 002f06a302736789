"""Keys and tokens: enrolment of an agent's key, and access tokens for the holder of one.

An agent proves itself with a signed assertion (RFC 7523, `private_key_jwt`): no client secrets,
no API keys. Every failure to prove it has one answer.
"""

import hashlib
import re
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.utils import timezone
from django.utils.crypto import salted_hmac
from joserfc import jwt
from joserfc.errors import JoseError

from accounts.models import Environment, User
from agents import events, keys, tokens
from agents.directory import directory
from agents.errors import (
    InvalidClient,
    InvalidEnrolment,
    KeyAlreadyUsed,
    WrongLifeCycleStep,
)
from agents.models import Agent, AgentIdentity, AgentKey, AssertionReplay, EnrolmentCode, SigningKey
from agents.services.answering import ensure_answers_for
from audit.generation import deciding_command
from audit.services import record
from common.actors import Actor, acting
from common.commands import command
from common.errors import NotFound, required_reason

CODE_LIFETIME = timedelta(hours=1)
ASSERTION_MAX_SECONDS = 300
MAX_ASSERTION_BYTES = 4_000
_CODE_BYTES = 20
_THUMBPRINT = re.compile(r"[A-Za-z0-9_-]{43}")
_JTI = re.compile(r"[\x21-\x7e]{1,200}")


@dataclass(frozen=True, slots=True)
class IssuedToken:
    token: str
    scope: str
    expires_in: int


@deciding_command
def ensure_signing_key(environment: Environment, *, actor: Actor) -> SigningKey:
    """The environment's active signing key, made if there is none."""
    found = SigningKey.objects.filter(
        environment=environment, status=SigningKey.Status.ACTIVE
    ).first()
    if found is not None:
        return found
    kid, public, sealed = keys.new_signing_key(environment.slug)
    key = SigningKey.objects.create(
        kid=kid, environment=environment, public_jwk=public, sealed_private=sealed
    )
    record(events.SIGNING_KEY_CREATED, actor=actor, subject=key, environment=environment.slug)
    return key


@command
def issue_enrolment_code(identity_id: int, *, actor: Actor) -> str:
    """A code for one enrolment within an hour. It is returned here and kept nowhere."""
    identities = AgentIdentity.objects.select_for_update(of=("self",)).select_related("agent")
    try:
        identity = identities.get(pk=identity_id)
    except AgentIdentity.DoesNotExist as error:
        raise NotFound from error
    ensure_answers_for(identity.agent, actor)
    if not _may_enrol(identity):
        raise WrongLifeCycleStep
    code = secrets.token_urlsafe(_CODE_BYTES)
    expires_at = timezone.now() + CODE_LIFETIME
    EnrolmentCode.objects.create(
        identity=identity,
        code_hmac=_code_hmac(code),
        expires_at=expires_at,
        issued_by=User.objects.filter(pk=actor.id).first() if actor.kind == "human" else None,
    )
    record(
        events.ENROLMENT_CODE_ISSUED,
        actor=actor,
        subject=identity,
        expires_at=expires_at.isoformat(),
    )
    return code


@transaction.atomic
def enrol(*, code: str, jwk: Any, proof: str) -> AgentKey:
    """Take a public key in, against a one-time code and a proof that the sender holds the key.

    `proof` is a JWT signed by the key with `aud` = issuer and a life of at most five minutes.
    Raises InvalidEnrolment, InvalidKey, KeyAlreadyUsed; a refusal leaves the code unused.
    """
    algorithm, key = keys.accepted_public_key(jwk)
    if not code.isascii():
        raise InvalidEnrolment
    row = (
        EnrolmentCode.objects.select_for_update(of=("self",))
        .select_related("identity", "identity__agent")
        .filter(code_hmac=_code_hmac(code))
        .first()
    )
    now = timezone.now()
    if row is None or not row.is_usable(now):
        raise InvalidEnrolment
    if not _may_enrol(row.identity):
        raise InvalidEnrolment
    try:
        _checked_assertion(proof, key, algorithm)
    except InvalidClient as error:
        raise InvalidEnrolment from error
    with acting(_as_actor(row.identity)):
        row.used_at = now
        row.save(update_fields=["used_at"])
        return _stored_key(row.identity, algorithm, key)


def _may_enrol(identity: AgentIdentity) -> bool:
    """A draft may get its key before it is activated; what is stopped gets none."""
    return identity.status == AgentIdentity.Status.ACTIVE and identity.agent.status in {
        Agent.Status.DRAFT,
        Agent.Status.ACTIVE,
    }


@deciding_command
def revoke_key(key_id: int, *, actor: Actor, reason: str) -> AgentKey:
    """The key proves nobody any more, and tokens got with it are dead. It is never accepted
    again. Raises WrongLifeCycleStep if it is revoked already.
    """
    reason = required_reason(reason)
    key = (
        AgentKey.objects.select_for_update(of=("self",))
        .select_related("identity", "identity__agent")
        .filter(pk=key_id)
        .first()
    )
    if key is None:
        raise NotFound
    ensure_answers_for(key.identity.agent, actor)
    if key.status == AgentKey.Status.REVOKED:
        raise WrongLifeCycleStep
    key.status = AgentKey.Status.REVOKED
    key.save(update_fields=["status"])
    identity = AgentIdentity.objects.select_for_update().get(pk=key.identity_id)
    identity.epoch += 1
    identity.save(update_fields=["epoch"])
    record(
        events.CREDENTIAL_REVOKED,
        actor=actor,
        subject=key.identity,
        thumbprint=key.thumbprint,
        reason=reason,
    )
    return key


def _stored_key(identity: AgentIdentity, algorithm: str, key: keys.AgentPublicKey) -> AgentKey:
    thumbprint = key.thumbprint()
    try:
        with transaction.atomic():
            stored = AgentKey.objects.create(
                identity=identity,
                thumbprint=thumbprint,
                algorithm=algorithm,
                public_jwk=key.as_dict(private=False),
            )
    except IntegrityError as error:
        raise KeyAlreadyUsed from error
    record(
        events.CREDENTIAL_ENROLLED,
        actor=_as_actor(identity),
        subject=identity,
        thumbprint=thumbprint,
    )
    return stored


def issue_token(*, assertion: str, scope: str) -> IssuedToken:
    """An access token for the agent that signed the assertion.

    Raises InvalidClient for everything that is wrong with the assertion, InvalidScope. An
    assertion works once: its `jti` is kept until it expires, by primary key.
    """
    granted = tokens.granted_scope(scope)
    key, algorithm, public = _key_of(assertion)
    claims = _checked_assertion(assertion, public, algorithm)
    client_id = key.identity.client_id
    if claims.get("iss") != client_id or claims.get("sub") != client_id:
        raise InvalidClient
    known = directory.fresh().identities.get(client_id)
    if known is None or not known.usable:
        raise InvalidClient
    with transaction.atomic():
        # Under the row's lock: a revocation either came first, or comes after and raises the
        # epoch that this token is minted in.
        held = AgentKey.objects.filter(pk=key.pk, status=AgentKey.Status.ACTIVE)
        if not held.update(last_used_at=timezone.now()):
            raise InvalidClient
        _spend_assertion(client_id, claims)
        signing = SigningKey.objects.get(
            environment_id=known.environment, status=SigningKey.Status.ACTIVE
        )
        private = keys.opened_signing_key(
            known.environment, signing.kid, bytes(signing.sealed_private)
        )
        token, minted = tokens.mint(known, scope=granted, kid=signing.kid, key=private)
        record(
            events.CREDENTIAL_ISSUED,
            actor=_as_actor(key.identity),
            subject=key.identity,
            jti=minted["jti"],
            scope=granted,
            expires_at=datetime.fromtimestamp(minted["exp"], UTC).isoformat(),
        )
    return IssuedToken(token, granted, tokens.LIFETIME_SECONDS)


def _key_of(assertion: str) -> tuple[AgentKey, str, keys.AgentPublicKey]:
    if len(assertion) > MAX_ASSERTION_BYTES:
        raise InvalidClient
    try:
        kid = str(tokens.jwt_header(assertion).get("kid"))
    except (JoseError, ValueError, RecursionError) as error:
        raise InvalidClient from error
    if not _THUMBPRINT.fullmatch(kid):
        raise InvalidClient
    key = (
        AgentKey.objects.select_related("identity")
        .filter(thumbprint=kid, status=AgentKey.Status.ACTIVE)
        .first()
    )
    if key is None:
        raise InvalidClient
    algorithm, public = keys.accepted_public_key(key.public_jwk)
    return key, algorithm, public


def _checked_assertion(assertion: str, key: keys.AgentPublicKey, algorithm: str) -> dict[str, Any]:
    """The claims of an assertion signed by `key`, its audience and times checked.

    Only the issuer itself is an acceptable audience, as one string: an assertion made for
    another server, or for several, cannot be replayed here (RFC 7523bis).
    """
    if len(assertion) > MAX_ASSERTION_BYTES:
        raise InvalidClient
    # RFC 9864 names the algorithm Ed25519; many libraries still write EdDSA.
    accepted = [algorithm, "EdDSA"] if algorithm == "Ed25519" else [algorithm]
    try:
        claims = dict(jwt.decode(assertion, key, algorithms=accepted).claims)
    except (JoseError, ValueError, TypeError, RecursionError) as error:
        raise InvalidClient from error
    issued, expires, jti = claims.get("iat"), claims.get("exp"), claims.get("jti")
    if claims.get("aud") != settings.ISSUER:
        raise InvalidClient
    if not isinstance(jti, str) or not _JTI.fullmatch(jti):
        raise InvalidClient
    if not isinstance(issued, int) or not isinstance(expires, int):
        raise InvalidClient
    now = time.time()
    in_time = issued <= now + tokens.CLOCK_SKEW_SECONDS and now < expires
    if not in_time or not 0 < expires - issued <= ASSERTION_MAX_SECONDS:
        raise InvalidClient
    return claims


def _spend_assertion(client_id: str, claims: dict[str, Any]) -> None:
    digest = hashlib.sha256(f"{client_id}\x00{claims['jti']}".encode()).hexdigest()
    expires_at = datetime.fromtimestamp(claims["exp"], UTC)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO agents_assertionreplay (digest, expires_at) VALUES (%s, %s) "
            "ON CONFLICT (digest) DO NOTHING",
            [digest, connection.ops.adapt_datetimefield_value(expires_at)],
        )
        if cursor.rowcount != 1:
            raise InvalidClient


def prune_assertions(*, now: datetime | None = None) -> int:
    """Forget assertions that have expired and so could not be used anyway; how many."""
    deleted, _ = AssertionReplay.objects.filter(expires_at__lt=now or timezone.now()).delete()
    return deleted


def _code_hmac(code: str) -> str:
    return salted_hmac("agents.enrolment", code, algorithm="sha256").hexdigest()


def _as_actor(identity: AgentIdentity) -> Actor:
    return Actor(kind="agent", id=identity.client_id, label=identity.client_id)
