"""Identities, signing keys and halts as one frozen value per generation.

What a token's verification and a decision need to know of agents, without a query.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from django.utils import timezone
from joserfc.jwk import ECKey

from agents.models import (
    Agent,
    AgentIdentity,
    DelegationRule,
    Halt,
    PersonDelegation,
    RevokedToken,
    SigningKey,
    covering,
)
from audit.generation_cache import PerGeneration


@dataclass(frozen=True, slots=True)
class KnownIdentity:
    pk: int
    client_id: str
    environment: str
    epoch: int
    agent_pk: int
    agent_slug: str
    agent_title: str
    risk: str
    conflicted_users: tuple[int, ...]
    owner: int
    usable: bool
    token_seconds: int = AgentIdentity.TOKEN_SECONDS


@dataclass(frozen=True, slots=True)
class VerificationKey:
    environment: str
    key: ECKey


@dataclass(frozen=True, slots=True)
class Delegation:
    """One agent may act for another, within `scopes`, at most `max_depth` hands from the first."""

    scopes: frozenset[str]
    max_depth: int


@dataclass(frozen=True, slots=True)
class Delegator:
    """A person for whom an identity may act, until a time (in seconds of Unix)."""

    person: int
    username: str
    identity: int
    ends_at: float


@dataclass(frozen=True)
class Directory:
    identities: Mapping[str, KnownIdentity]
    verification_keys: Mapping[str, VerificationKey]
    halts: Mapping[tuple[str, str], str]
    revoked: frozenset[str] = frozenset()
    # (who is acted for, who acts): within which rights, and how far down the line
    delegations: Mapping[tuple[str, str], "Delegation"] = field(default_factory=dict)
    # By the identifier of the delegation; of people who are active.
    persons: Mapping[str, Delegator] = field(default_factory=dict)

    def halt_covering(
        self, *, agent: str, environment: str, system: str, tool: str
    ) -> tuple[str, str, str] | None:
        """(kind, target, reason) of the widest halt in force over such a call, or None."""
        if not self.halts:
            return None
        for covered in covering(agent=agent, environment=environment, system=system, tool=tool):
            reason = self.halts.get(covered)
            if reason is not None:
                return (*covered, reason)
        return None


def _build() -> Directory:
    identities = AgentIdentity.objects.select_related("agent", "agent__sponsor", "agent__owner")
    identities = identities.prefetch_related("agent__former_people")
    return Directory(
        identities={row.client_id: _known(row, row.agent.involved) for row in identities},
        verification_keys={
            row.kid: VerificationKey(row.environment_id, ECKey.import_key(row.public_jwk))
            for row in SigningKey.objects.exclude(status=SigningKey.Status.REVOKED)
        },
        halts={(row.kind, row.target): row.reason for row in Halt.objects.in_force()},
        revoked=frozenset(RevokedToken.objects.values_list("jti", flat=True)),
        delegations={
            (rule.subject.slug, rule.actor.slug): Delegation(
                frozenset(rule.scope.split()), rule.max_depth
            )
            for rule in DelegationRule.objects.in_force().select_related("subject", "actor")
        },
        persons={
            str(row.pk): Delegator(
                row.person_id, row.person.get_username(), row.identity_id, row.ends_at.timestamp()
            )
            for row in PersonDelegation.objects.in_force()
            .filter(person__is_active=True, ends_at__gt=timezone.now())
            .select_related("person")
        },
    )


def stops_of(client_ids: Collection[str]) -> Directory:
    """Return everything that can stop these identities. Two queries: an emergency waits for it."""
    identities = AgentIdentity.objects.select_related("agent__sponsor").filter(
        client_id__in=client_ids
    )
    return Directory(
        identities={row.client_id: _known(row, ()) for row in identities},
        verification_keys={},
        halts={(row.kind, row.target): row.reason for row in Halt.objects.in_force()},
    )


def _known(row: AgentIdentity, involved: Collection[int]) -> KnownIdentity:
    agent = row.agent
    usable = (
        row.status == AgentIdentity.Status.ACTIVE
        and agent.status == Agent.Status.ACTIVE
        # No active sponsor, no active identity.
        and agent.sponsor.is_active
    )
    return KnownIdentity(
        pk=row.pk,
        client_id=row.client_id,
        environment=row.environment_id,
        epoch=row.epoch,
        agent_pk=agent.pk,
        agent_slug=agent.slug,
        agent_title=agent.title,
        risk=agent.risk,
        conflicted_users=tuple(involved),
        owner=row.agent.owner_id,
        usable=usable,
        token_seconds=row.token_seconds,
    )


directory = PerGeneration(_build)
