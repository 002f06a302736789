"""Races on PostgreSQL, with real threads and real transactions."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any
from uuid import UUID

import pytest
from django.db import connection

from accounts.models import User
from actions.models import Action, Attempt, Run
from actions.services import redecision
from actions.services.runs import Budget
from approvals.models import ApprovalRequest, Vote
from approvals.services import cast_vote
from audit.models import Event
from common.actors import Actor
from tests.factories import Governed

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db(transaction=True)]
THREADS = 8


def at_once(work: Callable[[int], Any]) -> list[Any]:
    """The results of eight threads that start together; an exception counts as its result."""
    barrier = Barrier(THREADS)

    def one(number: int) -> Any:
        barrier.wait()
        try:
            return work(number)
        except Exception as error:  # noqa: BLE001 - what each thread met is the result
            return error
        finally:
            connection.close()

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(one, range(THREADS)))


def test_one_approval_is_one_execution(governed: Governed, rosa: User) -> None:
    action = governed.pay(governed.run(), 500).action
    cast_vote(
        UUID(str(action.approval_id)),
        actor=Actor.from_user(rosa),
        answer=Vote.Answer.APPROVE,
        reason="Yes.",
    )
    results = at_once(lambda number: redecision.resume(action.pk))
    assert not [result for result in results if isinstance(result, Exception)]
    assert Action.objects.get(pk=action.pk).status == Action.Status.SUCCEEDED
    assert Attempt.objects.filter(action=action).count() == 1
    assert governed.toolbox.calls == ["pay"]
    assert Event.objects.filter(type="approval.spent").count() == 1
    assert ApprovalRequest.objects.filter(spent_at__isnull=False).count() == 1


def test_one_key_is_one_action(governed: Governed) -> None:
    run = governed.run()
    results = at_once(lambda number: governed.pay(run, 5, key="same"))
    assert {result.action.pk for result in results} == {Action.objects.get().pk}
    assert governed.toolbox.calls == ["pay"]


def test_a_budget_holds_against_eight_at_once(governed: Governed) -> None:

    run = governed.run(budget=Budget(actions=3))
    results = at_once(lambda number: governed.pay(run, 1).action.outcome)
    assert sorted(results) == ["allowed"] * 3 + ["denied"] * 5
    assert Run.objects.get(pk=run.pk).actions_count == 8
