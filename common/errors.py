"""Refusals of the portal, each with a code for machines and a sentence for people."""

from typing import Any, ClassVar


class GovernanceError(Exception):
    """A refusal. `code` is stable and part of the public contract; the message is for people."""

    code: ClassVar[str] = "refused"
    sentence: ClassVar[str] = "This is not allowed."

    def __init__(self, message: str | None = None, **details: Any) -> None:
        super().__init__(message or self.sentence)
        self.details = details


class NotFound(GovernanceError):
    code = "not_found"
    sentence = "There is no such thing, or it is not yours to see."


class InvalidInput(GovernanceError):
    code = "invalid_input"
    sentence = "The input is not valid."


class ReasonRequired(GovernanceError):
    code = "reason_required"
    sentence = "Say why: a reason is required."
