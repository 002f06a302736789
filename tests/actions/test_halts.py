"""A halt's promise: once it has committed, nothing it covers commits as allowed."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

import pytest
from django.db import connection
from django.utils import timezone

from actions.models import Action
from agents.models import Halt
from agents.services.halts import lift_halt, place_halt
from common.actors import SYSTEM
from common.ids import first_key_at
from tests.databases import url_of
from tests.factories import Governed

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db(transaction=True)]
PROCESSES = 2
TRIES = 1_000
ROUNDS = TRIES // PROCESSES  # each halt is tried by every process
MARGIN = timedelta(seconds=10)


@contextmanager
def proposers(client_id: str) -> Iterator[None]:
    environment = os.environ | {"DATABASE_URL": url_of(connection)}
    command = [sys.executable, "-m", "tests.actions.proposer", client_id]
    started = [
        subprocess.Popen(command, env=environment, stdin=subprocess.PIPE) for _ in range(PROCESSES)
    ]
    try:
        yield
    finally:
        for process in started:
            process.communicate(timeout=30)
    assert [process.returncode for process in started] == [0] * PROCESSES


@dataclass(frozen=True)
class Recent:
    """Counts of the last seconds' actions. Keys grow with time, so the count stays cheap."""

    since: UUID = field(default_factory=lambda: first_key_at(timezone.now() - MARGIN))

    def count(self, outcome: str) -> int:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM actions_action WHERE id > %s AND outcome = %s",
                [self.since, outcome],
            )
            return int(cursor.fetchone()[0])

    def wait_for(self, outcome: str, number: int) -> None:
        for _ in range(10_000):
            if self.count(outcome) >= number:
                return
            time.sleep(0.003)
        pytest.fail(f"the proposers made no {outcome} decision")


def test_nothing_is_allowed_after_a_halt_has_committed(governed: Governed) -> None:
    with proposers(governed.identity.client_id):
        late = 0
        for _ in range(ROUNDS):
            recent = Recent()
            allowed, halted = recent.count("allowed"), recent.count("halted")
            recent.wait_for("allowed", allowed + 1)
            halt = place_halt(Halt.Kind.AGENT, actor=SYSTEM, target="tilda", reason="Stop.")
            allowed = recent.count("allowed")
            # Both processes have decided since, and seen the halt.
            recent.wait_for("halted", halted + PROCESSES)
            late += recent.count("allowed") - allowed
            lift_halt(halt.pk, actor=SYSTEM, reason="Go on.")
    assert late == 0
    assert Action.objects.filter(outcome="halted").count() >= TRIES
