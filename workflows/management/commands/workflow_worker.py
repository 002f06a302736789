import logging
import signal
import time
from types import FrameType
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandParser
from django.db import DatabaseError, connection

from actions.services import recovery
from approvals import services as approvals
from common.isolation import each
from workflows.services import rollouts, schedules, sweeper, worker

log = logging.getLogger(__name__)
SLOW_WORK_SECONDS = 5.0


class Command(BaseCommand):
    help = (
        "Look after workflow runs from the database alone. With --sweep-only it sends the hints "
        "that were lost, beside any number of others; without it, it drives the runs itself and "
        "needs no broker."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--sweep-only", action="store_true", help="Send hints; drive nothing.")
        parser.add_argument("--every", type=float, default=1.0, help="Seconds between two looks.")

    def handle(self, *args: Any, **options: Any) -> None:
        for one in (signal.SIGTERM, signal.SIGINT):
            signal.signal(one, _end)
        slow_at = 0.0
        while not worker.ending.is_set():
            try:
                if time.monotonic() >= slow_at:
                    _slow_work()
                    slow_at = time.monotonic() + SLOW_WORK_SECONDS
                busy = _look(sweep_only=options["sweep_only"])
            except DatabaseError as error:
                log.warning("the database is away: %s", type(error).__name__)
                connection.close()
                busy = False
            if not busy:
                worker.ending.wait(options["every"])


def _end(number: int, frame: FrameType | None) -> None:
    worker.ending.set()


def _look(*, sweep_only: bool) -> bool:
    """One look; whether it found something to do itself."""
    recovery.reap_abandoned()
    if sweep_only:
        sweeper.sweep()
        return False
    found = sweeper.to_drive()
    return sum(each(found, _driven, what="run")) > 0


def _driven(run_id: UUID) -> bool:
    if worker.ending.is_set():
        return False
    return worker.run_until_idle(run_id) > 0


def _slow_work() -> None:
    work = (
        approvals.expire_overdue,
        approvals.flag_undecidable,
        schedules.fire_due,
        rollouts.guard,
    )
    each(work, lambda one: one(), what="work")
