"""What identity costs, and how fast a stop is. One run, one machine.

    python -m benchmarks.identity [--halts 200] [--requests 10000] [--keys 100000] [--out FILE]

1. Verifying a token, cold and cached, beside the bare signature check of `cryptography`.
2. The token endpoint at 50 requests a second, as 10,000 agents ask for tokens that live five
   minutes, on two web workers that decide actions meanwhile.
3. From the commit of a halt to the end of the last call that was on its way, and to the first
   answer that says so, on PostgreSQL and SQLite with two web workers.
4. Signing keys that follow one another under load, and data keys wrapped anew while they are used.
"""

import argparse
import contextlib
import hashlib
import json
import os
import platform
import queue
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import httpx
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from rich.console import Console
from rich.progress import track

from benchmarks import fixtures
from demo.run import free_port

ROOT = Path(__file__).resolve().parent.parent
WEB_WORKERS = 2
IDENTITIES = 200
RATE = 50
IN_FLIGHT = 6


@dataclass
class Agents:
    """Identities with keys, made at once."""

    client_ids: list[str]
    keys: list[Any]
    runs: list[str] = field(default_factory=list)

    def assertion(self, number: int, issuer: str) -> str:
        from chancery_client.tokens import assertion

        place = number % len(self.client_ids)
        return assertion(self.keys[place], self.client_ids[place], issuer)


def cuts(times: list[float]) -> tuple[float, float]:
    """p50 and p99 in milliseconds."""
    ordered = statistics.quantiles(times, n=100, method="inclusive")
    return ordered[49] * 1000, ordered[98] * 1000


# -- 1 -----------------------------------------------------------------------------------------


def verification(token: str) -> list[str]:
    from agents import tokens
    from agents.directory import directory
    from benchmarks.decision import microseconds

    held = directory.current()
    kid = tokens.jwt_header(token)["kid"]
    key: Any = held.verification_keys[kid].key.raw_value
    public = key if hasattr(key, "verify") else key.public_key()
    signed, _, signature = token.rpartition(".")
    raw = urlsafe_b64decode(signature + "==")
    halves = (int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))
    der = encode_dss_signature(*halves)

    def bare() -> None:
        public.verify(der, signed.encode(), ec.ECDSA(hashes.SHA256()))

    digest = hashlib.sha256(token.encode()).digest()

    def cold() -> None:
        tokens._verified._claims.pop(digest, None)  # noqa: SLF001 - as if it were never seen
        tokens.verify(token, held)

    ours, cached, plain = microseconds(cold, lambda: tokens.verify(token, held), bare)
    return [
        "| what | µs | of bare |",
        "|---|---:|---:|",
        f"| bare ES256 check (`cryptography`) | {plain:.1f} | 1 |",
        f"| verify, never seen before | {ours:.1f} | {ours / plain:.2f} |",
        f"| verify, seen before | {cached:.1f} | {cached / plain:.3f} |",
        "",
        "Goals: at most twice bare when new, at most 5 µs when seen before.",
    ]


# -- a portal ----------------------------------------------------------------------------------


def furnished(silent: str) -> Agents:
    """The database made in this process: identities with keys, and a system that never answers."""
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    call_command("bootstrap", stdout=StringIO())
    caller = fixtures.furnish("http://127.0.0.1:1")
    from chancery_client.keys import new_key
    from django.db import transaction

    from agents.models import Agent, AgentIdentity, AgentKey
    from common.actors import SYSTEM, acting
    from policies.services import grants, releases
    from tools.models import System, Tool
    from tools.services.registration import define_tool, register_system, set_endpoint

    agent = Agent.objects.get(pk=caller.identity.agent_pk)
    identity = AgentIdentity.objects.get(pk=caller.identity.pk)
    system = register_system("silent", actor=SYSTEM, title="Silent", kind=System.Kind.HTTP)
    environment = identity.environment
    set_endpoint(system, environment, actor=SYSTEM, base_url=silent, allow_private=True)
    for name in ("order", "think"):
        define_tool(
            system,
            name,
            actor=SYSTEM,
            title=name,
            access="write",
            idempotent=False,
            timeout_seconds=60,
            input_schema={"type": "object"},
        )
    role = identity.roles.get()
    grants.grant(role, system, Tool.Access.WRITE, actor=SYSTEM)
    releases.publish(releases.draft_release(actor=SYSTEM).pk, actor=SYSTEM)
    found = Agents([identity.client_id], [new_key()])
    with transaction.atomic(), acting(SYSTEM):
        for number in range(IDENTITIES - 1):
            other = Agent.objects.create(
                slug=f"bench-{number}",
                title="Bench",
                purpose="Measure.",
                owner=agent.owner,
                sponsor=agent.sponsor,
                status="active",
                certified_until=agent.certified_until,
            )
            one = AgentIdentity.objects.create(
                agent=other, environment=environment, client_id=f"bench-{number}.prod"
            )
            found.client_ids.append(one.client_id)
            found.keys.append(new_key())
        for client_id, key in zip(found.client_ids, found.keys, strict=True):
            AgentKey.objects.create(
                identity=AgentIdentity.objects.get(client_id=client_id),
                thumbprint=key.thumbprint(),
                algorithm="ES256",
                public_jwk=key.as_dict(private=False),
            )
    return found


