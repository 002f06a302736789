"""What the audit log costs, and how fast it is proved, found and verified. One run, one machine.

    python -m benchmarks.audit [--events 1000000] [--seconds 5] [--out FILE]

On PostgreSQL and on SQLite, each with a log of its own:
1. Appending with eight writers, beside a hash chain whose head is locked row by row: as fast as
   both can, and within transactions that take 5 ms, as events are written in practice.
2. Sealing a log of that many events, and from an event to its checkpoint at 1,000 a second.
3. Inclusion proofs from a cold start.
4. Finding events in it by every criterion.
5. Taking all of it away as a bundle, and verifying that with nothing but Python.
"""

import argparse
import base64
import json
import os
import platform
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from benchmarks import fixtures

ROOT = Path(__file__).resolve().parent.parent
WRITERS = 8
PACE = 1_000
console = Console(stderr=True)


def cut(times: Sequence[float], share: int = 95) -> float:
    return statistics.quantiles(times, n=100, method="inclusive")[share - 1]


# -- writers, each a process of its own --------------------------------------------------------


BUSINESS_SECONDS = 0.005


def append_events(seconds: float, pause: float = 0) -> int:
    """Transactions with one event each; `pause` is what else a transaction does after it."""
    from django.db import transaction

    from audit.services.recorder import write_events
    from benchmarks.logbook import events, now
    from common.ids import uuid7

    rows = [row for batch in events(6_000, until=now(), seed=os.getpid()) for row in batch]
    written, until = 0, time.monotonic() + seconds
    while time.monotonic() < until:
        row = {**rows[written % len(rows)], "uid": uuid7()}
        with transaction.atomic():
            write_events([row])
            time.sleep(pause)
        written += 1
    return written


def append_chain(seconds: float, pause: float = 0) -> int:
    """The same leaf in a hash chain: lock the head, hash, insert, move the head."""
    import hashlib

    from django.db import connection, transaction

    leaf = "x" * 700
    written, until = 0, time.monotonic() + seconds
    locked = " FOR UPDATE" if connection.vendor == "postgresql" else ""
    while time.monotonic() < until:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"SELECT hash FROM bench_head WHERE id = 1{locked}")
            head = hashlib.sha256((cursor.fetchone()[0] + leaf).encode()).hexdigest()
            cursor.execute("INSERT INTO bench_chain (leaf, hash) VALUES (%s, %s)", [leaf, head])
            cursor.execute("UPDATE bench_head SET hash = %s WHERE id = 1", [head])
            time.sleep(pause)
        written += 1
    return written


def paced(seconds: float) -> int:
    """Events at a steady PACE divided among the writers."""
    from django.db import transaction

    from audit.services.recorder import write_events
    from benchmarks.logbook import events, now
    from common.ids import uuid7

    rows = [row for batch in events(6_000, until=now(), seed=os.getpid()) for row in batch]
    interval, written = WRITERS / PACE, 0
    began = time.monotonic()
    while (due := began + written * interval) < began + seconds:
        time.sleep(max(0.0, due - time.monotonic()))
        row = {**rows[written % len(rows)], "uid": uuid7(), "recorded_at": now()}
        with transaction.atomic():
            write_events([row])
        written += 1
    return written


ROLES: dict[str, Callable[[float], int]] = {
    "events": append_events,
    "chain": append_chain,
    "events_in_work": lambda seconds: append_events(seconds, BUSINESS_SECONDS),
    "chain_in_work": lambda seconds: append_chain(seconds, BUSINESS_SECONDS),
    "paced": paced,
}


def at_once(role: str, seconds: float) -> int:
    """How many transactions WRITERS processes made together."""
    command = [sys.executable, "-m", "benchmarks.audit", "--role", role, "--seconds", str(seconds)]
    started = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for _ in range(WRITERS)
    ]
    return sum(int(process.communicate()[0]) for process in started)


# -- measured in this process ------------------------------------------------------------------


def appending(seconds: float, rounds: int = 3) -> list[str]:
    from django.db import connection

    with connection.cursor() as cursor:
        kind = "bigserial" if connection.vendor == "postgresql" else "integer"
        cursor.execute(f"CREATE TABLE bench_chain (id {kind} PRIMARY KEY, leaf text, hash text)")
        cursor.execute("CREATE TABLE bench_head (id integer PRIMARY KEY, hash text)")
        cursor.execute("INSERT INTO bench_head VALUES (1, '')")
    found: dict[str, list[float]] = {role: [] for role in ROLES if role != "paced"}
    for _ in range(rounds):
        for role, rates in found.items():
            rates.append(at_once(role, seconds) / seconds)
    rate = {role: statistics.median(rates) for role, rates in found.items()}
    return [
        f"| {WRITERS} writers, a transaction for each event with its values | "
        f"{rate['events']:,.0f}/s |",
        f"| a hash chain with a locked head, without values | {rate['chain']:,.0f}/s |",
        f"| ratio | **{rate['events'] / rate['chain']:.1f}** |",
        f"| the same in transactions that take 5 ms: events | {rate['events_in_work']:,.0f}/s |",
        f"| chain | {rate['chain_in_work']:,.0f}/s |",
        f"| ratio | **{rate['events_in_work'] / rate['chain_in_work']:.1f}** |",
    ]


