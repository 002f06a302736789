"""What each way in which a system can answer means for a step."""

from collections.abc import Iterator
from typing import Any

import pytest

from common.actors import SYSTEM
from policies.services import grants
from tests import factories
from tests.factories import Governed
from tests.tools import servers
from tests.tools.servers import Answer, Server
from tests.workflows import workflow_helpers
from tools.models import System, Tool
from tools.services.registration import define_tool, register_system, set_endpoint

pytestmark = pytest.mark.django_db
SCHEMA: dict[str, Any] = {"type": "object", "properties": {}}


@pytest.fixture
def shop(governed: Governed) -> Iterator[Server]:
    """An HTTP system with one tool that may be repeated and one that may not."""
    with servers.serving() as server:
        system = register_system("shop", actor=SYSTEM, title="Shop", kind=System.Kind.HTTP)
        place = governed.identity.environment
        set_endpoint(system, place, actor=SYSTEM, base_url=server.url, allow_private=True)
        for name, idempotent in (("buy", True), ("ship", False)):
            define_tool(
                system,
                name,
                actor=SYSTEM,
                title=name,
                access="write",
                idempotent=idempotent,
                timeout_seconds=0.4,
                input_schema=SCHEMA,
            )
        grants.grant(governed.role, system, Tool.Access.WRITE, actor=SYSTEM)
        factories.publish(permit_shop='@id("permit-shop") permit(principal, action, resource);')
        yield server


def ended(governed: Governed, tool: str) -> tuple[str, str]:
    workflow_helpers.publish(f"steps:\n  one: {{tool: shop.{tool}}}\n")
    run = workflow_helpers.driven(workflow_helpers.begin(governed), times=1)
    found = workflow_helpers.step(run, "one")
    return found.status, found.error_code


# How the system answers, and what a step is then: of a tool that may be repeated, and of another.
ANSWERS = [
    (Answer(200, b'{"id": 1}'), ("succeeded", ""), ("succeeded", "")),
    (Answer(200, b""), ("succeeded", ""), ("succeeded", "")),
    # Done, whatever can be made of what it says: never made again.
    (Answer(200, b"<html>"), ("succeeded", ""), ("succeeded", "")),
    (Answer(200, b"x" * 1_100_000), ("succeeded", ""), ("succeeded", "")),
    (Answer(500), ("retry", "unanswered"), ("unknown", "unanswered")),
    (Answer(503), ("retry", "unanswered"), ("unknown", "unanswered")),
    (Answer(429, headers={"Retry-After": "7"}), ("retry", "unavailable"), ("retry", "unavailable")),
    (Answer(404), ("failed", "refused_by_system"), ("failed", "refused_by_system")),
    (Answer(409), ("failed", "refused_by_system"), ("failed", "refused_by_system")),
    (Answer(409, headers={"Retry-After": "1"}), ("retry", "unanswered"), ("unknown", "unanswered")),
    (Answer(422), ("failed", "refused_by_system"), ("failed", "refused_by_system")),
    (
        Answer(301, headers={"Location": "/x"}),
        ("failed", "not_permitted"),
        ("failed", "not_permitted"),
    ),
]


@pytest.mark.parametrize(
    ("answer", "repeatable", "other"),
    ANSWERS,
    ids=[f"{one[0].status}-{len(one[0].body)}-{'-'.join(one[0].headers)}" for one in ANSWERS],
)
def test_an_answer_is_understood(
    governed: Governed,
    shop: Server,
    answer: Answer,
    repeatable: tuple[str, str],
    other: tuple[str, str],
) -> None:
    shop.answer = answer
    assert ended(governed, "buy") == repeatable
    assert ended(governed, "ship") == other


@pytest.mark.parametrize(
    "behaviour", [servers.say_nothing, servers.hang_up, servers.say_half, servers.drip_body]
)
def test_no_answer_is_repeated_only_if_it_may_be(
    governed: Governed, shop: Server, behaviour: servers.Behaviour
) -> None:
    shop.behaviour = behaviour
    assert ended(governed, "buy") == ("retry", "unanswered")
    assert ended(governed, "ship") == ("unknown", "unanswered")


def test_every_try_carries_the_same_key_and_another_step_another(
    governed: Governed, shop: Server
) -> None:
    shop.answer = Answer(500)
    workflow_helpers.publish(
        "steps:\n"
        "  one: {tool: shop.buy, retry: {max_attempts: 3, backoff: 1ms, max_backoff: 1ms}}\n"
        "  two: {tool: shop.buy, retry: {max_attempts: 2, backoff: 1ms, max_backoff: 1ms}}\n"
    )
    workflow_helpers.driven(workflow_helpers.begin(governed))
    keys = [one.headers["Idempotency-Key"] for one in shop.received]
    assert sorted(keys.count(key) for key in set(keys)) == [2, 3]
