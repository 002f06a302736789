"""A worker that dies at a named point: for the tests of crashes.

    python -m tests.workflows.crash_process RUN POINT BOOKS

BOOKS is the address of the accounting service that the run calls.

It drives one run as a worker would, and is killed without warning: before the intent of a call is
committed, after that, in the middle of the call, after the call, or between a commit and its hint.
"""

import os
import signal
import sys
import threading
import time
from typing import Any
from uuid import UUID

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
django.setup()

from actions.services import execution  # noqa: E402
from benchmarks import fixtures  # noqa: E402
from common.task_queue import queue  # noqa: E402
from workflows.services import worker  # noqa: E402
from workflows.services.unit_of_work import RunUnitOfWork  # noqa: E402


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def before_intent() -> None:
    def write(turn: RunUnitOfWork) -> None:
        die()

    setattr(RunUnitOfWork, "write", write)  # noqa: B010 - on purpose, for this process


def after_intent() -> None:
    def called(*args: Any, **kwargs: Any) -> None:
        die()

    setattr(worker, "call_once", called)  # noqa: B010


def in_mid_call() -> None:
    """Die once the system has done it, which takes a while to say so."""
    real, before = vars(worker)["call_once"], fixtures.totals(sys.argv[3])

    def watch() -> None:
        while fixtures.totals(sys.argv[3]) == before:
            time.sleep(0.002)
        die()

    def called(*args: Any, **kwargs: Any) -> Any:
        threading.Thread(target=watch, daemon=True).start()
        return real(*args, **kwargs)

    setattr(worker, "call_once", called)  # noqa: B010


def after_call() -> None:
    real = vars(worker)["call_once"]

    def called(*args: Any, **kwargs: Any) -> None:
        real(*args, **kwargs)
        die()

    setattr(worker, "call_once", called)  # noqa: B010


def before_sending() -> None:
    """Not to be scheduled for a while, after the entry's intent and before it is sent."""
    real = vars(execution)["call_tool"]

    def call_tool(catalog: Any, spec: Any, *args: Any, **kwargs: Any) -> Any:
        if spec.name == "post_entry":
            os.kill(os.getpid(), signal.SIGSTOP)
        return real(catalog, spec, *args, **kwargs)

    setattr(execution, "call_tool", call_tool)  # noqa: B010


def before_hint() -> None:
    queue.connect(lambda task, arguments: die())


POINTS = {
    point.__name__: point
    for point in (before_intent, after_intent, before_sending, in_mid_call, after_call, before_hint)
}

if __name__ == "__main__":
    POINTS[sys.argv[2]]()
    worker.run_until_idle(UUID(sys.argv[1]))
