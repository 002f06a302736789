"""Errors of a call."""

from typing import Any


class ChanceryError(Exception):
    """Anything that this package raises."""


class NotEnrolled(ChanceryError):
    """There is no key yet: call `enrol` with a code from the portal."""


class UnsafeKeyFile(ChanceryError):
    """The key file could be read by others on this machine, so it is not used."""


class PortalRefused(ChanceryError):
    """The portal refused the request itself, by `code`: a bad token, an unknown tool."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.status = status
        self.code = code
        self.detail = detail


class NotDone(ChanceryError):
    """The action was not carried out, or it is not known whether it was."""

    def __init__(self, action: dict[str, Any]) -> None:
        self.action = action
        self.reasons: list[dict[str, str]] = action["decision"]["reasons"]
        error = action.get("error") or {}
        said = "; ".join(reason["reason"] for reason in self.reasons)
        super().__init__(f"{action['tool']}: {error.get('message') or said or action['status']}")


class Denied(NotDone):
    """A rule says no. Proposing the same again brings the same answer."""


class Halted(NotDone):
    """A halt or a rule stopped the run."""


class Rejected(NotDone):
    """People said no."""


class Expired(NotDone):
    """People did not answer in time."""


class Withdrawn(NotDone):
    """The question was taken back, as when the run ended."""


class Failed(NotDone):
    """It was allowed and tried, and the system did not do it."""


class OutcomeUnknown(NotDone):
    """It was sent and no answer came: whether it took effect is for people to find out."""


class ApprovalPending(NotDone):
    """People have been asked and have not answered yet; `action["id"]` can be waited for."""


BY_STATUS: dict[str, type[NotDone]] = {
    "denied": Denied,
    "halted": Halted,
    "rejected": Rejected,
    "expired": Expired,
    "withdrawn": Withdrawn,
    "failed": Failed,
    "unknown": OutcomeUnknown,
    "waiting": ApprovalPending,
    "ready": ApprovalPending,
    "executing": ApprovalPending,
}