def filling(number: int, show: Progress) -> None:
    from django.db import transaction

    from audit.services.recorder import write_events
    from benchmarks.logbook import events, now

    task = show.add_task("Events written", total=number)
    for batch in events(number, until=now() - timedelta(minutes=1)):
        with transaction.atomic():
            write_events(batch)
        show.advance(task, len(batch))


def sealing(show: Progress) -> float:
    """Events a second."""
    from audit.models import Event
    from audit.services.sealer import seal

    waiting = Event.objects.filter(place__isnull=True).count()
    task = show.add_task("Sealed", total=waiting)
    began = time.perf_counter()
    while number := seal():
        show.advance(task, number)
    return waiting / (time.perf_counter() - began)


def indexing(show: Progress) -> float:
    from audit.services import search_index as service

    total = service.behind()
    task = show.add_task("Indexed", total=total)
    began = time.perf_counter()
    while number := service._index_batch(service.BATCH):  # noqa: SLF001 - one batch, for the bar
        show.advance(task, number)
    return total / (time.perf_counter() - began)


def to_checkpoint(seconds: float) -> tuple[float, float, int]:
    """(p50, p95, number) of seconds from an event to the checkpoint that covers it."""
    from bisect import bisect_right

    from audit.models import Checkpoint, Leaf

    last = Leaf.objects.order_by("-seq").values_list("seq", flat=True).first() or 0
    sealer = subprocess.Popen([sys.executable, "manage.py", "seal_log", "--every", "1"], cwd=ROOT)
    time.sleep(3)
    at_once("paced", seconds)
    time.sleep(8)
    sealer.terminate()
    sealer.wait(timeout=10)
    signed = list(Checkpoint.objects.order_by("size").values_list("size", "signed_at"))
    sizes = [size for size, _ in signed]
    rows = Leaf.objects.filter(seq__gt=last).values_list("seq", "event__recorded_at")
    waits = [
        (signed[place][1] - at).total_seconds()
        for seq, at in rows.iterator()
        if (place := bisect_right(sizes, seq)) < len(signed)
    ]
    return statistics.median(waits), cut(waits), len(waits)


def proving(number: int = 300) -> tuple[float, float]:
    """p50 and p95 in milliseconds, nothing of the tree held before."""
    import random

    from audit.models import Event, Leaf
    from audit.proofs import receipt

    size = Leaf.objects.order_by("-seq").values_list("seq", flat=True)[0]
    chosen = random.Random(3).sample(range(size), number)
    times = []
    for event in Event.objects.filter(place__seq__in=chosen).select_related("place"):
        began = time.perf_counter()
        receipt(event)
        times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times), cut(times)


def finding() -> list[tuple[str, float]]:
    """Milliseconds of the first page of each search, the median of five."""
    from django.utils import timezone

    from audit.models import Event
    from audit.search import Search
    from benchmarks.logbook import agent, tool

    run = Event.objects.filter(type="run.started").order_by("id").values_list("run_id", flat=True)
    somewhere = run[1000]
    middle = timezone.now() - timedelta(days=30)
    searches = {
        "everything": Search(),
        "one type": Search(type="run.closed"),
        "an agent": Search(agent=agent(7)),
        "a tool": Search(tool=tool(31)),
        "a run": Search(run=somewhere),
        "a subject": Search(subject=str(somewhere)),
        "a common word": Search(text="refund"),
        "three common words": Search(text="refund delayed insurance"),
        "a rare word": Search(text="c4711"),
        "a word that nothing has": Search(text="unheard"),
        "an hour, a month ago": Search(since=middle, until=middle + timedelta(hours=1)),
        "an agent, a tool and a word in a week": Search(
            agent=agent(7), tool=tool(31), text="voucher",
            since=middle, until=middle + timedelta(days=7),
        ),
        "an agent and a type": Search(agent=agent(7), type="tool.call.completed"),
    }  # fmt: skip
    found = []
    for name, search in searches.items():
        times = []
        for _ in range(5):
            began = time.perf_counter()
            list(search.found_in(Event.objects.with_values()).order_by("-pk")[:51])
            times.append((time.perf_counter() - began) * 1000)
        found.append((name, statistics.median(times)))
    return found


def people() -> None:
    from django.contrib.auth.models import Permission

    from accounts.models import User

    for name in ("asker", "approver"):
        user = User.objects.create_user(name)
        user.user_permissions.set(Permission.objects.filter(content_type__app_label="audit"))


