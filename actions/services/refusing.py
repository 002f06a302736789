"""Recording that a request was not taken in."""

from collections.abc import Mapping
from typing import Any

from actions import events
from agents.tokens import Caller
from audit.services.recording import Subject, record
from common.actors import Actor
from common.commands import command


@command
def record_refused_secret(caller: Caller, found: Mapping[str, Any], *, actor: Actor) -> None:
    """That an agent sent a credential: where it was, its kind and its keyed fingerprint."""
    identity = caller.identity
    record(
        events.SECRET_REFUSED,
        actor=actor,
        subject=Subject("agents.agentidentity", str(identity.pk), identity.client_id),
        kind=found["kind"],
        where=found["where"],
        fingerprint=found["fingerprint"],
    )
