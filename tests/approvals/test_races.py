"""Many people and the sweeper at once, in real threads with real locks."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier
from typing import Any

import pytest
from django.db import connection

from accounts.models import Groups, User
from approvals.errors import ApprovalAlreadySpent, RequestAlreadyDecided
from approvals.models import ApprovalRequest
from approvals.services import expire_overdue, spend
from audit.models import Event
from common.actors import SYSTEM
from common.errors import GovernanceError
from tests import factories
from tests.approvals.questions import Outcomes, approve, ask, history, reject, stored

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db(transaction=True)]

RESOLUTIONS = {
    "approval.approved": "approved",
    "approval.rejected": "rejected",
    "approval.expired": "expired",
}


@pytest.fixture
def eight(db: Any) -> list[User]:
    """Eight managers who all look at the same page."""
    return [factories.person(f"mia{number}", Groups.MANAGERS) for number in range(8)]


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Eight threads that keep their connections until the test is over."""
    with ThreadPoolExecutor(8) as threads:
        yield threads
        gate = Barrier(8, timeout=30)

        def leave() -> None:
            gate.wait()
            connection.close()

        for done in [threads.submit(leave) for _ in range(8)]:
            done.result()


def at_once(pool: ThreadPoolExecutor, calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """What each call gave or was refused with, after all began together."""
    gate = Barrier(len(calls), timeout=30)

    def begun(call: Callable[[], Any]) -> Any:
        gate.wait()
        try:
            return call()
        except GovernanceError as error:
            return error

    return list(pool.map(begun, calls))


def refusals(results: Sequence[Any]) -> list[type]:
    return [type(result) for result in results if isinstance(result, GovernanceError)]


@pytest.mark.parametrize(("tier", "quorum"), [("manager", 1), ("dual", 2)])
def test_eight_approvers_at_once_resolve_a_request_once(
    told: Outcomes, eight: list[User], pool: ThreadPoolExecutor, tier: str, quorum: int
) -> None:
    for _ in range(5):
        told.told.clear()
        request = ask(tier)
        results = at_once(pool, [partial(approve, request, user) for user in eight])
        assert refusals(results) == [RequestAlreadyDecided] * (8 - quorum)
        assert stored(request).status == "approved"
        assert request.votes.count() == quorum
        assert [status for _, status, _ in told.told] == ["approved"]
    assert history().count("approval.approved") == 5
    assert history().count("approval.voted") == 5 * quorum


def test_a_request_is_approved_or_rejected_or_expires(
    told: Outcomes, eight: list[User], pool: ThreadPoolExecutor
) -> None:
    mia, max_, *_ = eight
    for _ in range(30):
        request = ask("manager")
        begun = Event.objects.latest("id").pk
        results = at_once(
            pool,
            [
                partial(approve, request, mia),
                partial(reject, request, max_),
                partial(expire_overdue, now=request.expires_at),
            ],
        )
        status = stored(request).status
        types = Event.objects.filter(pk__gt=begun).values_list("type", flat=True)
        assert [RESOLUTIONS[name] for name in types if name in RESOLUTIONS] == [status]
        assert told.told[-1][:2] == (request.pk, status)
        assert request.votes.count() == (0 if status == "expired" else 1)
        assert results[2] == (1 if status == "expired" else 0)
    assert len(told.told) == 30


def test_an_approval_is_spent_once_however_many_try(
    told: Outcomes, eight: list[User], pool: ThreadPoolExecutor
) -> None:
    request = ask("manager")
    approve(request, eight[0])
    results = at_once(pool, [partial(spend, request.pk, actor=SYSTEM, action="pay")] * 8)
    assert refusals(results) == [ApprovalAlreadySpent] * 7
    assert history().count("approval.spent") == 1


def test_several_sweepers_settle_each_request_once(
    told: Outcomes, pool: ThreadPoolExecutor
) -> None:
    requests = [ask("manager") for _ in range(12)]
    late = requests[-1].expires_at
    results = at_once(pool, [partial(expire_overdue, now=late)] * 8)
    assert sum(results) == 12
    assert ApprovalRequest.objects.filter(status="expired").count() == 12
    assert history().count("approval.expired") == 12
    assert len(told.told) == 12