def timed(command: list[str], cwd: Path) -> tuple[float, float, str]:
    """Seconds, the most memory in MB, and what it said."""
    code = (
        "import resource, subprocess, sys; r = subprocess.run(sys.argv[1:], text=True, "
        "capture_output=True); print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); "
        "print(r.stdout); print(r.stderr[-500:], file=sys.stderr); sys.exit(r.returncode)"
    )
    began = time.perf_counter()
    within = [sys.executable, "-c", code, *command]
    done = subprocess.run(within, cwd=cwd, text=True, check=False, capture_output=True)
    took = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    memory, _, said = done.stdout.partition("\n")
    return took, int(memory) / 1024, said.strip()


def taking_away(folder: Path) -> list[str]:
    people()
    bundle = folder / "bundle.zip"
    export = [
        sys.executable, "manage.py", "evidence", "export", "--purpose", "To measure", "--by",
        "asker", "--approved-by", "approver", "--values", "--out", str(bundle),
    ]  # fmt: skip
    took, memory, _ = timed(export, ROOT)
    size = bundle.stat().st_size / 1e6
    key = StringIO()
    from django.core.management import call_command

    call_command("audit", "key", stdout=key)
    check = [sys.executable, "-I", str(ROOT / "audit/evidence/verify.py"), str(bundle)]
    checked, needed, said = timed([*check, "--key", key.getvalue().strip()], folder)
    return [
        f"| export of everything with values, {size:,.0f} MB | {took:.0f} s, {memory:.0f} MB |",
        f"| verified offline (`python3 -I verify.py`) | {checked:.0f} s, {needed:.0f} MB |",
        f"| it says | {said.splitlines()[0] if said else ''} |",
    ]


def measured(number: int, seconds: float, folder: Path) -> list[str]:
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    call_command("bootstrap", stdout=StringIO())
    lines = ["| what | |", "|---|---:|", *appending(seconds)]
    with Progress(console=console) as show:
        filling(number, show)
        lines.append(f"| sealing {number:,} events | {sealing(show):,.0f}/s |")
        lines.append(f"| indexing them for agent, tool and words | {indexing(show):,.0f}/s |")
    half, most, count = to_checkpoint(20)
    lines.append(
        f"| event to checkpoint at {PACE:,}/s, sealer every second, {count:,} events | "
        f"p50 {half:.2f} s, p95 {most:.2f} s |"
    )
    half, most = proving()
    lines.append(f"| inclusion proof, cold | p50 {half:.1f} ms, p95 {most:.1f} ms |")
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    for name, took in finding():
        lines.append(f"| first page of: {name} | {took:.1f} ms |")
    return [*lines, *taking_away(folder)]


# -- the whole ---------------------------------------------------------------------------------


@contextmanager
def databases(folder: Path) -> Iterator[list[tuple[str, str]]]:
    with fixtures.postgresql() as postgresql:
        yield [
            ("PostgreSQL", postgresql.url),
            ("SQLite", f"sqlite:///{folder / 'log.sqlite3'}"),
        ]


def whole(options: argparse.Namespace) -> str:
    lines = [
        "# Audit log benchmark",
        "",
        f"Written by `python -m benchmarks.audit` on {platform.machine()} with {os.cpu_count()} "
        f"cores, Python {platform.python_version()}; writers, sealer and database share the "
        "cores. Read the ratios.",
        "",
        "Goals: appending at 8 writers at least 5 times the chain (PostgreSQL); sealing at least "
        "40,000/s (PostgreSQL), 15,000/s (SQLite); event to checkpoint p95 at most 2 s; a cold "
        "proof at most 10 ms p95; a search under 1 s; a million events verified within 70 s; "
        "export within 150 MB.",
    ]
    key = base64.b64encode(secrets.token_bytes(32)).decode()
    with tempfile.TemporaryDirectory(prefix="chancery-log-") as name:
        folder = Path(name)
        with databases(folder) as found:
            for title, url in found:
                console.print(f"[bold]{title}[/bold]")
                command = [sys.executable, "-m", "benchmarks.audit", "--inside", str(folder)]
                command += ["--events", str(options.events), "--seconds", str(options.seconds)]
                given = os.environ | {
                    "DATABASE_URL": url,
                    "CHANCERY_SECRET_KEY": secrets.token_urlsafe(48),
                    "CHANCERY_ENCRYPTION_KEYS": key,
                    "CHANCERY_LOG_SIGNING_KEY": key,
                    "DJANGO_SETTINGS_MODULE": "portal.settings",
                }
                done = subprocess.run(command, cwd=ROOT, env=given, check=True, stdout=-1)
                lines += [
                    "",
                    f"## {title}, {options.events:,} events",
                    "",
                    *json.loads(done.stdout),
                ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--role", choices=list(ROLES), help=argparse.SUPPRESS)
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role or options.inside:
        import django

        django.setup()
    if options.role:
        sys.stdout.write(str(ROLES[options.role](options.seconds)))
    elif options.inside:
        found: Any = measured(options.events, options.seconds, options.inside)
        sys.stdout.write(json.dumps(found))
    else:
        text = whole(options)
        if options.out:
            options.out.write_text(text)
        sys.stdout.write(text)


if __name__ == "__main__":
    main()
