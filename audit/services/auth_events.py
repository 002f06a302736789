"""People's coming and going, recorded: who signed in, where it was refused, who signed out."""

from accounts.models import User
from audit import events
from audit.services.recorder import Subject, record
from common.actors import Actor
from common.commands import command

# A name that nobody has may be a password in the wrong field: it is not written down.
NOBODY = Subject("accounts.user", "unknown", "unknown")


@command
def note_signed_in(user: User, *, actor: Actor, address: str) -> None:
    record(events.SIGNED_IN, actor=actor, subject=user, address=address)


@command
def note_signed_out(user: User, *, actor: Actor, address: str) -> None:
    record(events.SIGNED_OUT, actor=actor, subject=user, address=address)


@command
def note_refused(username: str, *, actor: Actor, address: str) -> None:
    """A password that was not right, or came from where too many had come from before."""
    found = User.objects.filter(username__iexact=username).first() if username else None
    record(events.SIGN_IN_REFUSED, actor=actor, subject=found or NOBODY, address=address)
