"""The front doors' one way in: decide, and execute in the request what is allowed."""

import time
from dataclasses import replace

from actions.services.deciding import Committed, propose
from actions.services.execution import perform
from actions.services.proposals import Proposal
from policies.snapshot import snapshot


def call(proposal: Proposal) -> Committed:
    """The committed decision, its action carried out if that was allowed and asked for now.

    Raises the refusals of `actions.services.deciding`.
    """
    began = time.perf_counter()
    committed = propose(proposal)
    decided_in_ms = (time.perf_counter() - began) * 1000
    if committed.started is not None:
        mark, held = snapshot.marked()
        perform(committed.action, committed.started, mark=mark, held=held)
    return replace(committed, decided_in_ms=decided_in_ms)
