"""Access tokens: given to whoever has proven itself, exchanged on another's behalf, given back."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from agents import dpop, events, keys, tokens
from agents.directory import KnownIdentity, directory
from agents.errors import (
    InvalidClient,
    InvalidDpopProof,
    InvalidGrant,
    InvalidTarget,
    InvalidToken,
    InvalidTokenRequest,
)
from agents.models import AgentIdentity, AgentKey, RevokedToken, SigningKey
from agents.services import user_delegations
from agents.services.assertions import VerifiedAssertion, claim_once, spend, verify_assertion
from agents.services.enrolment import as_actor
from agents.services.limits import ensure_tokens_within
from audit.generation import advance, deciding_command
from audit.services.recorder import record
from common.actors import Actor


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A token request, whatever its grant."""

    assertion: str
    scope: str = ""
    resource: str = ""
    dpop: str = ""
    subject_token: str = ""
    subject_is_person: bool = False


@dataclass(frozen=True, slots=True)
class IssuedToken:
    token: str
    scope: str
    expires_in: int
    token_type: str = "Bearer"  # noqa: S105 - the scheme's name


def issue_token(asked: TokenRequest) -> IssuedToken:
    """An access token for the agent that has proven itself.

    Raises InvalidClient for everything that is wrong with its assertion, InvalidScope,
    InvalidTarget for another environment's audience, InvalidDpopProof, TooManyRequests.
    """
    granted = tokens.granted_scope(asked.scope)
    used = verify_assertion(asked.assertion)
    known = _usable(used)
    return _issue(used, tokens.TokenSpec(known, granted, key=_bound_to(used, asked)), asked)


def exchange_token(asked: TokenRequest) -> IssuedToken:
    """A token to act for the agent that another token was issued to (RFC 8693).

    Its rights are those of both and of the rule that allows it, its end is the earlier one, and
    it dies with any party. Raises what `issue_token` raises, and InvalidGrant: the other token is
    not valid, no rule lets this agent act for that one, or the line is too long or a circle.
    """
    wanted = tokens.granted_scope(asked.scope)
    used = verify_assertion(asked.assertion)
    known = _usable(used)
    if asked.subject_is_person:
        return _issue(used, _for_person(used, known, wanted, asked), asked)
    parent = _subject(asked.subject_token, known)
    scope = _scope_for(parent, known, wanted)
    behind = directory.current().persons.get(parent.person)
    minting = tokens.TokenSpec(
        known,
        scope,
        on_behalf=parent,
        key=_bound_to(used, asked),
        person=parent.person,
        person_uri=tokens.person_uri(behind.person) if behind else "",
    )
    return _issue(used, minting, asked)


def _for_person(
    used: VerifiedAssertion, known: KnownIdentity, wanted: str, asked: TokenRequest
) -> tokens.TokenSpec:
    """A token to act for a person, by the code that they gave to this identity."""
    given = user_delegations.behind(asked.subject_token, known.pk)
    scope = tokens.meet(given.scope.split(), wanted.split())
    if not scope:
        raise InvalidGrant
    return tokens.TokenSpec(
        known,
        " ".join(sorted(scope)),
        key=_bound_to(used, asked),
        person=str(given.pk),
        person_uri=tokens.person_uri(given.person_id),
        ends_at=given.ends_at.timestamp(),
    )


def _subject(token: str, actor: KnownIdentity) -> tokens.Caller:
    try:
        parent = tokens.verify(token, directory.current())
    except InvalidToken as error:
        raise InvalidGrant from error
    line = (*parent.chain, parent.identity.client_id)
    is_elsewhere = parent.identity.environment != actor.environment
    # A bound token is its holder's: nobody else can show that the key is there.
    hands = len(line) + bool(parent.person)
    if is_elsewhere or parent.key or actor.client_id in line or hands > tokens.MAX_CHAIN:
        raise InvalidGrant
    return parent


def _scope_for(parent: tokens.Caller, actor: KnownIdentity, wanted: str) -> str:
    rule = directory.current().delegations.get((parent.identity.agent_slug, actor.agent_slug))
    if rule is None or len(parent.chain) + 1 > rule.max_depth:
        raise InvalidGrant
    scope = tokens.meet(tokens.meet(parent.scopes, rule.scopes), wanted.split())
    if not scope:
        raise InvalidGrant
    return " ".join(sorted(scope))


def _usable(used: VerifiedAssertion) -> KnownIdentity:
    known = directory.current().identities.get(used.identity.client_id)
    if known is None or not known.usable:
        raise InvalidClient
    ensure_tokens_within(known)
    return known


def _bound_to(used: VerifiedAssertion, asked: TokenRequest) -> str:
    """The thumbprint of the key that the token is bound to, if it is to be. Raises
    InvalidDpopProof, also if the identity's tokens must be bound and no proof was sent.
    """
    if not asked.dpop:
        if used.identity.dpop_required:
            raise InvalidDpopProof
        return ""
    return shown_key(asked.dpop, method="POST", url=f"{settings.ISSUER}/oauth/token")


