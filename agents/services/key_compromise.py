"""Stopping an identity by itself, where something has happened that leaves no doubt."""

from agents import events
from agents.errors import InvalidLifecycleTransition
from agents.models import AgentKey, Finding
from agents.services.findings import Anomaly, report
from agents.services.lifecycle import suspend_identity
from audit.generation import deciding_command
from audit.services.recorder import record
from common.actors import Actor


@deciding_command
def suspend_for_superseded_key(key: AgentKey, *, actor: Actor) -> None:
    """A key was used after its time: somebody holds a copy. The identity is suspended, its tokens
    are dead, and it is recorded; people let it go on.
    """
    try:
        identity = suspend_identity(
            key.identity_id, actor=actor, reason="A superseded key was used."
        )
    except InvalidLifecycleTransition:
        return  # it was locked the first time, and once is enough for the log
    record(
        events.SUPERSEDED_KEY_USED,
        actor=actor,
        subject=identity,
        thumbprint=key.thumbprint,
    )
    seen = {"key": key.thumbprint, "accepted until": str(key.retires_at)}
    report(Anomaly(key.identity_id, Finding.Rule.SUPERSEDED_KEY, key.thumbprint, seen))
