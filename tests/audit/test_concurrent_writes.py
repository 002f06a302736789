"""Eight who write at once, some slowly, some in vain; a sealer that is killed again and again."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, transaction

from audit.models import Event, Leaf
from tests.audit.sealed_log import ensure_sound, said, sealed_all
from tests.audit.test_writers import numbers
from tests.databases import url_of

ROOT = Path(__file__).resolve().parent.parent.parent
WRITERS = 8
EVENTS_EACH = 2_600
SLOWEST_SECONDS = 1.5


class TakenBack(Exception):
    pass


def one_transaction(chance: random.Random, name: str) -> int:
    """Some events, a pause before the commit, and in one of ten cases no commit."""
    number = chance.randint(1, 40)
    with contextlib.suppress(TakenBack), transaction.atomic():
        said(*(f"{name} {n}" for n in range(number)))
        if chance.random() < 0.1:
            time.sleep(chance.uniform(0, SLOWEST_SECONDS))
        if chance.random() < 0.1:
            raise TakenBack
        return number
    return 0


def write(seed: int, written: list[int]) -> None:
    chance, total = random.Random(seed), 0
    while total < EVENTS_EACH:
        total += one_transaction(chance, f"writer {seed}")
    written.append(total)
    connection.close()


@contextlib.contextmanager
def killed_sealers(killed: list[int]) -> Iterator[None]:
    """One sealer after the other, each killed without warning a moment after it began to seal."""
    over, chance = threading.Event(), random.Random(1)

    def sealed() -> int:
        return Leaf.objects.count()

    def rage() -> None:
        command = [sys.executable, "manage.py", "seal_log", "--every", "0.02"]
        while not over.is_set():
            before = sealed()
            sealer = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
            # However long it takes to start on a busy machine.
            while sealed() == before and not over.wait(0.05):
                pass
            over.wait(chance.uniform(0.0, 1.5))
            os.kill(sealer.pid, signal.SIGKILL)
            sealer.wait()
            killed.append(sealer.pid)
        connection.close()

    thread = threading.Thread(target=rage)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_nothing_is_left_unsealed_and_nothing_sealed_twice(
    monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    monkeypatch.setenv("DATABASE_URL", url_of(connection))
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "tests.settings")
    written: list[int] = []
    killed: list[int] = []
    threads = [threading.Thread(target=write, args=(n, written)) for n in range(WRITERS)]
    with killed_sealers(killed):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    sealed_before_the_end = Event.objects.filter(place__isnull=False).count()
    sealed_all()
    ensure_sound()
    assert sum(written) == Event.objects.filter(type="agent.suspended").count() >= 20_000
    assert sealed_before_the_end > 1_000
    assert len(killed) >= 5
    for found in numbers().values():
        assert found == list(range(1, len(found) + 1))
