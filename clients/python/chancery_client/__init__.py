"""An agent's side of a Chancery portal."""

from chancery_client.clients import AsyncChancery, AsyncRun, Chancery, Run
from chancery_client.errors import (
    ApprovalPending,
    ChanceryError,
    Denied,
    Expired,
    Failed,
    Halted,
    NotEnrolled,
    OutcomeUnknown,
    PortalRefused,
    Rejected,
    UnsafeKeyFile,
    Withdrawn,
)

__all__ = [
    "ApprovalPending",
    "AsyncChancery",
    "AsyncRun",
    "Chancery",
    "ChanceryError",
    "Denied",
    "Expired",
    "Failed",
    "Halted",
    "NotEnrolled",
    "OutcomeUnknown",
    "PortalRefused",
    "Rejected",
    "Run",
    "UnsafeKeyFile",
    "Withdrawn",
]
