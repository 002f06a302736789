"""The proxy's configuration: slow and idle clients, and busy agents, keep no person out."""

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from django.db import connection

from tests.databases import free_port, url_of
from tests.portal.test_connections import web

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
REQUIRED = os.environ.get("CHANCERY_REQUIRE_NGINX") == "1"
CONFIGURATION = Path(__file__).resolve().parents[2] / "deploy" / "nginx.conf"
# Beyond the threads and the backlog of the web processes of the test together.
SLOW = 150
pytestmark = [
    pytest.mark.postgresql,
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(not NGINX and not REQUIRED, reason="no nginx on this machine"),
]


def configured(folder: Path, *, agents: str, people: str, port: int) -> Path:
    text = CONFIGURATION.read_text()
    text = text.replace("127.0.0.1:8000", agents.removeprefix("http://"))
    text = text.replace("127.0.0.1:8001", people.removeprefix("http://"))
    text = re.sub(r"listen 8080;.*", f"listen 127.0.0.1:{port};", text)
    # Where a server that was not installed by this user may write.
    text = f"error_log {folder}/error.log;\n" + text.replace("pid nginx.pid", f"pid {folder}/pid")
    places = "".join(
        f"    {name}_temp_path {folder}/{name};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    text = text.replace("http {\n", f"http {{\n    access_log off;\n{places}", 1)
    path = folder / "nginx.conf"
    path.write_text(text)
    return path


@pytest.fixture
def proxied(tmp_path: Path) -> Iterator[str]:
    port = free_port()
    with ExitStack() as held:
        url = url_of(connection)
        agents, people = (held.enter_context(web(url)) for _ in range(2))
        path = configured(tmp_path, agents=agents, people=people, port=port)
        process = subprocess.Popen([str(NGINX), "-c", str(path), "-g", "daemon off;"])
        held.callback(process.wait, 20)
        held.callback(process.terminate)
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"


def opened(url: str, head: str) -> socket.socket:
    found = socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1])))
    found.sendall(head.encode())
    return found


@pytest.mark.parametrize(
    "head",
    [
        "POST /oauth/enrol HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        "Content-Length: 5000\r\n\r\n{",
        "POST /accounts/login/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n\r\na",
        "GET /oauth/jwks.json HTTP/1.1\r\nHost: localhost\r\n",
        "",
    ],
    ids=["slow body", "slow body of a person", "slow head", "idle"],
)
def test_people_and_agents_are_answered_beside_slow_clients(proxied: str, head: str) -> None:
    slow = [opened(proxied, head) for _ in range(SLOW)]
    try:
        for path in ("/accounts/login/", "/oauth/jwks.json"):
            assert httpx.get(f"{proxied}{path}", timeout=20).status_code == 200
    finally:
        for one in slow:
            one.close()


def test_one_address_does_not_take_all_connections(proxied: str) -> None:
    """nginx counts connections whose head it has read."""
    head = (
        "POST /oauth/enrol HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        "Content-Length: 5000\r\n\r\n{"
    )
    slow = [opened(proxied, head) for _ in range(200)]
    try:
        time.sleep(1)
        assert httpx.get(f"{proxied}/accounts/login/", timeout=20).status_code == 429
    finally:
        for one in slow:
            one.close()


def test_an_address_that_a_client_names_is_not_passed_on(proxied: str) -> None:
    answer = httpx.get(f"{proxied}/accounts/login/", headers={"X-Forwarded-For": "203.0.113.9"})
    assert answer.status_code == 200
    assert "proxy_set_header X-Forwarded-For $remote_addr;" in CONFIGURATION.read_text()
