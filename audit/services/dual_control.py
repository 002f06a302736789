"""Requests that one person makes and another decides."""

from typing import TypeVar

from audit.errors import AlreadyDecided, HumanActorRequired, OwnRecordRequest
from audit.models.records import DualControlRequest
from common.actors import Actor
from common.clock import database_now
from common.errors import NotFound
from common.input_checks import clean_reason

T = TypeVar("T", bound=DualControlRequest)


def person(actor: Actor) -> int:
    """The key of the person who acts. Raises PeopleOnly for an agent and for the portal."""
    if actor.kind != "human":
        raise HumanActorRequired
    return int(actor.id)


def decide(asked: T | None, *, actor: Actor, approve: bool, reason: str) -> T:
    """Decide on what was read under lock.

    Raises NotFound, AlreadyDecided, OwnQuestion, PeopleOnly and ReasonRequired.
    """
    reason = clean_reason(reason)
    if asked is None:
        raise NotFound
    if not asked.is_asked:
        raise AlreadyDecided
    if asked.asked_by_id == person(actor):
        raise OwnRecordRequest
    asked.status = (
        DualControlRequest.Status.APPROVED if approve else DualControlRequest.Status.REFUSED
    )
    asked.decided_by_id, asked.decision = person(actor), reason
    asked.decided_at = database_now()
    asked.save()
    return asked
