"""What must hold across processes, tried on two web workers and a database of their own."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier
from typing import Any

import httpx
import pytest
from chancery_client.keys import Identity, KeyFolder
from chancery_client.tokens import ASSERTION_TYPE, assertion, proof
from django.db import connection

from benchmarks.decision import database, web

ROOT = Path(__file__).resolve().parents[2]
LIMITS = {
    "CHANCERY_TOKEN_LIMIT_PER_IDENTITY": "1000000",
    "CHANCERY_TOKEN_LIMIT_PER_ADDRESS": "1000000",
}


@dataclass
class Portal:
    """Two workers, one enrolled agent, and somebody who gives orders."""

    url: str
    identity: Identity
    orders: "subprocess.Popen[str]"

    def order(self, what: str) -> None:
        assert self.orders.stdin is not None
        assert self.orders.stdout is not None
        self.orders.stdin.write(f"{what}\n")
        self.orders.stdin.flush()
        assert self.orders.stdout.readline() == "done\n"

    def assertion(self) -> str:
        return assertion(self.identity.key, self.identity.client_id, self.identity.issuer)

    def ask(self, by: str = "", *, dpop: bool = False) -> httpx.Response:
        """The answer to a token request, on a connection of its own."""
        form = {
            "grant_type": "client_credentials",
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": by or self.assertion(),
        }
        request = httpx.Request("POST", f"{self.identity.issuer}/oauth/token", data=form)
        if dpop:
            request.headers["DPoP"] = proof(self.identity.key, request)
        return final(request)


def final(request: httpx.Request) -> httpx.Response:
    """The answer on a connection of its own; a portal that says it is busy is asked again, as every
    client does: it answers so when one sender has as many requests open as it may.
    """
    while True:
        with httpx.Client(timeout=30) as http:
            answer = http.send(request)
        if answer.status_code != 503 or answer.json()["code"] != "busy":
            return answer
        time.sleep(float(answer.headers["Retry-After"]))


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Portal]:
    folder = tmp_path_factory.mktemp("two-workers")
    vendor = "PostgreSQL" if connection.vendor == "postgresql" else "SQLite"
    with pytest.MonkeyPatch.context() as patch, database(vendor, folder) as url:
        patch.setenv("DJANGO_SETTINGS_MODULE", "portal.settings")
        for name, value in LIMITS.items():
            patch.setenv(name, value)
        with web(url, folder) as (address, _):
            lines = (folder / "local.env").read_text().splitlines()
            env = os.environ | dict(line.split("=", 1) for line in lines) | {"DATABASE_URL": url}
            command = [sys.executable, "-m", "tests.agents.rotator"]
            orders = subprocess.Popen(command, cwd=ROOT, env=env, stdin=-1, stdout=-1, text=True)
            yield Portal(address, KeyFolder(folder / "agent").read(), orders)
            orders.communicate(timeout=30)


def at_once(number: int, function: Any) -> list[Any]:
    barrier = Barrier(number)

    def one(_: int) -> Any:
        barrier.wait(30)
        return function()

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(one, range(number)))


def test_an_assertion_works_once_on_all_workers(portal: Portal) -> None:
    by = portal.assertion()
    answers = at_once(24, lambda: portal.ask(by).status_code)
    assert sorted(answers) == [200] + [401] * 23


def test_a_proof_of_possession_works_once_on_all_workers(portal: Portal) -> None:
    answer = portal.ask(dpop=True)
    assert answer.json()["token_type"] == "DPoP"
    token = answer.json()["access_token"]
    request = httpx.Request("GET", f"{portal.identity.issuer}/api/v1/tools")
    headers = {"Authorization": f"DPoP {token}", "DPoP": proof(portal.identity.key, request, token)}

    def use() -> int:
        return final(httpx.Request("GET", request.url, headers=headers)).status_code

    assert sorted(at_once(16, use)) == [200] + [401] * 15


def test_nothing_fails_while_signing_keys_follow_one_another(portal: Portal) -> None:
    ended = threading.Event()
    failed: list[str] = []
    used = [0]

    def work() -> None:
        with httpx.Client(base_url=portal.url, timeout=30) as http:
            while not ended.is_set():
                answer = portal.ask()
                if answer.status_code != 200:
                    failed.append(answer.text)
                    continue
                bearer = {"Authorization": f"Bearer {answer.json()['access_token']}"}
                if http.get("/api/v1/tools", headers=bearer).status_code != 200:
                    failed.append("use")
                used[0] += 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(4):
        portal.order("rotate")
    ended.set()
    for thread in threads:
        thread.join()
    assert failed == []
    assert used[0] > 0


def test_a_halt_binds_every_worker_from_its_commit_on(portal: Portal) -> None:
    token = portal.ask().json()["access_token"]
    bearer = {"Authorization": f"Bearer {token}"}
    opening = {"initiator_kind": "agent", "initiator": "tests", "purpose": "Be stopped."}

    def propose(run: str, number: int) -> str:
        with httpx.Client(base_url=portal.url, timeout=30, headers=bearer) as http:
            body = {"run": run, "tool": "airline.think", "arguments": {"thought": "x"}}
            key = {"Idempotency-Key": f"{run}-{number}"}
            return str(http.post("/api/v1/actions", json=body, headers=key).json()["status"])

    def runs(number: int) -> list[str]:
        with httpx.Client(base_url=portal.url, timeout=30, headers=bearer) as http:
            return [http.post("/api/v1/runs", json=opening).json()["id"] for _ in range(number)]

    for run in runs(8):
        assert propose(run, 1) == "succeeded"
    waiting = runs(16)
    portal.order("halt")
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda run: propose(run, 1), waiting)) == {"halted"}
    portal.order("lift")
    assert propose(runs(1)[0], 1) == "succeeded"


def test_a_rule_about_binding_reaches_every_worker(portal: Portal) -> None:
    token = portal.ask().json()["access_token"]
    portal.order("bind")

    def use() -> int:
        with httpx.Client(base_url=portal.url, timeout=30) as http:
            return http.get(
                "/api/v1/tools", headers={"Authorization": f"Bearer {token}"}
            ).status_code

    assert set(at_once(8, use)) == {401}
    assert portal.ask().json()["error"] == "invalid_dpop_proof"
    portal.order("unbind")
    assert portal.ask().status_code == 200
