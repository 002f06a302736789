"""What was looked at, and by whom, is recorded like everything else."""

from django.db import transaction

from audit import events
from audit.services.recording import Subject, record
from common.actors import Actor

LOG = Subject("audit.log", "log", "the audit log")


@transaction.atomic
def note_verification(*, actor: Actor, size: int, values: int, problems: int, first: str) -> None:
    """The log was verified up to this size; `problems` is how many there are."""
    if problems:
        record(
            events.VERIFY_FAILED,
            actor=actor,
            subject=LOG,
            size=size,
            problems=problems,
            first=first,
        )
    else:
        record(events.VERIFY_PASSED, actor=actor, subject=LOG, size=size, values=values)
