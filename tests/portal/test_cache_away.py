"""Where no view answers, and while Redis is away: agents are told to come again, people come in."""

import pytest
from django.conf import LazySettings
from django.test import Client

from accounts.models import User
from agents.models import Halt
from agents.services.halts import place_halt
from common.actors import Actor
from common.problems import CONTENT_TYPE, ProblemSerializer
from tests.conftest import Api
from tests.databases import free_port
from tests.factories import Governed

pytestmark = pytest.mark.django_db


@pytest.fixture
def away(settings: LazySettings) -> None:
    """Nobody listens there."""
    there = {
        "LOCATION": f"redis://127.0.0.1:{free_port()}/0",
        "OPTIONS": {"socket_connect_timeout": 1, "socket_timeout": 1},
    }
    settings.CACHES = {
        "default": {"BACKEND": "common.fallback_cache.FallbackRedisCache", **there},
        "counters": {"BACKEND": "django.core.cache.backends.redis.RedisCache", **there},
    }


@pytest.mark.usefixtures("away")
def test_an_agent_is_told_to_come_again(governed: Governed, api: Api) -> None:
    answer = api.get("tools")
    assert (answer.status_code, answer.json()["code"]) == (503, "counter_away")
    assert answer["Retry-After"]
    assert governed.toolbox.effects == []


@pytest.mark.usefixtures("away")
def test_a_person_signs_in_and_halts(governed: Governed, admin_user: User) -> None:
    client = Client()
    given = {"login": "admin", "password": "password"}
    admin_user.set_password("password")
    admin_user.save()
    assert client.post("/accounts/login/", given).status_code == 302
    assert client.get("/admin/").status_code == 200
    place_halt(Halt.Kind.GLOBAL, actor=Actor.from_user(admin_user), reason="The cache is away.")
    assert Halt.objects.in_force().exists()


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/actions/123",
        "/api/v1/nothing",
        "/api/v1/runs/x",
        "/oauth/nothing",
        "/api/nothing",
        "/api",
    ],
)
def test_an_unknown_address_of_the_api_is_a_problem(path: str) -> None:
    answer = Client().get(path)
    assert answer.status_code == 404
    assert answer["Content-Type"] == CONTENT_TYPE
    assert set(answer.json()) >= set(ProblemSerializer().fields)


def test_a_fault_of_ours_is_one_too(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(*args: object, **kwargs: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("agents.api.authentication.ensure_caller_within", fault)
    client = Client(headers={"Authorization": f"Bearer {api.token}"}, raise_request_exception=False)
    answer = client.get("/api/v1/tools")
    assert (answer.status_code, answer["Content-Type"]) == (500, CONTENT_TYPE)
    assert answer.json()["code"] == "internal_error"


@pytest.mark.parametrize("query", ["?q=%00", "?status__exact=%00", "?before=%00"])
def test_nul_in_an_address_is_refused(admin_user: User, query: str) -> None:
    client = Client()
    client.force_login(admin_user)
    assert client.get(f"/admin/actions/action/{query}").status_code == 400


@pytest.mark.parametrize("path", ["/oauth/token", "/oauth/enrol", "/oauth/revoke"])
def test_so_is_a_method_that_an_address_does_not_take(path: str) -> None:
    answer = Client().get(path)
    assert (answer.status_code, answer["Content-Type"]) == (405, CONTENT_TYPE)
    assert answer.json()["code"] == "method_not_allowed"
    assert "POST" in answer["Allow"]


@pytest.mark.parametrize("path", ["/api/docs/", "/api/schema/"])
@pytest.mark.parametrize("method", ["options", "put", "delete", "patch", "post"])
def test_pages_about_the_api_answer_as_the_api_does(client: Client, path: str, method: str) -> None:
    answer = getattr(client, method)(path)
    assert (answer.status_code, answer["Content-Type"]) == (405, "application/problem+json")
    assert answer.json()["code"] == "method_not_allowed"
