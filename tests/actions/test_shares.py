"""An identity's share of the workers: its slow calls leave room for those of others."""

from contextlib import ExitStack
from typing import Any

import pytest
from django.core.cache import caches

from actions import tasks, worker_shares
from actions.models import Action
from actions.services import redecision
from actions.worker_shares import ShareTaken, share_of_workers
from tests.factories import Governed

pytestmark = pytest.mark.django_db


@pytest.fixture
def ready(governed: Governed, settings: Any) -> Action:
    settings.WORKER_SHARE = 2
    caches["counters"].clear()
    return governed.pay(governed.run(), asynchronous=True).action


def test_beyond_the_share_nothing_is_carried_out_and_it_is_asked_for_again(
    ready: Action, monkeypatch: pytest.MonkeyPatch
) -> None:
    retries: list[dict[str, Any]] = []

    def send(args: Any, kwargs: Any, *, countdown: float) -> None:
        assert args == (str(ready.pk),)
        assert 0 < countdown <= 1
        retries.append(kwargs)

    monkeypatch.setattr(tasks.execute, "apply_async", send)
    with ExitStack() as others:
        for _ in range(2):
            others.enter_context(share_of_workers(str(ready.pk)))
        for _ in range(25):  # as many hints as the sweeper sends
            tasks.execute(str(ready.pk))
        ready.refresh_from_db()
        assert ready.status == "ready"
        assert retries == [{"is_retry": True}]
        tasks.execute(str(ready.pk), **retries[0])
        assert retries == [{"is_retry": True}] * 2
    tasks.execute(str(ready.pk))
    ready.refresh_from_db()
    assert ready.status == "succeeded"
    assert len(retries) == 2


def test_a_share_that_was_forgotten_is_not_given_back_twice(ready: Action) -> None:
    """A call that outlives its share, as of a worker that was frozen, frees none of others."""
    first = share_of_workers(str(ready.pk))
    first.__enter__()
    caches["counters"].clear()
    with ExitStack() as others:
        for _ in range(2):
            others.enter_context(share_of_workers(str(ready.pk)))
        first.__exit__(None, None, None)
        with pytest.raises(ShareTaken), share_of_workers(str(ready.pk)):
            pass
    for _ in range(2):
        with share_of_workers(str(ready.pk)):
            pass


def test_a_share_is_given_back_whatever_happens(
    ready: Action, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr(redecision, "resume", broken)
    for _ in range(5):
        with pytest.raises(RuntimeError):
            tasks.execute(str(ready.pk))


def test_without_the_cache_nothing_is_kept_back(
    ready: Action, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Away:
        def add(self, *_: Any, **__: Any) -> None:
            raise ConnectionRefusedError

    monkeypatch.setattr(worker_shares, "caches", {"counters": Away()})
    with ExitStack() as many:
        for _ in range(5):
            many.enter_context(share_of_workers(str(ready.pk)))


def test_another_identity_has_its_own_share(ready: Action, governed: Governed) -> None:
    with ExitStack() as many:
        for _ in range(2):
            many.enter_context(share_of_workers(str(ready.pk)))
        with pytest.raises(ShareTaken), share_of_workers(str(ready.pk)):
            pass
        caches["counters"].set("workers:another", 0)
        with share_of_workers("01a22013-ee3e-79f4-94c7-0da2bd091208"):  # of nobody: not counted
            pass