@contextlib.contextmanager
def silence() -> Iterator[tuple[str, "queue.Queue[float]"]]:
    """A system that takes every request and answers none; when each came in."""
    server = socket.create_server(("127.0.0.1", 0), backlog=256)
    came: queue.Queue[float] = queue.Queue()
    held: list[socket.socket] = []

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = server.accept()
                connection.settimeout(5)
                with contextlib.suppress(OSError):
                    connection.recv(65_536)
                held.append(connection)
                came.put(time.perf_counter())

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.getsockname()[1]}", came
    finally:
        for connection in held:
            connection.close()
        server.close()


@contextlib.contextmanager
def web(url: str) -> Iterator[None]:
    port = url.rpartition(":")[2]
    command = [str(Path(sys.executable).parent / "granian"), "--interface", "wsgi"]
    command += ["portal.wsgi:application", "--port", port, "--workers", str(WEB_WORKERS)]
    command += ["--blocking-threads", "24", "--backpressure", "64", "--no-ws"]
    process = subprocess.Popen([*command, "--log-level", "error"], cwd=ROOT, env=os.environ)
    try:
        for _ in range(300):
            with contextlib.suppress(httpx.TransportError):
                httpx.get(f"{url}/oauth/jwks.json", timeout=5)
                break
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(timeout=20)


