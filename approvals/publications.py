"""Publication of a draft that a second person approves: what was read is what takes effect.

A publication is approved as a difference to what is live, shown with the users who wrote it. If
something else has gone live since, the same draft makes another difference, and could take away a
prohibition that nobody has read about.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from approvals.models import ApprovalRequest

LiveNumbers = Callable[[Sequence[ApprovalRequest]], Mapping[UUID, int | None]]


@dataclass(frozen=True, slots=True)
class Publication:
    """A kind of publication whose requests keep, under `replaces`, the number that was live.

    `live_numbers` returns the number that is live now for each request. `sentence` says what has
    changed, with that number for its `{}`.
    """

    kind: str
    live_numbers: LiveNumbers
    sentence: str

    def outdated(self, requests: Sequence[ApprovalRequest]) -> dict[UUID, str]:
        """Return a sentence for each request that was compared with a former live number."""
        asked = [request for request in requests if request.kind == self.kind]
        live = self.live_numbers(asked) if asked else {}
        return {
            request.pk: self.sentence.format(live[request.pk])
            for request in asked
            if request.snapshot["replaces"] != live[request.pk]
        }
