"""The portal's own signing keys: one in use per environment, the next published before it is.

A verifier may hold the published keys for as long as `jwks.json` says. So a key is first
published, then used, then still accepted until the last token that it signed is over.
"""

from datetime import datetime, timedelta

from django.utils import timezone

from accounts.models import Environment
from agents import events, keys, tokens
from agents.errors import InvalidLifecycleTransition, SigningKeyNotReady
from agents.models import SigningKey
from audit.change_log import note_sealed
from audit.generation import deciding_command
from audit.services.recorder import record
from common.actors import SYSTEM, Actor
from common.encryption import key_id_of, sealing_key_id
from common.errors import NotFound
from common.input_checks import clean_reason
from common.isolation import each

# How long verifiers may hold what they fetched, as `jwks.json` says.
PUBLISHED_FOR = timedelta(seconds=300)
READY_AFTER = PUBLISHED_FOR + timedelta(seconds=60)
ROTATE_AFTER = timedelta(days=30)
ACCEPTED_FOR = timedelta(seconds=tokens.LIFETIME_SECONDS + 2 * tokens.CLOCK_SKEW_SECONDS)


@deciding_command
def ensure_signing_key(environment: Environment, *, actor: Actor) -> SigningKey:
    """The environment's active signing key, made if there is none."""
    found = SigningKey.objects.filter(
        environment=environment, status=SigningKey.Status.ACTIVE
    ).first()
    if found is not None:
        return found
    key = _create(environment.slug, SigningKey.Status.ACTIVE)
    record(events.SIGNING_KEY_CREATED, actor=actor, subject=key, environment=environment.slug)
    return key


@deciding_command
def prepare(environment: str, *, actor: Actor) -> SigningKey:
    """Publish the key that is used next. Raises NotFound, WrongLifeCycleStep if there is one."""
    _locked(environment)
    if SigningKey.objects.filter(environment=environment, status=SigningKey.Status.NEXT).exists():
        raise InvalidLifecycleTransition
    key = _create(environment, SigningKey.Status.NEXT)
    record(events.SIGNING_KEY_PREPARED, actor=actor, subject=key, kid=key.kid)
    return key


@deciding_command
def activate(
    environment: str, *, actor: Actor, reason: str, now: datetime | None = None
) -> SigningKey:
    """Use the next key from now on; the one before is accepted until its tokens are over.

    Both in one transaction: there is never an environment that nobody can sign for. Raises
    NotFound, SigningKeyNotReady if the next key was not published long enough.
    """
    reason = clean_reason(reason)
    moment = now or timezone.now()
    active = _locked(environment)
    key = SigningKey.objects.filter(environment=environment, status=SigningKey.Status.NEXT).first()
    if key is None or moment - key.created_at < READY_AFTER:
        raise SigningKeyNotReady
    active.status, active.retired_at = SigningKey.Status.RETIRING, moment
    active.save(update_fields=["status", "retired_at"])
    _mark_used_from(key, moment)
    record(
        events.SIGNING_KEY_ACTIVATED,
        actor=actor,
        subject=key,
        kid=key.kid,
        retired=active.kid,
        reason=reason,
    )
    return key


def reseal_all(*, actor: Actor) -> int:
    """Seal every private signing key with the ring's present key; how many were done.

    Raises CannotUnseal if one was sealed with a key that the ring does not hold.
    """
    outdated = [row.pk for row in SigningKey.objects.all() if _is_outdated(row)]
    return sum(_reencrypt(pk, actor=actor) for pk in outdated)


def _is_outdated(row: SigningKey) -> bool:
    return key_id_of(bytes(row.sealed_private)) != sealing_key_id()


@deciding_command
def _reencrypt(key_id: int, *, actor: Actor) -> int:
    row = SigningKey.objects.select_for_update().get(pk=key_id)
    if not _is_outdated(row):
        return 0
    row.sealed_private = keys.resealed(row.environment_id, row.kid, bytes(row.sealed_private))
    row.save(update_fields=["sealed_private"])
    note_sealed(row, "sealed_private")
    record(events.SIGNING_KEY_RESEALED, actor=actor, subject=row, key=sealing_key_id())
    return 1


