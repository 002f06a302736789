import time
from datetime import UTC, datetime, timedelta
from uuid import RFC_4122

import pytest

from common.ids import first_key_at, uuid7


def test_an_id_is_a_uuid_of_version_7() -> None:
    for _ in range(200):
        made = uuid7()
        assert made.version == 7
        assert made.variant == RFC_4122


def test_ids_sort_by_the_time_they_were_made_at() -> None:
    made = []
    for _ in range(10):
        made.append(uuid7())
        time.sleep(0.002)
    assert sorted(made) == made
    assert sorted(map(str, made)) == list(map(str, made))


def test_an_id_tells_its_time() -> None:
    before = time.time_ns() // 1_000_000
    made = uuid7()
    after = time.time_ns() // 1_000_000
    assert before <= made.int >> 80 <= after


@pytest.mark.parametrize("milliseconds", [0, 1, 499, 500, 999])
def test_a_list_by_time_begins_with_the_first_id_of_its_millisecond(milliseconds: int) -> None:
    moment = datetime(2026, 3, 1, 12, 30, tzinfo=UTC) + timedelta(milliseconds=milliseconds)
    first = first_key_at(moment)
    assert (first.version, first.variant) == (7, RFC_4122)
    assert datetime.fromtimestamp((first.int >> 80) / 1000, UTC) == moment
    assert first_key_at(moment + timedelta(microseconds=999)) == first
    assert first_key_at(moment - timedelta(microseconds=1)) < first


def test_ids_made_from_now_on_are_in_a_list_from_now_on() -> None:
    before = uuid7()
    time.sleep(0.002)
    first = first_key_at(datetime.now(UTC))
    assert before < first <= uuid7()


def test_no_two_ids_are_the_same() -> None:
    assert len({uuid7() for _ in range(20_000)}) == 20_000
