import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.cache import caches
from django.db import connection
from django.test import Client, TransactionTestCase
from joserfc.jwk import ECKey

from accounts.models import Environment, Groups, User
from accounts.services import ensure_environment
from agents.models import AgentIdentity
from agents.services.signing_keys import ensure_signing_key
from approvals.models import Tier
from audit.generation_cache import forget_all
from audit.models import DbChange
from audit.writer_sequences import forget_writers
from common.actors import SYSTEM, Actor
from common.task_queue import queue
from tests import factories
from tests.toolbox import ToolboxSystem
from tools.connectors import in_process
from workflows.spec_cache import forget_compiled


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if connection.vendor == "postgresql":
        # What asks no database is tested once, in the other run.
        items[:] = [item for item in items if _asks_the_database(item)]
        return
    skip = pytest.mark.skip(reason="needs PostgreSQL; the PostgreSQL run of the suite has it")
    for item in items:
        if item.get_closest_marker("postgresql"):
            item.add_marker(skip)


def _asks_the_database(item: pytest.Item) -> bool:
    fixtures = set(getattr(item, "fixturenames", ()))
    marked = item.get_closest_marker("django_db") or item.get_closest_marker("postgresql")
    return marked is not None or bool(fixtures & {"db", "transactional_db", "live_server"})


@pytest.fixture(autouse=True)
def _nothing_remembered() -> Iterator[None]:
    """Each test starts with an empty memory: its database is not that of the test before."""
    forget_all()
    forget_writers()
    forget_compiled()
    for name in ("default", "counters"):
        caches[name].clear()
    yield
    forget_all()


# Between tests with real transactions Django empties every table, which the triggers refuse
# (TRUNCATE in a test database passes on PostgreSQL; SQLite only knows DELETE).
_teardown: Any = vars(TransactionTestCase)["_fixture_teardown"]


def _emptied_without_triggers(self: TransactionTestCase) -> None:
    if connection.vendor != "sqlite":
        _teardown(self)
        # Emptying tables is noticed, too.
        DbChange.objects.all().delete()
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
        kept = cursor.fetchall()
        for name, _ in kept:
            cursor.execute(f"DROP TRIGGER {name}")
        _teardown(self)
        for name, statement in kept:
            # Those that every migration makes anew, and so emptying too, are there already.
            cursor.execute(f"DROP TRIGGER IF EXISTS {name}")
            cursor.execute(statement)


setattr(TransactionTestCase, "_fixture_teardown", _emptied_without_triggers)  # noqa: B010


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """A test's other processes may still be connected when the database is to be dropped."""
    yield
    if connection.vendor == "postgresql":
        with django_db_blocker.unblock(), connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )


class Hints:
    """Collects the hints that would go to the broker."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, list[str]]] = []

    def send(self, task_name: str, arguments: list[str]) -> None:
        self.sent.append((task_name, arguments))

    def of(self, task_name: str) -> list[str]:
        return [arguments[0] for name, arguments in self.sent if name == task_name]


@pytest.fixture(autouse=True)
def hints() -> Iterator[Hints]:
    held = queue._send
    collected = Hints()
    queue.connect(collected.send)
    yield collected
    queue._send = held


@pytest.fixture
def prod(db: Any) -> Environment:
    environment = ensure_environment("prod", actor=SYSTEM, title="Production", is_production=True)
    ensure_signing_key(environment, actor=SYSTEM)
    return environment


@pytest.fixture
def staging(db: Any) -> Environment:
    environment = ensure_environment("staging", actor=SYSTEM, title="Staging")
    ensure_signing_key(environment, actor=SYSTEM)
    return environment


@pytest.fixture
def olga(db: Any) -> User:
    """Olga owns and sponsors the agent."""
    return factories.person("olga", Groups.AGENT_OWNERS, Groups.MANAGERS, Groups.SUPERVISORS)


@pytest.fixture
def rosa(db: Any) -> User:
    """Rosa reviews: a supervisor and a manager."""
    return factories.person("rosa", Groups.SUPERVISORS, Groups.MANAGERS)


@pytest.fixture
def ruben(db: Any) -> User:
    """Ruben reviews as well, so that two can sign."""
    return factories.person("ruben", Groups.SUPERVISORS, Groups.MANAGERS)


@pytest.fixture
def clara(db: Any) -> User:
    """Clara is a compliance officer."""
    return factories.person("clara", Groups.COMPLIANCE)


@pytest.fixture
def sam(db: Any) -> User:
    """Sam is staff and has no rights at all."""
    return factories.person("sam")


@pytest.fixture
def admin_user(db: Any) -> User:
    """The administrator, in every group."""
    return factories.administrator()


@pytest.fixture
def tiers(rosa: User) -> dict[str, Tier]:
    return factories.tiers()


@pytest.fixture
def toolbox() -> Iterator[ToolboxSystem]:
    """A system in this process that counts what it is asked to do."""
    system = ToolboxSystem()
    in_process.register("toolbox", system)
    yield system
    in_process.unregister("toolbox")


@pytest.fixture
def identity(prod: Environment, olga: User) -> AgentIdentity:
    """The agent Tilda in production, active, owned by Olga."""
    return factories.identity("tilda", owner=olga, environment=prod)


@pytest.fixture
def governed(
    identity: AgentIdentity,
    tiers: dict[str, Tier],
    toolbox: ToolboxSystem,
) -> factories.Governed:
    """Tilda with the toolbox granted and a live policy release."""
    return factories.governed(identity, toolbox)


@pytest.fixture
def key() -> ECKey:
    return ECKey.generate_key("P-256", private=True)


class Api:
    """The REST API as an agent uses it."""

    def __init__(self, token: str) -> None:
        self._client = Client()
        self.token = token

    def post(self, path: str, body: Any = None, *, key: str = "", **headers: str) -> Any:
        return self._client.post(
            f"/api/v1/{path}",
            data=body if isinstance(body, bytes) else json.dumps(body or {}),
            content_type="application/json",
            headers=self._headers() | ({"Idempotency-Key": key} if key else {}) | headers,
        )

    def get(self, path: str) -> Any:
        return self._client.get(f"/api/v1/{path}", headers=self._headers())

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}


@pytest.fixture
def api(governed: factories.Governed) -> Api:
    return Api(factories.token_for(governed.identity))


@pytest.fixture
def as_actor() -> Any:
    return Actor.from_user
