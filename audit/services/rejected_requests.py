"""Recording that a request was not taken in."""

from collections.abc import Mapping
from typing import Any

from audit import events
from audit.services.recorder import Subject, record
from common.actors import Actor
from common.commands import command


@command
def record_refused_secret(by: Subject, found: Mapping[str, Any], *, actor: Actor) -> None:
    """Record that a request held a credential: its place, kind and keyed fingerprint."""
    record(
        events.SECRET_REFUSED,
        actor=actor,
        subject=by,
        kind=found["kind"],
        where=found["where"],
        fingerprint=found["fingerprint"],
    )
