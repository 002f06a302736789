"""Views of protected values, recorded like everything else."""

from typing import Any

from audit import events
from audit.models import Event
from audit.permissions import SEE_VALUES
from audit.retention import SENSITIVE_FIELD
from audit.search import NamedIn, Search, named_in
from audit.services.recorder import Subject, record
from common.actors import Actor
from common.commands import command

KEPT_APART = "(to see it takes a right of its own)"
LOG = Subject("audit.log", "log", "the audit log")


@command
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


@command
def view_values(event: Event, *, actor: Actor, sensitive: bool = False) -> dict[str, Any]:
    """Return the values beside an event that were not erased, for a person to read; record the
    view.

    `sensitive`: what tools declare to be personal or sensitive too, which is a right of its own.
    """
    record(
        events.PAYLOAD_VIEWED,
        actor=actor,
        subject=Subject("audit.event", str(event.uid), event.type),
        apart=sensitive,
    )
    values = event.values()
    if SENSITIVE_FIELD in values and not sensitive:
        values[SENSITIVE_FIELD] = KEPT_APART
    return values


@command
def note_report(report: str, *, actor: Actor, since: str, until: str) -> None:
    """Somebody looked at a report over a period."""
    record(events.REPORT_VIEWED, actor=actor, subject=LOG, report=report, since=since, until=until)


def search_words(text: str, *, user: Any) -> NamedIn:
    """Return the subjects and runs of events that contain these words, and record the search.

    A person without the right to see values gets an empty result, and nothing is recorded: finding
    a word would tell them that it is there.
    """
    if not user.has_perm(SEE_VALUES):
        return NamedIn()
    note_search(Search(text=text), actor=Actor.from_user(user))
    return named_in(text)


@command
def note_search(search: Search, *, actor: Actor) -> None:
    """Somebody looked for events by these criteria."""
    sought = {name: str(getattr(search, name)) for name in search.named}
    record(events.SEARCHED, actor=actor, subject=LOG, fields=search.named, sought=sought)