@dataclass(frozen=True)
class Portal:
    url: str
    agents: Agents
    came: "queue.Queue[float]"

    def token(self, number: int = 0) -> httpx.Response:
        return self.asked(httpx.Client(), number)

    def asked(self, http: httpx.Client, number: int) -> httpx.Response:
        form = {
            "grant_type": "client_credentials",
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": self.agents.assertion(number, self.url),
        }
        return http.post(f"{self.url}/oauth/token", data=form, timeout=30)

    def client(self) -> httpx.Client:
        answer = self.token()
        if answer.status_code != 200:
            raise SystemExit(answer.text)
        said = answer.json()
        headers = {"Authorization": f"Bearer {said['access_token']}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=90)


@contextlib.contextmanager
def portal(vendor: str) -> Iterator[Portal]:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if vendor == "SQLite":
            database = f"sqlite:///{folder / 'bench.sqlite3'}"
        else:
            database = stack.enter_context(fixtures.postgresql()).url
        silent, came = stack.enter_context(silence())
        broker = stack.enter_context(fixtures.broker())
        url = f"http://127.0.0.1:{free_port(8799)}"
        os.environ |= {
            "CHANCERY_URL": url,
            "CHANCERY_AGENT_REQUESTS_PER_MINUTE": "100000000",
            "CHANCERY_TOKEN_LIMIT_PER_ADDRESS": "100000000",
            "CHANCERY_TOKEN_LIMIT_PER_IDENTITY": "100000000",
            "REDIS_URL": broker,
        }
        fixtures.configure(database, lease=30, accounting="http://127.0.0.1:1", broker=broker)
        agents = furnished(silent)
        stack.enter_context(web(url))
        yield Portal(url, agents, came)


# -- 2 -----------------------------------------------------------------------------------------


def token_endpoint(where: Portal, seconds: float) -> list[str]:
    """Open loop: each request at its time, however long the others take."""
    ended = threading.Event()
    decided = [0]
    threads = [threading.Thread(target=_decide, args=(where, ended, decided)) for _ in range(2)]
    for thread in threads:
        thread.start()
    times: list[float] = []
    failed: list[str] = []
    asked: list[Future[None]] = []
    with httpx.Client() as http, ThreadPoolExecutor(32) as pool:
        began = time.perf_counter()

        def ask(number: int, due: float) -> None:
            response = where.asked(http, number)
            times.append(time.perf_counter() - due)
            if response.status_code != 200:
                failed.append(response.text)

        for number in track(range(int(RATE * seconds)), "tokens", console=Console(stderr=True)):
            due = began + number / RATE
            time.sleep(max(0.0, due - time.perf_counter()))
            asked.append(pool.submit(ask, number, due))
    for one in asked:
        one.result()
    took = time.perf_counter() - began
    ended.set()
    for thread in threads:
        thread.join()
    p50, p99 = cuts(times)
    return [
        "| asked | per second | failed | p50 ms | p99 ms | decisions per second meanwhile |",
        "|---:|---:|---:|---:|---:|---:|",
        f"| {len(times):,} | {len(times) / took:.0f} | {len(failed)} | {p50:.1f} | {p99:.1f} | "
        f"{decided[0] / took:.0f} |",
        "",
        "Goal: p99 under 150 ms. A request's time counts from when it was due.",
    ]


def _decide(where: Portal, ended: threading.Event, decided: list[int]) -> None:
    with where.client() as http:
        run = opened(http)
        while not ended.is_set():
            propose(http, run, "silent.think", later=True)
            decided[0] += 1


def opened(http: httpx.Client) -> str:
    body = {"initiator_kind": "agent", "initiator": "bench", "purpose": "Measure."}
    return str(http.post("/api/v1/runs", json=body).raise_for_status().json()["id"])


_numbers = iter(range(10**12))


def propose(http: httpx.Client, run: str, tool: str, *, later: bool = False) -> Any:
    body = {"run": run, "tool": tool, "arguments": {}, "mode": "async" if later else "sync"}
    key = {"Idempotency-Key": f"{time.time_ns()}-{next(_numbers)}"}
    return http.post("/api/v1/actions", json=body, headers=key).raise_for_status().json()


# -- 3 -----------------------------------------------------------------------------------------


def halt_bound(where: Portal, halts: int) -> tuple[list[float], list[float]]:
    """Seconds from each halt's commit to the end of each call that was on its way, and to the
    first answer that says so.
    """
    from agents.models import Halt
    from agents.services.halts import lift_halt, place_halt
    from common.actors import SYSTEM

    cut: list[float] = []
    refused: list[float] = []
    clients = [where.client() for _ in range(IN_FLIGHT)]
    asking = where.client()
    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        for number in track(range(halts), "halts", console=Console(stderr=True)):
            if number % 50 == 0:
                clients = [where.client() for _ in range(IN_FLIGHT)]
                asking = where.client()
            runs = [opened(client) for client in clients]
            futures = [
                pool.submit(_timed, client, run) for client, run in zip(clients, runs, strict=True)
            ]
            for _ in range(IN_FLIGHT):
                where.came.get(timeout=30)
            run = opened(asking)
            halt = place_halt(Halt.Kind.SYSTEM, actor=SYSTEM, target="silent", reason="Measure.")
            committed = time.perf_counter()
            assert propose(asking, run, "silent.think", later=True)["status"] == "halted"
            refused.append(time.perf_counter() - committed)
            for future in futures:
                action, at = future.result()
                if (action["status"], (action["error"] or {}).get("code")) != (
                    "unknown",
                    "cut_off",
                ):
                    raise SystemExit(json.dumps(action))
                cut.append(at - committed)
            lift_halt(halt.pk, actor=SYSTEM, reason="Measure again.")
    return cut, refused


def _timed(http: httpx.Client, run: str) -> tuple[Any, float]:
    action = propose(http, run, "silent.order")
    return action, time.perf_counter()


def decided_after_a_halt() -> int:
    """Actions on the halted system that were allowed while a halt was in force."""
    from actions.models import Action
    from agents.models import Halt

    late = 0
    for halt in Halt.objects.exclude(lifted_at=None):
        late += Action.objects.filter(
            tool__startswith="silent.",
            outcome="allowed",
            decided_at__gt=halt.placed_at + timedelta(seconds=0.5),
            decided_at__lt=halt.lifted_at,
        ).count()
    return late


# -- 4 -----------------------------------------------------------------------------------------


def rotation(where: Portal, requests: int) -> list[str]:
    """Agents get tokens and use them while signing keys follow one another."""
    from django.utils import timezone

    from agents.services import signing_keys
    from common.actors import SYSTEM

    done = [0]
    failed: list[str] = []
    lock = threading.Lock()

    def use(number: int) -> None:
        with httpx.Client(base_url=where.url, timeout=30) as http:
            while True:
                with lock:
                    if done[0] >= requests:
                        return
                    done[0] += 2
                issued = where.asked(http, number)
                if issued.status_code != 200:
                    failed.append(f"token {issued.status_code} {issued.text}")
                    continue
                bearer = {"Authorization": f"Bearer {issued.json()['access_token']}"}
                used = http.get("/api/v1/tools", headers=bearer)
                if used.status_code != 200:
                    failed.append(f"use {used.status_code}")

    threads = [threading.Thread(target=use, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    rotations = 0
    while any(thread.is_alive() for thread in threads):
        signing_keys.prepare("prod", actor=SYSTEM)
        # The wait is for verifiers that hold the published keys; the portal's own do not.
        later = timezone.now() + signing_keys.READY_AFTER
        signing_keys.activate("prod", actor=SYSTEM, reason="Measure.", now=later)
        rotations += 1
        time.sleep(1)
    return [
        f"{done[0]:,} requests on {WEB_WORKERS} workers, half for tokens and half with them, while "
        f"the signing key was followed by another {rotations} times: **{len(failed)} failed**"
        f"{' (' + ', '.join(sorted(set(failed))) + ')' if failed else ''}.",
    ]


def rewrapping(keys: int) -> list[str]:
    """Every data key wrapped with a new key, while secrets are opened."""
    import base64

    from django.conf import settings
    from django.core.management import call_command

    from common.actors import SYSTEM
    from common.encryption import sealing_key_id
    from tools import envelope
    from tools.models import Endpoint, Secret, SecretVersion
    from tools.services import secrets

    endpoint = Endpoint.objects.get(system__slug="silent")
    secret = secrets.add_secret(
        endpoint.pk,
        actor=SYSTEM,
        name="many",
        placement=Secret.Placement.HEADER,
        parameter="X-Key",
        value="a value to be kept",
    )
    made = [_version(secret, number) for number in track(range(2, keys + 1), "data keys")]
    SecretVersion.objects.bulk_create(made, batch_size=2_000)
    new = base64.b64encode(os.urandom(32)).decode()
    settings.ENCRYPTION_KEYS = f"{new},{settings.ENCRYPTION_KEYS}"
    ended = threading.Event()
    opened_ones, failed = [0], [0]
    thread = threading.Thread(target=_open, args=(ended, keys, opened_ones, failed))
    thread.start()
    began = time.perf_counter()
    call_command("rewrap_keys")
    took = time.perf_counter() - began
    ended.set()
    thread.join()
    left = SecretVersion.objects.exclude(key_id=sealing_key_id()).exclude(status="destroyed")
    some = SecretVersion.objects.filter(secret=secret).order_by("?")[:200]
    for row in some:
        sealed = envelope.Envelope(row.key_id, row.wrapped_key, row.ciphertext)
        assert envelope.opened(sealed, secrets.place_of(row)).startswith("a value")
    return [
        f"{keys:,} data keys wrapped anew in {took:.1f} s, {left.count()} left out, while "
        f"{opened_ones[0]:,} secrets were opened: **{failed[0]} failed**.",
    ]


def _version(secret: Any, number: int) -> Any:
    from tools import envelope
    from tools.envelope import Place
    from tools.models import SecretVersion

    kept = envelope.closed(f"a value {number}", Place(secret.pk, number, "prod"))
    return SecretVersion(
        secret=secret,
        number=number,
        status="replaced",
        key_id=kept.key_id,
        wrapped_key=kept.wrapped_key,
        ciphertext=kept.ciphertext,
        created_by="bench",
    )


def _open(ended: threading.Event, keys: int, opened_ones: list[int], failed: list[int]) -> None:
    import random

    from django.db import connection

    from common.encryption import CannotUnseal
    from tools import envelope
    from tools.models import SecretVersion
    from tools.services.secrets import place_of

    chance = random.Random(7)
    first = SecretVersion.objects.order_by("pk").values_list("pk", flat=True)[0]
    while not ended.is_set():
        pk = first + chance.randrange(keys)
        row = SecretVersion.objects.select_related("secret__endpoint").filter(pk=pk).first()
        if row is None:
            continue
        try:
            sealed = envelope.Envelope(row.key_id, row.wrapped_key, row.ciphertext)
            envelope.opened(sealed, place_of(row))
        except CannotUnseal:
            failed[0] += 1
        opened_ones[0] += 1
    connection.close()


# -- the report --------------------------------------------------------------------------------


def _halts(where: Portal, vendor: str, halts: int) -> list[str]:
    cut, refused = halt_bound(where, halts)
    p50, p99 = cuts(cut)
    r50, r99 = cuts(refused)
    return [
        f"| {vendor} | {halts} | {len(cut):,} | {p50:.1f} | {p99:.1f} | {r50:.1f} | {r99:.1f} | "
        f"{decided_after_a_halt()} |"
    ]


def one_database(vendor: str, options: argparse.Namespace) -> dict[str, list[str]]:
    """In a process of its own: Django is set up for one database."""
    with portal(vendor) as where:
        found = {"halts": _halts(where, vendor, options.halts)}
        if vendor == "PostgreSQL":
            found["verification"] = verification(where.token().json()["access_token"])
            found["tokens"] = token_endpoint(where, options.seconds)
            found["rotation"] = rotation(where, options.requests)
            found["rewrapping"] = rewrapping(options.keys)
    return found


def measured(vendor: str, arguments: list[str]) -> dict[str, list[str]]:
    with tempfile.NamedTemporaryFile("r") as file:
        command = [sys.executable, "-m", "benchmarks.identity", "--only", vendor]
        subprocess.run([*command, "--json", file.name, *arguments], cwd=ROOT, check=True)
        found: dict[str, list[str]] = json.load(file)
        return found


def report(write: Callable[[str], object], arguments: list[str]) -> None:
    postgresql, sqlite = measured("PostgreSQL", arguments), measured("SQLite", arguments)
    lines = [
        "# Identity benchmark",
        "",
        f"Written by `python -m benchmarks.identity` on {platform.machine()} with "
        f"{os.cpu_count()} cores, Python {platform.python_version()}; load, database and portal "
        "share the cores.",
        "",
        "## Verifying a token",
        "",
        *postgresql["verification"],
        "",
        "## The token endpoint, as 10,000 agents use it",
        "",
        *postgresql["tokens"],
        "",
        "## From the commit of a halt",
        "",
        f"{WEB_WORKERS} web workers, {IN_FLIGHT} calls on their way at each halt, whose system "
        "never answers. Cut: until the caller has the answer that its call was cut off. Refused: "
        "until a proposal made at once is answered with the halt.",
        "",
        "| database | halts | calls cut | cut p50 ms | cut p99 ms | refused p50 ms "
        "| refused p99 ms | allowed under a halt |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
        *postgresql["halts"],
        *sqlite["halts"],
        "",
        "Goals: p99 of what is cut at most 50 ms on PostgreSQL and 1 s on SQLite; none allowed.",
        "",
        "## Keys that follow one another",
        "",
        *postgresql["rotation"],
        "",
        *postgresql["rewrapping"],
    ]
    write("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--halts", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", choices=["PostgreSQL", "SQLite"], help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        options.json.write_text(json.dumps(one_database(options.only, options)))
        return
    names = ("halts", "seconds", "requests", "keys")
    arguments = [part for name in names for part in (f"--{name}", str(getattr(options, name)))]
    report(options.out.write_text if options.out else sys.stdout.write, arguments)


if __name__ == "__main__":
    main()
