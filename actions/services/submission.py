"""The front doors' one way in: decide, and execute in the request what is allowed."""

import time
from dataclasses import replace
from threading import BoundedSemaphore

from actions.in_flight import watcher
from actions.services.decisions import DecisionResult, propose
from actions.services.execution import perform
from actions.services.proposals import Proposal

# Of a web process's threads (Procfile): slow tools never hold them all, so that people can
# always reach the halt page. What is allowed beyond that is executed by a worker.
MAX_EXECUTING = 16
_executing = BoundedSemaphore(MAX_EXECUTING)


def submit(proposal: Proposal) -> DecisionResult:
    """The committed decision, its action carried out if that was allowed and asked for now.

    Raises the refusals of `actions.services.decisions`, and HaltWatcherStale.
    """
    watcher.ensure_running()
    if proposal.asynchronous:
        return _timed(proposal)
    if not _executing.acquire(blocking=False):
        return _timed(replace(proposal, asynchronous=True))
    try:
        committed = _timed(proposal)
        if committed.started is not None and committed.held is not None:
            perform(committed.action, committed.started, mark=committed.mark, held=committed.held)
        return committed
    finally:
        _executing.release()


def _timed(proposal: Proposal) -> DecisionResult:
    began = time.perf_counter()
    committed = propose(proposal)
    return replace(committed, decided_in_ms=(time.perf_counter() - began) * 1000)
