from contextlib import suppress

from common.rate_limits import TooManyRequests, enforce_limit

LIMIT = 5


def passed(name: str, *, times: int) -> int:
    count = 0
    for _ in range(times):
        with suppress(TooManyRequests):
            enforce_limit(name, per_minute=LIMIT)
            count += 1
    return count


def test_up_to_the_limit_all_pass() -> None:
    assert passed("tilda", times=LIMIT) == LIMIT


def test_beyond_the_limit_requests_are_refused() -> None:
    # A minute may end in between: then two windows pass, and never more.
    assert LIMIT <= passed("tilda", times=2 * LIMIT + 1) <= 2 * LIMIT


def test_each_name_is_counted_by_itself() -> None:
    passed("tilda", times=2 * LIMIT + 1)
    assert passed("other", times=LIMIT) == LIMIT
