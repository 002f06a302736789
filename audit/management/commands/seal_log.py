import signal
import threading
from types import FrameType
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from audit.services import sealer

_ending = threading.Event()


class Command(BaseCommand):
    help = (
        "Seal the audit log: once, or again and again with --every, for a portal without a "
        "broker. Needs CHANCERY_LOG_SIGNING_KEY."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--every", type=float, help="Seconds between two looks.")

    def handle(self, *args: Any, **options: Any) -> None:
        every = options["every"]
        sealed = _everything()
        if every is None:
            self.stdout.write(f"{sealed:,} events were sealed.")
            return
        for one in (signal.SIGTERM, signal.SIGINT):
            signal.signal(one, _end)
        while not _ending.wait(every):
            _everything()


def _everything() -> int:
    total = 0
    while sealed := sealer.seal():
        total += sealed
    return total


def _end(number: int, frame: FrameType | None) -> None:
    _ending.set()
