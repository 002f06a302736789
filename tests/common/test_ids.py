import time
from uuid import RFC_4122

from common.ids import uuid7


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


def test_no_two_ids_are_the_same() -> None:
    assert len({uuid7() for _ in range(20_000)}) == 20_000