@deciding_command
def revoke(key_id: int, *, actor: Actor, reason: str) -> SigningKey:
    """Trust a signing key no more: every token that it signed is dead at once.

    For a key in use a fresh one takes its place in the same transaction, whether published before
    or not: verifiers elsewhere refuse its tokens until they fetch the keys again. Raises NotFound,
    WrongLifeCycleStep if it is revoked already.
    """
    reason = clean_reason(reason)
    key = SigningKey.objects.select_for_update().filter(pk=key_id).first()
    if key is None:
        raise NotFound
    if key.status == SigningKey.Status.REVOKED:
        raise InvalidLifecycleTransition
    was_active = key.status == SigningKey.Status.ACTIVE
    key.status, key.retired_at = SigningKey.Status.REVOKED, key.retired_at or timezone.now()
    key.save(update_fields=["status", "retired_at"])
    record(events.SIGNING_KEY_REVOKED, actor=actor, subject=key, kid=key.kid, reason=reason)
    if was_active:
        _replace(key.environment_id, actor=actor, reason=reason)
    return key


def _replace(environment: str, *, actor: Actor, reason: str) -> None:
    waiting = SigningKey.objects.filter(
        environment=environment, status=SigningKey.Status.NEXT
    ).first()
    key = waiting or _create(environment, SigningKey.Status.NEXT)
    _mark_used_from(key, timezone.now())
    record(
        events.SIGNING_KEY_ACTIVATED,
        actor=actor,
        subject=key,
        kid=key.kid,
        retired="",
        reason=reason,
    )


def rotate_due(*, now: datetime | None = None) -> int:
    """Take the steps that are due in all environments (publish, activate, retire) and return their
    number.

    Any number of these may run: each step is looked at again under lock, and what another has done
    or what is not ready yet keeps none of the others back.
    """
    moment = now or timezone.now()
    in_hand = (SigningKey.Status.ACTIVE, SigningKey.Status.RETIRING)

    def step(key: SigningKey) -> int:
        try:
            return _step(key, moment)
        except (InvalidLifecycleTransition, SigningKeyNotReady):
            return 0

    return sum(each(SigningKey.objects.filter(status__in=in_hand), step, what="signing key"))


def _step(key: SigningKey, moment: datetime) -> bool:
    """Take the step that is due for one key, if any is."""
    if key.status == SigningKey.Status.RETIRING:
        is_over = key.retired_at is not None and key.retired_at <= moment - ACCEPTED_FOR
        if is_over:
            revoke(key.pk, actor=SYSTEM, reason="The last token that it signed is over.")
        return is_over
    age = moment - (key.activated_at or key.created_at)
    following = SigningKey.objects.filter(
        environment=key.environment_id, status=SigningKey.Status.NEXT
    )
    if not following.exists():
        if age >= ROTATE_AFTER / 2:
            prepare(key.environment_id, actor=SYSTEM)
        return age >= ROTATE_AFTER / 2
    if age >= ROTATE_AFTER:
        activate(key.environment_id, actor=SYSTEM, reason="Its time has come.", now=moment)
    return age >= ROTATE_AFTER


def _locked(environment: str) -> SigningKey:
    """The active key, locked: whoever changes an environment's keys holds it. Raises NotFound."""
    key = (
        SigningKey.objects.select_for_update()
        .filter(environment=environment, status=SigningKey.Status.ACTIVE)
        .first()
    )
    if key is None:
        raise NotFound
    return key


def _create(environment: str, status: SigningKey.Status) -> SigningKey:
    kid, public, sealed = keys.new_signing_key(environment)
    now = timezone.now()
    return SigningKey.objects.create(
        kid=kid,
        environment_id=environment,
        public_jwk=public,
        sealed_private=sealed,
        status=status,
        activated_at=now if status == SigningKey.Status.ACTIVE else None,
    )


def _mark_used_from(key: SigningKey, moment: datetime) -> None:
    key.status, key.activated_at = SigningKey.Status.ACTIVE, moment
    key.save(update_fields=["status", "activated_at"])
