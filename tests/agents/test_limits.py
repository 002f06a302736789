"""Limits of requests a minute: per identity, per owner, per person; reached ones are events."""

from datetime import UTC, datetime
from typing import Any

import pytest
from django.conf import LazySettings

from accounts.models import User
from audit.models import Event
from common import rate_limits
from common.actors import SYSTEM
from policies.services import grants
from tests import factories
from tests.agents.runtimes import enrolled
from tests.agents.test_persons import acting, given
from tests.conftest import Api
from tests.factories import Governed

pytestmark = pytest.mark.django_db
LIMIT = 3


@pytest.fixture(autouse=True)
def one_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """No minute ends while requests are counted."""
    moment = datetime.now(UTC).timestamp()

    class Still:
        time = staticmethod(lambda: moment)

    monkeypatch.setattr(rate_limits, "time", Still)


def statuses(*apis: Api) -> list[int]:
    return [api.get("tools").status_code for _ in range(LIMIT) for api in apis]


def reached() -> list[tuple[str, Any]]:
    found = Event.objects.filter(type="identity.limit_reached")
    return [(one.subject_label, one.details["limit"]) for one in found]


def test_all_agents_of_an_owner_share_a_limit(
    governed: Governed, api: Api, olga: User, settings: LazySettings
) -> None:
    settings.OWNER_REQUESTS_PER_MINUTE = LIMIT
    twin = factories.identity("otto", owner=olga, environment=governed.identity.environment)
    somebody = factories.identity(
        "sara", owner=factories.person("else"), environment=governed.identity.environment
    )
    got = statuses(api, Api(factories.token_for(twin)))
    assert (got.count(200), got.count(429)) == (LIMIT, LIMIT)
    assert Api(factories.token_for(somebody)).get("tools").status_code == 200
    assert [limit for _, limit in reached()] == ["owner"]


def test_all_agents_of_a_person_share_a_limit(
    governed: Governed, olga: User, rosa: User, settings: LazySettings
) -> None:
    settings.PERSON_REQUESTS_PER_MINUTE = LIMIT
    first = acting(enrolled(governed.identity), given(governed, rosa))
    other = factories.identity("otto", owner=olga, environment=governed.identity.environment)
    grants.add_member(governed.role, other, actor=SYSTEM)
    governed.identity = other
    second = acting(enrolled(other), given(governed, rosa))
    got = statuses(first, second)
    assert (got.count(200), got.count(429)) == (LIMIT, LIMIT)
    assert [limit for _, limit in reached()] == ["person"]


def test_a_limit_of_one_identity_is_one_event_a_minute(
    governed: Governed, api: Api, settings: LazySettings
) -> None:
    settings.AGENT_REQUESTS_PER_MINUTE = 1
    assert statuses(api) == [200, 429, 429]
    assert reached() == [(governed.identity.client_id, "agent")]


def test_so_is_a_limit_of_tokens(governed: Governed, settings: LazySettings) -> None:
    settings.TOKEN_LIMIT_PER_IDENTITY = 1
    runtime = enrolled(governed.identity)
    assert [runtime.ask().status_code for _ in range(3)] == [200, 429, 429]
    assert reached() == [(governed.identity.client_id, "tokens")]
