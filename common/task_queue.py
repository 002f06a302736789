"""Asking for background work by name, without knowing the queue.

A message is only a hint that there is work: the database holds the truth, and a sweeper finds
work whose hint was lost. So a broker that is down delays work and loses none.
"""

from collections.abc import Callable
from functools import partial

from django.db import transaction

Sender = Callable[[str, list[str]], None]


class Queue:
    def __init__(self) -> None:
        self._send: Sender | None = None

    def connect(self, send: Sender) -> None:
        """Say how a hint travels; the portal does this once at start-up."""
        self._send = send

    def enqueue(self, task_name: str, *arguments: str) -> None:
        """Send the hint after the current transaction has committed."""
        transaction.on_commit(partial(self._deliver, task_name, list(arguments)))

    def _deliver(self, task_name: str, arguments: list[str]) -> None:
        if self._send is not None:
            self._send(task_name, arguments)


queue = Queue()
