"""An agent's keys: enrolled with a one-time code, replaced by the agent, revoked by people."""

import secrets
from datetime import timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.crypto import salted_hmac

from accounts.models import User
from agents import events, keys
from agents.errors import (
    InvalidClient,
    InvalidEnrolment,
    InvalidLifecycleTransition,
    KeyAlreadyUsed,
)
from agents.models import Agent, AgentIdentity, AgentKey, EnrolmentCode
from agents.services.assertions import VerifiedAssertion, checked_assertion, spend, verify_assertion
from agents.services.permissions import ensure_may_manage, locked_identity
from audit.generation import deciding_command
from audit.services.recorder import record
from common.actors import Actor, acting
from common.commands import command
from common.errors import NotFound
from common.input_checks import clean_reason

CODE_LIFETIME = timedelta(hours=1)
# How long a key that was replaced is still accepted: runtimes are not all restarted at once.
OVERLAP = timedelta(hours=24)
_CODE_BYTES = 20


@command
def issue_enrolment_code(identity_id: int, *, actor: Actor) -> str:
    """A code for one enrolment within an hour. It is returned here and kept nowhere."""
    identity = locked_identity(identity_id, actor)
    if not _may_enrol(identity):
        raise InvalidLifecycleTransition
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
    _ensure_held(proof, key, algorithm)
    with acting(as_actor(row.identity)):
        row.used_at = now
        row.save(update_fields=["used_at"])
        stored = _store_key(row.identity, algorithm, key)
        record(
            events.CREDENTIAL_ENROLLED,
            actor=as_actor(row.identity),
            subject=row.identity,
            thumbprint=stored.thumbprint,
        )
    return stored


def replace_key(*, assertion: str, jwk: Any, proof: str) -> AgentKey:
    """Take a new key in for the holder of an old one: signed by both.

    The assertion by the old key names the new one (`new_key`, its thumbprint): an assertion that
    was made for a token replaces nothing. The old one is still accepted for OVERLAP, after that it
    is superseded: to use it then locks the identity. Raises InvalidClient for the assertion by the
    old key, InvalidEnrolment for the proof by the new one, InvalidKey, KeyAlreadyUsed.
    """
    used = verify_assertion(assertion)
    algorithm, key = keys.accepted_public_key(jwk)
    _ensure_held(proof, key, algorithm)
    if used.key is None or used.claims.get("new_key") != key.thumbprint():
        raise InvalidClient
    return _replace(used, used.key, algorithm, key)


@transaction.atomic
def _replace(
    used: VerifiedAssertion, old: AgentKey, algorithm: str, key: keys.AgentPublicKey
) -> AgentKey:
    identity = (
        AgentIdentity.objects.select_for_update(of=("self",))
        .select_related("agent")
        .get(pk=old.identity_id)
    )
    spend(used)
    if not _may_enrol(identity):
        raise InvalidClient
    with acting(as_actor(identity)):
        held = AgentKey.objects.select_for_update().get(pk=old.pk)
        if held.status != AgentKey.Status.ACTIVE:
            # The answer to the first time may have been lost: the same key again is no other.
            follower = identity.keys.filter(
                thumbprint=key.thumbprint(), status=AgentKey.Status.ACTIVE
            ).first()
            if follower is None:
                raise InvalidClient
            return follower
        held.status, held.retires_at = AgentKey.Status.RETIRING, timezone.now() + OVERLAP
        held.save(update_fields=["status", "retires_at"])
        stored = _store_key(identity, algorithm, key)
        record(
            events.CREDENTIAL_ROTATED,
            actor=as_actor(identity),
            subject=identity,
            thumbprint=stored.thumbprint,
            replaced=held.thumbprint,
        )
    return stored


def supersede_due() -> int:
    """Write down which replaced keys are over; they are refused before that; how many."""
    over = AgentKey.objects.filter(status=AgentKey.Status.RETIRING, retires_at__lte=timezone.now())
    number = 0
    for key in over:
        with transaction.atomic():
            held = AgentKey.objects.select_for_update().get(pk=key.pk)
            if held.status == AgentKey.Status.RETIRING:
                held.status = AgentKey.Status.SUPERSEDED
                held.save(update_fields=["status"])
                number += 1
    return number


@deciding_command
def revoke_key(key_id: int, *, actor: Actor, reason: str) -> AgentKey:
    """The key proves nobody any more, and tokens got with it are dead. It is never accepted
    again. Raises WrongLifeCycleStep if it is revoked already.
    """
    reason = clean_reason(reason)
    key = (
        AgentKey.objects.select_for_update(of=("self",))
        .select_related("identity", "identity__agent")
        .filter(pk=key_id)
        .first()
    )
    if key is None:
        raise NotFound
    ensure_may_manage(key.identity.agent, actor)
    if key.status == AgentKey.Status.REVOKED:
        raise InvalidLifecycleTransition
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


def as_actor(identity: AgentIdentity) -> Actor:
    return Actor(kind="agent", id=identity.client_id, label=identity.client_id)


def _may_enrol(identity: AgentIdentity) -> bool:
    """Return whether the identity may get a key: before it is active, yes; once stopped, no."""
    return identity.status != AgentIdentity.Status.SUSPENDED and identity.agent.status in {
        Agent.Status.DRAFT,
        Agent.Status.ACTIVE,
    }


def _ensure_held(proof: str, key: keys.AgentPublicKey, algorithm: str) -> None:
    try:
        checked_assertion(proof, key, algorithm)
    except InvalidClient as error:
        raise InvalidEnrolment from error


def _store_key(identity: AgentIdentity, algorithm: str, key: keys.AgentPublicKey) -> AgentKey:
    try:
        with transaction.atomic():
            return AgentKey.objects.create(
                identity=identity,
                thumbprint=key.thumbprint(),
                algorithm=algorithm,
                public_jwk=key.as_dict(private=False),
            )
    except IntegrityError as error:
        raise KeyAlreadyUsed from error


def _code_hmac(code: str) -> str:
    return salted_hmac("agents.enrolment", code, algorithm="sha256").hexdigest()
