"""A person lets an agent act for them, and stops it."""

import secrets
from datetime import timedelta
from uuid import UUID

from django.utils import timezone
from django.utils.crypto import salted_hmac

from accounts.models import User
from agents import events
from agents.errors import InvalidGrant, InvalidLifecycleTransition, NotResponsibleForAgent
from agents.models import AgentIdentity, PersonDelegation
from agents.services.permissions import ensure_manages_every_agent
from agents.tokens import granted_scope
from audit.generation import deciding_command
from audit.services.recorder import record
from common.actors import Actor
from common.errors import InvalidInput, NotFound
from common.input_checks import clean_reason

MAX_MINUTES = 8 * 60
_CODE_BYTES = 24


@deciding_command
def grant_delegation(
    identity_id: int, *, actor: Actor, scope: str, minutes: int, reason: str
) -> tuple[PersonDelegation, str]:
    """Let an identity act for the person who says so; the delegation, and a code for the agent.

    The code is good for this identity alone, until the end, and is kept nowhere. The agent
    exchanges it for tokens that name the person (RFC 8693), with its own rights and no more than
    `scope`. Raises NotFound, NotAnswerable unless a person asks, InvalidScope, InvalidInput.
    """
    reason = clean_reason(reason)
    person = User.objects.filter(pk=actor.id, is_active=True) if actor.kind == "human" else None
    found = person.first() if person is not None else None
    if found is None:
        raise NotResponsibleForAgent
    identity = AgentIdentity.objects.select_for_update().filter(pk=identity_id).first()
    if identity is None:
        raise NotFound
    if not 1 <= minutes <= MAX_MINUTES:
        message = f"Between 1 and {MAX_MINUTES} minutes."
        raise InvalidInput(message)
    code = secrets.token_urlsafe(_CODE_BYTES)
    delegation = PersonDelegation.objects.create(
        person=found,
        identity=identity,
        scope=granted_scope(scope),
        code_hmac=code_hmac(code),
        reason=reason,
        ends_at=timezone.now() + timedelta(minutes=minutes),
    )
    record(
        events.PERSON_DELEGATED,
        actor=actor,
        subject=identity,
        delegation=str(delegation.pk),
        scope=delegation.scope,
        ends_at=delegation.ends_at.isoformat(),
    )
    return delegation, code


@deciding_command
def revoke_delegation(delegation_id: UUID, *, actor: Actor, reason: str) -> PersonDelegation:
    """Tokens that name the person are dead, and those that were got from them. The person may, and
    whoever manages every agent. Raises NotFound, NotAnswerable, WrongLifeCycleStep.
    """
    reason = clean_reason(reason)
    rows = PersonDelegation.objects.select_for_update(of=("self",)).select_related("identity")
    delegation = rows.filter(pk=delegation_id).first()
    if delegation is None:
        raise NotFound
    if actor.kind != "human" or actor.id != str(delegation.person_id):
        ensure_manages_every_agent(actor)
    if delegation.ended_at is not None:
        raise InvalidLifecycleTransition
    delegation.ended_at = timezone.now()
    delegation.save(update_fields=["ended_at"])
    record(
        events.PERSON_DELEGATION_ENDED,
        actor=actor,
        subject=delegation.identity,
        delegation=str(delegation.pk),
        reason=reason,
    )
    return delegation


def behind(code: str, identity_id: int) -> PersonDelegation:
    """The delegation that a code stands for. Raises InvalidGrant, whatever is wrong with it."""
    if not code.isascii() or len(code) > 200:
        raise InvalidGrant
    found = (
        PersonDelegation.objects.in_force()
        .select_related("person")
        .filter(code_hmac=code_hmac(code), identity_id=identity_id)
        .first()
    )
    if found is None or found.ends_at <= timezone.now() or not found.person.is_active:
        raise InvalidGrant
    return found


def code_hmac(code: str) -> str:
    return salted_hmac("agents.person_delegation", code, algorithm="sha256").hexdigest()
