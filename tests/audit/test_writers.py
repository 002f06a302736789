"""Each connection numbers the events it commits, without a gap."""

import contextlib
import os
import threading
from collections import defaultdict
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction

from accounts.models import Environment
from agents import events as agent_events
from audit.errors import RecordOutsideTransaction
from audit.leaf_encoding import parsed_leaf
from audit.models import Event
from audit.services.recorder import Subject, record
from audit.writer_sequences import next_numbers
from common.actors import SYSTEM

THING = Subject("tests.thing", "1", "thing 1")
real = pytest.mark.django_db(transaction=True)


class TakenBack(Exception):
    pass


def said(reason: str = "x") -> None:
    record(agent_events.AGENT_SUSPENDED, actor=SYSTEM, subject=THING, reason=reason)


def committed(*reasons: str) -> None:
    with transaction.atomic():
        for reason in reasons:
            said(reason)


def taken_back() -> None:
    with contextlib.suppress(TakenBack), transaction.atomic():
        said("never")
        raise TakenBack


def refused_by_the_database() -> None:
    with contextlib.suppress(IntegrityError), transaction.atomic():
        said("never")
        Environment.objects.create(slug="")


def numbers() -> dict[str, list[int]]:
    found = defaultdict(list)
    for writer, number in Event.objects.order_by("id").values_list("writer", "writer_number"):
        found[writer].append(number)
    return dict(found)


def lines() -> list[Any]:
    return [parsed_leaf(event.leaf)["w"] for event in Event.objects.order_by("id")]


@real
def test_a_connection_counts_what_it_commits() -> None:
    committed("a", "b")
    committed("c")
    assert list(numbers().values()) == [[1, 2, 3]]
    assert [line[:2] for line in lines()] == [[next(iter(numbers())), n] for n in (1, 2, 3)]


@real
def test_what_is_rolled_back_gives_its_numbers_back() -> None:
    committed("a")
    taken_back()
    committed("b")
    assert list(numbers().values()) == [[1, 2]]


@real
def test_what_a_savepoint_takes_back_leaves_no_gap() -> None:
    with transaction.atomic():
        said("a")
        taken_back()
        said("b")
        with transaction.atomic():
            said("c")
    committed("d")
    assert list(numbers().values()) == [[1, 2, 3, 4]]


@real
def test_what_the_database_refuses_leaves_no_gap() -> None:
    with transaction.atomic():
        said("a")
        refused_by_the_database()
        said("b")
    assert list(numbers().values()) == [[1, 2]]


@pytest.mark.postgresql
@real
def test_a_new_connection_is_a_new_writer_that_names_the_one_before() -> None:
    committed("a", "b")
    connection.close()
    committed("c", "d")
    first, second = numbers()
    assert numbers() == {first: [1, 2], second: [1, 2]}
    assert lines() == [[first, 1], [first, 2], [second, 1, first, 2], [second, 2]]


@pytest.mark.postgresql
@real
def test_each_thread_writes_for_itself() -> None:
    def work() -> None:
        for _ in range(3):
            committed("x")
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers().values()) == [[1, 2, 3]] * 4


@real
def test_a_forked_process_is_another_writer(monkeypatch: pytest.MonkeyPatch) -> None:
    committed("a")
    monkeypatch.setattr(os, "getpid", lambda: -1)
    committed("b")
    assert sorted(numbers().values()) == [[1], [1]]


@pytest.mark.django_db
def test_numbers_go_on_within_one_long_transaction() -> None:
    for _ in range(3):
        committed("x")
    assert list(numbers().values()) == [[1, 2, 3]]


@real
def test_numbers_are_taken_in_a_transaction_only() -> None:
    with pytest.raises(RecordOutsideTransaction):
        next_numbers(connection, 1)


@real
def test_a_hook_that_fails_at_commit_uses_no_number_twice() -> None:
    def fails() -> None:
        raise TakenBack

    with contextlib.suppress(TakenBack), transaction.atomic():
        transaction.on_commit(fails)
        said("committed all the same")
    committed("next")
    assert list(numbers().values()) == [[1, 2]]
