"""Other issuers that say who an identity is, and who may act for whom."""

from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from agents import events, keys
from agents.errors import CredentialTaken, InvalidLifecycleTransition
from agents.models import Agent, AgentIdentity, DelegationRule, FederatedCredential
from agents.services.issuer_keys import fetched, record_keys
from agents.services.permissions import ensure_may_manage, locked_identity
from agents.tokens import granted_scope
from audit.generation import deciding_command
from audit.services.recorder import record
from common.actors import Actor
from common.errors import InvalidInput, NotFound
from common.input_checks import clean_reason
from common.model_validation import validate_fields


def trust_issuer(
    identity_id: int,
    *,
    actor: Actor,
    issuer: str,
    subject: str,
    jwks: Any = None,
    jwks_uri: str = "",
) -> FederatedCredential:
    """Let assertions of another issuer about this subject prove the identity, by the keys that are
    given, or those at an address, which is looked at again and again.

    A pair that was withdrawn can be given to the same identity again, and to no other. Raises
    NotFound, NotAnswerable, InvalidKey, InvalidInput, IssuerUnreachable; CredentialTaken if the
    pair was ever given to another identity: like a key, it is never shared and never moves.
    """
    found = fetched(jwks_uri) if jwks_uri else keys.accepted_issuer_keys(jwks)
    return _trust(
        identity_id, actor=actor, issuer=issuer, subject=subject, found=found, jwks_uri=jwks_uri
    )


@deciding_command
def _trust(
    identity_id: int,
    *,
    actor: Actor,
    issuer: str,
    subject: str,
    found: list[dict[str, Any]],
    jwks_uri: str,
) -> FederatedCredential:
    identity = locked_identity(identity_id, actor)
    pair = {"issuer": issuer.strip(), "subject": subject.strip()}
    known = FederatedCredential.objects.select_for_update().filter(**pair).first()
    if known is not None and (known.identity_id != identity.pk or known.withdrawn_at is None):
        raise CredentialTaken
    row = known or FederatedCredential(identity=identity, **pair)
    row.jwks, row.jwks_uri, row.withdrawn_at = found, jwks_uri, None
    row.fetched_at, row.trouble = (timezone.now() if jwks_uri else None), ""
    if not row.issuer.startswith("https://") or not row.subject:
        message = "An issuer is an https address, and a subject is what it calls the agent."
        raise InvalidInput(message)
    validate_fields(row, exclude=("identity", "withdrawn_at", "fetched_at"))
    try:
        with transaction.atomic():
            row.save()
    except IntegrityError as error:
        raise CredentialTaken from error
    record(
        events.FEDERATED_CREDENTIAL_ADDED,
        actor=actor,
        subject=identity,
        issuer=row.issuer,
        subject_name=row.subject,
    )
    return row


def replace_issuer_keys(
    credential_id: int, *, actor: Actor, jwks: Any = None, jwks_uri: str = ""
) -> FederatedCredential:
    """Pin other keys of the issuer, or the address to fetch them from, in place of those it had.

    Raises NotFound, NotAnswerable, WrongLifeCycleStep, InvalidKey, IssuerUnreachable.
    """
    found = fetched(jwks_uri) if jwks_uri else keys.accepted_issuer_keys(jwks)
    return _replace_keys(credential_id, found, jwks_uri, actor=actor)


@deciding_command
def _replace_keys(
    credential_id: int, found: list[dict[str, Any]], jwks_uri: str, *, actor: Actor
) -> FederatedCredential:
    known = FederatedCredential.objects.filter(pk=credential_id).first()
    if known is None:
        raise NotFound
    locked_identity(known.identity_id, actor)
    row = FederatedCredential.objects.select_for_update().get(pk=credential_id)
    if row.withdrawn_at is not None:
        raise InvalidLifecycleTransition
    row.jwks, row.jwks_uri, row.trouble = found, jwks_uri, ""
    row.fetched_at = timezone.now() if jwks_uri else None
    row.save(update_fields=["jwks", "jwks_uri", "trouble", "fetched_at"])
    record_keys(row, actor=actor)
    return row


