import pytest
from django.db import transaction
from pytest_django import DjangoCaptureOnCommitCallbacks

from common.task_queue import Queue
from tests.conftest import Hints

pytestmark = pytest.mark.django_db


@pytest.fixture
def own_queue() -> tuple[Queue, Hints]:
    queue, sent = Queue(), Hints()
    queue.connect(sent.send)
    return queue, sent


def test_a_hint_is_sent_when_the_change_is_committed(
    own_queue: tuple[Queue, Hints],
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    queue, hints = own_queue
    with django_capture_on_commit_callbacks(execute=True):
        queue.enqueue("actions.resume", "one", "two")
        assert hints.sent == []
    assert hints.sent == [("actions.resume", ["one", "two"])]


def test_no_hint_is_sent_for_a_change_that_was_taken_back(
    own_queue: tuple[Queue, Hints],
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    queue, hints = own_queue

    @transaction.atomic
    def taken_back() -> None:
        queue.enqueue("actions.resume", "one")
        raise ZeroDivisionError

    with django_capture_on_commit_callbacks(execute=True):
        with pytest.raises(ZeroDivisionError):
            taken_back()
        queue.enqueue("actions.resume", "two")
    assert hints.of("actions.resume") == ["two"]


def test_without_a_broker_a_hint_is_lost_and_nothing_else(
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    with django_capture_on_commit_callbacks(execute=True) as callbacks:
        Queue().enqueue("actions.resume", "one")
    assert len(callbacks) == 1
