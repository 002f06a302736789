from typing import Any, cast

import pytest
from auditlog.models import LogEntry

from accounts.models import Environment, User
from audit.generation import current_mark
from common.actors import SYSTEM, Actor, acting_now
from common.commands import command

pytestmark = pytest.mark.django_db

OLGA = Actor("human", "7", "olga")
seen: list[Actor | None] = []


@pytest.fixture(autouse=True)
def _nothing_seen() -> None:
    seen.clear()


class OnPurpose(Exception):
    """Raised by a command after it has written."""


@command
def make(slug: str, *, actor: Actor) -> Environment:
    seen.append(acting_now())
    return Environment.objects.create(slug=slug, title=slug)


@command
def make_and_fail(slug: str, *, actor: Actor) -> None:
    make(f"{slug}-inner", actor=SYSTEM)
    Environment.objects.create(slug=slug, title=slug)
    seen.append(acting_now())
    raise OnPurpose


def test_a_command_returns_what_its_function_returns() -> None:
    made = make("dev", actor=SYSTEM)
    assert made == Environment.objects.get(slug="dev")


def test_the_actor_is_known_during_the_command_and_not_after() -> None:
    make("dev", actor=SYSTEM)
    assert seen == [SYSTEM]
    assert acting_now() is None


def test_the_change_log_names_the_actor(olga: User) -> None:
    make("dev", actor=Actor.from_user(olga))
    entry = LogEntry.objects.get(object_pk="dev")
    assert entry.actor == olga
    assert entry.additional_data == {"actor": "human", "id": str(olga.pk), "label": "olga"}


@pytest.mark.parametrize("arguments", [{}, {"actor": None}, {"actor": "olga"}, {"actor": 7}])
def test_without_an_actor_a_command_is_a_type_error(arguments: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="make"):
        cast("Any", make)("dev", **arguments)
    assert not Environment.objects.exists()
    assert seen == []


def test_a_user_is_no_actor(olga: User) -> None:
    with pytest.raises(TypeError):
        make("dev", actor=cast("Any", olga))
    assert not Environment.objects.exists()


def test_an_actor_is_not_passed_by_position() -> None:
    with pytest.raises(TypeError):
        cast("Any", make)("dev", SYSTEM)
    assert not Environment.objects.exists()


def test_an_exception_takes_everything_back() -> None:
    mark = current_mark()
    with pytest.raises(OnPurpose):
        make_and_fail("dev", actor=SYSTEM)
    assert not Environment.objects.exists()
    assert not LogEntry.objects.filter(object_pk="dev").exists()
    assert current_mark() == mark
    assert acting_now() is None


def test_a_command_within_a_command_has_its_own_actor() -> None:
    with pytest.raises(OnPurpose):
        make_and_fail("dev", actor=OLGA)
    assert seen == [SYSTEM, OLGA]
