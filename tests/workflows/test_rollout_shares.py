"""How long is waited before a call is made again, and how runs are shared between versions."""

from datetime import timedelta
from random import Random
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflows.definitions.spec import Retry
from workflows.models.definitions import WHOLE
from workflows.services.runs import bucket

LENGTHS = st.integers(1, 10**6).map(lambda ms: timedelta(milliseconds=ms))


@given(
    retry=st.builds(Retry, backoff=LENGTHS, max_backoff=LENGTHS, factor=st.floats(1, 10)),
    failures=st.integers(1, 200),
)
def test_waits_grow_up_to_their_bound(retry: Retry, failures: int) -> None:
    bound = retry.bound(failures)
    assert 0 < bound <= retry.bound(failures + 1) <= retry.max_backoff.total_seconds()
    assert retry.bound(1) == min(retry.backoff, retry.max_backoff).total_seconds()


@pytest.mark.parametrize("slug", ["work", "vendor-credit", "0"])
@pytest.mark.parametrize("seed", range(5))
def test_a_tenth_of_the_runs_falls_to_a_share_of_a_tenth(slug: str, seed: int) -> None:
    chance = Random(seed)
    ids = [UUID(int=chance.getrandbits(128)) for _ in range(10_000)]
    places = [bucket(slug, one) for one in ids]
    assert 800 <= sum(place < 1_000 for place in places) <= 1_200
    assert 0 <= min(places) <= max(places) < WHOLE
    assert places == [bucket(slug, one) for one in ids]
