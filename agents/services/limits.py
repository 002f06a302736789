"""Limits of requests a minute, of an identity, an owner's agents and a person's agents.

Many agents do not add up to more than one person may ask for. A limit that is reached is an event,
once in its minute; what is refused after it is not.
"""

from django.conf import settings
from django.db import transaction

from agents import events
from agents.directory import KnownIdentity, directory
from agents.tokens import Caller
from audit.services.recorder import Subject, record
from common.actors import SYSTEM
from common.rate_limits import TooManyRequests, count_in_minute


def ensure_caller_within(caller: Caller) -> None:
    """Count a request. Raises TooManyRequests, CacheAway."""
    known = caller.identity
    _ensure(known, "agent", known.client_id, settings.AGENT_REQUESTS_PER_MINUTE)
    _ensure(known, "owner", str(known.owner), settings.OWNER_REQUESTS_PER_MINUTE)
    behind = directory.cached().persons.get(caller.person) if caller.person else None
    if behind is not None:
        _ensure(known, "person", str(behind.person), settings.PERSON_REQUESTS_PER_MINUTE)


def ensure_tokens_within(known: KnownIdentity) -> None:
    """Count a token request that proved itself. Raises TooManyRequests, CacheAway."""
    _ensure(known, "tokens", known.client_id, settings.TOKEN_LIMIT_PER_IDENTITY)


def _ensure(known: KnownIdentity, limit: str, key: str, per_minute: int) -> None:
    count = count_in_minute(f"{limit}:{key}")
    if count <= per_minute:
        return
    if count == per_minute + 1:
        _record_reached(known, limit, per_minute)
    raise TooManyRequests


@transaction.atomic
def _record_reached(known: KnownIdentity, limit: str, per_minute: int) -> None:
    subject = Subject("agents.agentidentity", str(known.pk), known.client_id)
    record(events.LIMIT_REACHED, actor=SYSTEM, subject=subject, limit=limit, per_minute=per_minute)
