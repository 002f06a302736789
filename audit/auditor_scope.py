"""The part of the log a person may see: everything, or the range of their pass."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils import timezone

from audit import blind_index
from audit.models import AuditorPass, EventQuerySet, Term

# All that a person with a pass may do, as far as they have these rights at all.
ALLOWED = frozenset(
    f"audit.{name}"
    for name in (
        "view_event",
        "view_eventpayload",
        "view_checkpoint",
        "view_witnessstate",
        "view_export",
        "ask_export",
    )
)
_KNOWN = "_chancery_audit_scope"


@dataclass(frozen=True, slots=True)
class AuditorScope:
    """`agents`: client ids; none are all. Moments as in `audit.search.Search`."""

    agents: tuple[str, ...]
    since: datetime | None
    until: datetime | None
    ends_at: datetime
    is_withdrawn: bool

    @property
    def is_over(self) -> bool:
        return self.is_withdrawn or self.ends_at <= timezone.now()

    def of(self, events: EventQuerySet) -> EventQuerySet:
        """Those of the events that may be seen."""
        if self.is_over:
            return events.none()
        if self.agents:
            named = [blind_index.agent(one) for one in self.agents]
            seen = Term.objects.filter(term__in=named).values("event_number")
            events = events.filter(pk__in=seen)
        return events.within(self.since, self.until)


def scope_of(user: Any) -> AuditorScope | None:
    """None: nothing limits what the person's rights let them see. Asked once per request."""
    if not hasattr(user, _KNOWN):
        setattr(user, _KNOWN, _found(user))
    known: AuditorScope | None = getattr(user, _KNOWN)
    return known


def _found(user: Any) -> AuditorScope | None:
    given = AuditorPass.objects.filter(person_id=user.pk).order_by("-id").first()
    if given is None or given.restored_at is not None:
        return None
    return AuditorScope(
        tuple(given.agents),
        given.since,
        given.until,
        given.ends_at,
        given.withdrawn_at is not None,
    )
