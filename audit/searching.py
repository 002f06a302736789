"""Finding events: each criterion by an index, so that a million of them make no difference."""

from dataclasses import dataclass, fields
from datetime import datetime
from uuid import UUID

from django.db.models import Q

from accounts.models import User
from audit import terms
from audit.models import Event, EventQuerySet, Term
from common.ids import first_key_at

# Identifiers are allotted as rows are written, moments a little before: how far they can be apart.
_SLACK = 10_000


@dataclass(frozen=True, slots=True)
class Search:
    """What is looked for; all of it has to fit. Moments: from `since`, before `until`."""

    type: str = ""
    agent: str = ""
    person: str = ""
    tool: str = ""
    subject: str = ""
    run: UUID | None = None
    text: str = ""
    since: datetime | None = None
    until: datetime | None = None

    @property
    def named(self) -> list[str]:
        """The criteria that are given."""
        return [one.name for one in fields(self) if getattr(self, one.name)]

    def found_in(self, events: EventQuerySet) -> EventQuerySet:
        if self.type:
            events = events.filter(type=self.type)
        if self.run:
            events = events.filter(run_id=self.run)
        if self.person:
            events = events.filter(actor_kind="human", actor_id__in=_keys_of(self.person))
        if self.subject:
            events = events.filter(_having(terms.about(self.subject)))
        for term in self._terms():
            events = events.filter(_having(term))
        return _within(events, self.since, self.until)

    def _terms(self) -> list[int]:
        found = [terms.word(one) for one in terms.words_of(self.text)]
        if self.text and not found:
            found.append(terms.word(self.text))  # nothing that is a word: nothing has it
        if self.agent:
            found.append(terms.agent(self.agent))
        if self.tool:
            found.append(terms.tool(self.tool))
        return found


def _keys_of(person: str) -> list[str]:
    """People are in the log by their keys; by name they are found among the people."""
    named = User.objects.filter(username=person).values_list("pk", flat=True)
    return [person, *(str(pk) for pk in named)]


def _having(term: int) -> Q:
    return Q(pk__in=Term.objects.filter(term=term).values("event_number"))


def _within(events: EventQuerySet, since: datetime | None, until: datetime | None) -> EventQuerySet:
    """Identifiers grow with time, and the time is in the UUID (RFC 9562): bounds by its index."""
    if since:
        first = _number_at(since)
        if first is not None:
            events = events.filter(pk__gte=first - _SLACK)
        events = events.filter(recorded_at__gte=since)
    if until:
        last = _number_at(until)
        if last is not None:
            events = events.filter(pk__lte=last + _SLACK)
        events = events.filter(recorded_at__lt=until)
    return events


def _number_at(moment: datetime) -> int | None:
    following = Event.objects.filter(uid__gte=first_key_at(moment)).order_by("uid")
    return following.values_list("pk", flat=True).first()