@deciding_command
def trust_issuer_no_more(credential_id: int, *, actor: Actor, reason: str) -> FederatedCredential:
    """Assertions of this issuer prove nothing any more, and tokens of the identity are dead.

    Raises NotFound, NotAnswerable, WrongLifeCycleStep.
    """
    reason = clean_reason(reason)
    found = FederatedCredential.objects.filter(pk=credential_id).first()
    if found is None:
        raise NotFound
    identity = locked_identity(found.identity_id, actor)
    row = FederatedCredential.objects.select_for_update().get(pk=credential_id)
    if row.withdrawn_at is not None:
        raise InvalidLifecycleTransition
    row.withdrawn_at = timezone.now()
    row.save(update_fields=["withdrawn_at"])
    identity.epoch += 1
    identity.save(update_fields=["epoch"])
    record(
        events.FEDERATED_CREDENTIAL_WITHDRAWN,
        actor=actor,
        subject=identity,
        issuer=row.issuer,
        subject_name=row.subject,
        reason=reason,
    )
    return row


@deciding_command
def require_dpop(identity_id: int, *, actor: Actor, required: bool) -> AgentIdentity:
    """Whether the identity's tokens must be bound to a key (RFC 9449); those that are not are dead
    from the moment that they must be. Raises NotFound, NotAnswerable.
    """
    identity = locked_identity(identity_id, actor)
    if identity.dpop_required == required:
        return identity
    identity.dpop_required = required
    if required:
        identity.epoch += 1
    identity.save(update_fields=["dpop_required", "epoch"])
    record(events.IDENTITY_BOUND, actor=actor, subject=identity, required=required)
    return identity


@deciding_command
def allow_delegation(
    subject_id: int,
    *,
    actor: Actor,
    acting_agent: Agent,
    scope: str,
    max_depth: int,
    reason: str,
) -> DelegationRule:
    """Let another agent act for this one, within `scope`, `max_depth` hands from whoever began.

    Who answers for the agent that is acted for decides it: its rights are lent. Raises NotFound,
    NotAnswerable, InvalidScope, InvalidInput if there is such a rule, or for the agent itself.
    """
    reason = clean_reason(reason)
    subject = Agent.objects.select_for_update().filter(pk=subject_id).first()
    if subject is None:
        raise NotFound
    ensure_may_manage(subject, actor)
    if subject.pk == acting_agent.pk:
        message = "An agent needs no rule to act for itself."
        raise InvalidInput(message)
    if DelegationRule.objects.in_force().filter(subject=subject, actor=acting_agent).exists():
        message = f"{acting_agent} may act for {subject} already: end that rule first."
        raise InvalidInput(message)
    rule = DelegationRule(
        subject=subject,
        actor=acting_agent,
        scope=granted_scope(scope),
        max_depth=max_depth,
        reason=reason,
        made_by=actor.label,
    )
    validate_fields(rule, exclude=("subject", "actor", "ended_at"))
    rule.save()
    record(
        events.DELEGATION_ALLOWED,
        actor=actor,
        subject=subject,
        acting=acting_agent.slug,
        scope=rule.scope,
        max_depth=max_depth,
        reason=reason,
    )
    return rule


@deciding_command
def end_delegation(rule_id: int, *, actor: Actor, reason: str) -> DelegationRule:
    """Nothing is exchanged by this rule any more. Tokens of the agent that was acted for are dead,
    and with them those that others hold on its behalf. Raises NotFound, WrongLifeCycleStep.
    """
    reason = clean_reason(reason)
    rule = DelegationRule.objects.select_for_update().filter(pk=rule_id).first()
    if rule is None:
        raise NotFound
    ensure_may_manage(rule.subject, actor)
    if rule.ended_at is not None:
        raise InvalidLifecycleTransition
    rule.ended_at = timezone.now()
    rule.save(update_fields=["ended_at"])
    for identity in rule.subject.identities.select_for_update():
        identity.epoch += 1
        identity.save(update_fields=["epoch"])
    record(
        events.DELEGATION_ENDED,
        actor=actor,
        subject=rule.subject,
        acting=rule.actor.slug,
        reason=reason,
    )
    return rule
