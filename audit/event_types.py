"""The types of events. Each app declares its own in its `events.py`."""

from dataclasses import dataclass

from audit.errors import UnknownEvent


@dataclass(frozen=True, slots=True)
class EventType:
    name: str
    title: str
    details: frozenset[str]
    # Details that hold people's words in this event, though in others they hold codes.
    words: frozenset[str] = frozenset()


_declared: dict[str, EventType] = {}


def declare(name: str, title: str, *details: str, words: tuple[str, ...] = ()) -> EventType:
    """Declare an event by its stable name, with the details it may carry.

    `words`: those of the details that hold what somebody wrote, and so never lie in the open.
    """
    if name in _declared:
        message = f"{name} is declared twice"
        raise UnknownEvent(message)
    if not all(detail.isidentifier() and detail.isascii() for detail in details):
        message = f"{name} has a detail that is not an ASCII name"
        raise UnknownEvent(message)
    event_type = EventType(name, title, frozenset(details), frozenset(words))
    _declared[name] = event_type
    return event_type


def declared() -> dict[str, EventType]:
    return dict(_declared)


def words_of(name: str) -> frozenset[str]:
    found = _declared.get(name)
    return found.words if found else frozenset()


def title_of(name: str) -> str:
    found = _declared.get(name)
    return found.title if found else name


def ensure_declared(event_type: EventType, details: frozenset[str]) -> None:
    if _declared.get(event_type.name) is not event_type:
        message = f"{event_type.name} is not a declared event"
        raise UnknownEvent(message)
    unknown = details - event_type.details
    if unknown:
        message = f"{event_type.name} does not declare {sorted(unknown)}"
        raise UnknownEvent(message)
