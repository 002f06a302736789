from collections.abc import Iterator

import pytest

from tests.tools.servers import Server, serving


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture
def elsewhere() -> Iterator[Server]:
    """A second server, which must never hear of a call to the first."""
    with serving() as running:
        yield running
