"""Stopping an identity by itself, where something has happened that leaves no doubt."""

from agents import events
from agents.models import AgentIdentity, AgentKey
from audit.generation import deciding_command
from audit.services import record
from common.actors import Actor


@deciding_command
def lock_for_superseded_key(key: AgentKey, *, actor: Actor) -> None:
    """A key was used after its time: somebody holds a copy. The identity is suspended, its tokens
    are dead, and it is recorded; people let it go on.
    """
    identity = AgentIdentity.objects.select_for_update().get(pk=key.identity_id)
    if identity.status != AgentIdentity.Status.ACTIVE:
        return  # it was locked the first time, and once is enough for the log
    identity.status = AgentIdentity.Status.SUSPENDED
    identity.epoch += 1
    identity.save(update_fields=["status", "epoch"])
    record(
        events.SUPERSEDED_KEY_USED,
        actor=actor,
        subject=identity,
        thumbprint=key.thumbprint,
    )
