"""Finding events: each criterion by an index, so that a million of them make no difference."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from uuid import UUID

from django.db.models import Q

from accounts.models import Environment
from accounts.people import people_named
from audit import blind_index
from audit.events import SEARCHED
from audit.models import Event, EventQuerySet, Term


@dataclass(frozen=True, slots=True)
class Search:
    """Criteria of a search; all have to match. Times: from `since`, before `until`."""

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
            events = events.filter(_having(blind_index.about(self.subject)))
        if self.agent:
            wanted = _identities(self.agent)
            named = Term.objects.filter(term__in=wanted).values("event_number")
            events = events.filter(pk__in=named)
        for term in self._terms():
            events = events.filter(_having(term))
        return events.within(self.since, self.until)

    def _terms(self) -> list[int]:
        found = [blind_index.word(one) for one in blind_index.words_of(self.text)]
        if self.text and not found:
            found.append(blind_index.word(self.text))  # nothing that is a word: nothing has it
        if self.tool:
            found.append(blind_index.tool(self.tool))
        return found


def _keys_of(person: str) -> list[str]:
    """People are in the log by their keys; by name they are found among the people."""
    return [person, *map(str, people_named(person))]


def _identities(agent: str) -> list[int]:
    """An identity by its client id, or an agent's in every environment by its own name."""
    if "." in agent:
        return [blind_index.agent(agent)]
    everywhere = Environment.objects.values_list("slug", flat=True)
    return [blind_index.agent(agent), *(blind_index.agent(f"{agent}.{one}") for one in everywhere)]


def unknown_names(search: Search) -> dict[str, str]:
    """Return a sentence for each criterion that names something the log has never had: an empty
    result would read as if nothing had happened.
    """
    found = {}
    looked_for = {
        "agent": _identities(search.agent) if search.agent else [],
        "tool": [blind_index.tool(search.tool)] if search.tool else [],
    }
    for name, wanted in looked_for.items():
        if wanted and not Term.objects.filter(term__in=wanted).exists():
            found[name] = f"No event names the {name} {getattr(search, name)}."
    person = search.person
    if person and not person.isdigit() and not people_named(person):
        found["person"] = f"Nobody is called {person}, by user name, full name or mail address."
    return found


def _having(term: int) -> Q:
    return Q(pk__in=Term.objects.filter(term=term).values("event_number"))


# Of the newest events with the words, and of a text its first words.
MAX_EVENTS, MAX_WORDS = 1_200, 8


@dataclass(frozen=True, slots=True)
class NamedIn:
    """Return value of `named_in`: identifiers of subjects, and of runs, newest first."""

    subjects: Sequence[str] = ()
    runs: Sequence[UUID] = ()


def named_in(text: str) -> NamedIn:
    """Return what the newest events with all of these words are about, and their runs."""
    words = blind_index.words_of(text)[:MAX_WORDS]
    if not words:
        return NamedIn()
    events = Event.objects.all()
    for word in words:
        events = events.filter(_having(blind_index.word(word)))
    # Recorded searches contain the words too, and would push out the events that are looked for.
    events = events.exclude(type=SEARCHED.name)
    rows = list(events.order_by("-pk").values_list("subject_id", "run_id")[:MAX_EVENTS])
    runs = dict.fromkeys(run for _, run in rows if run is not None)
    return NamedIn(list(dict.fromkeys(subject for subject, _ in rows)), list(runs))
