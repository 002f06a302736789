from collections.abc import Iterator

import pytest

from approvals import handlers
from approvals.models import Tier
from tests.approvals.questions import KIND, Outcomes


@pytest.fixture
def told(tiers: dict[str, Tier]) -> Iterator[Outcomes]:
    """A floor above that asks questions of its own kind and notes the outcomes."""
    handler = Outcomes()
    handlers.on_resolved(KIND, handler)
    yield handler
    del handlers._handlers[KIND]
