"""A web server opens no more connections than its pool has, whatever its threads do."""

import base64
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from django.conf import LazySettings
from django.db import connection

from portal import deployment
from tests.databases import free_port, url_of

ROOT = Path(__file__).resolve().parents[2]
POOL = 6
THREADS = 24


@contextmanager
def web(url: str) -> Iterator[str]:
    port = free_port()
    command = [
        *(str(Path(sys.executable).parent / "granian"), "--interface", "wsgi"),
        *("portal.wsgi:application", "--port", str(port), "--log-level", "warning"),
        *("--blocking-threads", str(THREADS), "--blocking-threads-idle-timeout", "5"),
    ]
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "portal.settings",
        "CHANCERY_SECRET_KEY": secrets.token_urlsafe(60),
        "CHANCERY_ENCRYPTION_KEYS": base64.b64encode(secrets.token_bytes(32)).decode(),
        "CHANCERY_DATABASE_POOL": str(POOL),
        "DATABASE_URL": url,
    }
    process = subprocess.Popen(command, cwd=ROOT, env=environment)
    try:
        for _ in range(200):
            try:
                httpx.get(f"http://127.0.0.1:{port}/oauth/jwks.json")
                break
            except httpx.TransportError:
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=20)


def connections_of_others() -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' "
            "AND datname = current_database() AND pid <> pg_backend_pid()"
        )
        return int(cursor.fetchone()[0])


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_bursts_and_pauses_leave_no_connections_behind() -> None:
    before = connections_of_others()

    def ask(number: int) -> int:
        """Ask until the portal has a thread for this caller, as a client does."""
        while True:
            answer = httpx.get(f"{url}/oauth/jwks.json", timeout=30)
            if answer.status_code != 503 or answer.json()["code"] != "busy":
                return answer.status_code
            time.sleep(0.1)

    with web(url_of(connection)) as url, ThreadPoolExecutor(40) as clients:
        for _ in range(3):
            answers = list(clients.map(ask, range(80)))
            assert set(answers) == {200}
            # Longer than the server keeps an idle thread.
            time.sleep(6)
            assert connections_of_others() - before <= POOL


@pytest.mark.postgresql
@pytest.mark.django_db
def test_more_connections_than_the_database_admits_are_an_error(settings: LazySettings) -> None:
    asked = {"app_configs": None, "databases": ["default"]}
    settings.WEB_WORKERS = 1
    assert not [one for one in deployment.database_is_ready(**asked) if one.id == "chancery.E016"]
    settings.WEB_WORKERS = 40
    assert [one for one in deployment.database_is_ready(**asked) if one.id == "chancery.E016"]