def shown_key(proof: str, *, method: str, url: str, access_token: str = "") -> str:
    """The thumbprint of the key that a proof shows, once. Raises InvalidDpopProof."""
    thumbprint, jti, over = dpop.thumbprint_of(
        proof, method=method, url=url, access_token=access_token
    )
    if not claim_once(f"dpop\x00{thumbprint}\x00{jti}", datetime.fromtimestamp(over, UTC)):
        raise InvalidDpopProof
    return thumbprint


def _issue(used: VerifiedAssertion, minting: tokens.TokenSpec, asked: TokenRequest) -> IssuedToken:
    known = minting.identity
    if asked.resource not in {"", tokens.audience(known.environment)}:
        raise InvalidTarget
    with transaction.atomic():
        _ensure_still(used)
        spend(used)
        signing = SigningKey.objects.get(
            environment_id=known.environment, status=SigningKey.Status.ACTIVE
        )
        private = keys.opened_signing_key(
            known.environment, signing.kid, bytes(signing.sealed_private)
        )
        token, claims = tokens.mint(minting, kid=signing.kid, key=private)
        _record_issued(used, claims)
    kind = "DPoP" if minting.key else "Bearer"
    return IssuedToken(token, minting.scope, claims["exp"] - claims["iat"], kind)


def _ensure_still(used: VerifiedAssertion) -> None:
    """Under the row's lock: a revocation either came first, or comes after and raises the epoch
    that this token is minted in. Raises InvalidClient.
    """
    if used.key is not None:
        held = AgentKey.objects.filter(pk=used.key.pk, status__in=AgentKey.ACCEPTED)
        if not held.update(last_used_at=timezone.now()):
            raise InvalidClient
    elif used.credential is not None:
        credentials = type(used.credential).objects.in_force().select_for_update()
        if not credentials.filter(pk=used.credential.pk).exists():
            raise InvalidClient


def _record_issued(used: VerifiedAssertion, claims: dict[str, Any]) -> None:
    record(
        events.CREDENTIAL_ISSUED,
        actor=as_actor(used.identity),
        subject=used.identity,
        jti=claims["jti"],
        scope=claims["scope"],
        expires_at=datetime.fromtimestamp(claims["exp"], UTC).isoformat(),
        chain=claims.get("chain", []),
        bound=bool(claims.get("cnf")),
        epoch=claims["eps"][used.identity.client_id],
        delegation=claims.get("dlg", ""),
    )


def revoke_token(*, assertion: str, token: str) -> None:
    """End a token before its time, for the agent that it was issued to (RFC 7009).

    A token that is not valid anyway is no error. Raises InvalidClient; InvalidTokenRequest for
    another agent's token.
    """
    used = verify_assertion(assertion)
    known = _usable(used)
    try:
        caller = tokens.verify(token, directory.current())
    except InvalidToken:
        with transaction.atomic():
            spend(used)
        return
    if known.client_id not in {caller.identity.client_id, *caller.chain}:
        message = "The token was not issued to this client."
        raise InvalidTokenRequest(message)
    _revoke(used, caller, actor=as_actor(used.identity))


@deciding_command
def _revoke(used: VerifiedAssertion, caller: tokens.Caller, *, actor: Actor) -> None:
    spend(used)
    expires_at = datetime.fromtimestamp(caller.expires_at, UTC)
    _, is_new = RevokedToken.objects.get_or_create(
        jti=caller.jti, defaults={"expires_at": expires_at}
    )
    if is_new:
        record(events.TOKEN_REVOKED, actor=actor, subject=used.identity, jti=caller.jti)
        advance()


@deciding_command
def end_token(caller: tokens.Caller, *, actor: Actor) -> None:
    """End one token of somebody's before its time, because it was seen where it should not be."""
    expires_at = datetime.fromtimestamp(caller.expires_at, UTC)
    _, is_new = RevokedToken.objects.get_or_create(
        jti=caller.jti, defaults={"expires_at": expires_at}
    )
    if is_new:
        identity = AgentIdentity.objects.get(pk=caller.identity.pk)
        record(events.TOKEN_REVOKED, actor=actor, subject=identity, jti=caller.jti)
        advance()


def prune_revoked() -> int:
    """Forget tokens that are over by themselves; how many."""
    deleted, _ = RevokedToken.objects.filter(expires_at__lt=timezone.now()).delete()
    return deleted


def introspect(*, assertion: str, token: str) -> dict[str, Any]:
    """Return the meaning of a token, for systems that agents call directly (RFC 7662).

    Asked by an identity of the same environment; to everybody else, and of every token that may
    not be used now, the answer is only that it is not active. Raises InvalidClient.
    """
    used = verify_assertion(assertion)
    known = _usable(used)
    with transaction.atomic():
        spend(used)
    try:
        caller = tokens.verify(token, directory.current())
    except InvalidToken:
        return {"active": False}
    if caller.identity.environment != known.environment:
        return {"active": False}
    claims = tokens.jwt_claims(token)
    shown = ("iss", "aud", "sub", "client_id", "scope", "iat", "exp", "jti", "act", "cnf", "env")
    return {
        "active": True,
        "token_type": "DPoP" if caller.key else "Bearer",
        **{name: claims[name] for name in shown if name in claims},
    }
