"""The contract of every connector."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from common.cancellation import CancellableCall
from tools.credentials import Credential
from tools.definitions import ToolSpec


@dataclass(frozen=True, slots=True)
class EndpointSpec:
    """The address of a system in one environment."""

    system: str
    environment: str
    base_url: str
    allow_private: bool
    max_response_bytes: int
    secrets: tuple["SecretSpec", ...] = ()


@dataclass(frozen=True, slots=True)
class SecretSpec:
    """A secret that calls to an endpoint need, and the only origin that it may be sent to."""

    pk: int
    name: str
    placement: str
    parameter: str
    prefix: str
    username: str
    origin: str


@dataclass(frozen=True, slots=True)
class Call:
    """For whom, and until when, a tool is called."""

    run_id: str
    idempotency_key: str | None
    timeout_seconds: float
    credentials: tuple[Credential, ...] = ()
    flight: CancellableCall = field(default_factory=CancellableCall, compare=False)
    # By the monotonic clock: from then on somebody else may make the call in its place.
    send_by: float = math.inf

    def ensure_in_time(self) -> None:
        """Raises NotSent if it is too late to send it."""
        if time.monotonic() > self.send_by:
            message = "It was not sent in time, and counts as given up."
            raise NotSent(message)


@dataclass(frozen=True, slots=True)
class ToolResult:
    """The result of a call that was carried out. `unreadable` is the reason why its answer could
    not be read; the call is never repeated because of that.
    """

    value: Any
    unreadable: str = ""


class ConnectorError(Exception):
    """A call that brought no result. The message is safe to store and to show."""

    code = "connector_error"

    def __init__(self, message: str = "", *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after  # seconds, where the system says so


class NotSent(ConnectorError):
    """Nothing reached the system: trying again is safe for every tool."""

    code = "not_sent"


class NotPermitted(ConnectorError):
    """The address or the answer is one that the portal does not accept; never tried again."""

    code = "not_permitted"


class NoResponse(ConnectorError):
    """It was sent and no answer came: whether it took effect is unknown."""

    code = "unanswered"


class CancelledByHalt(NoResponse):
    """It was sent, and cut off because somebody stopped it: whether it took effect is unknown."""

    code = "cut_off"


class Unavailable(ConnectorError):
    """The system says that it did not carry the call out and cannot do so now."""

    code = "unavailable"


class Refused(ConnectorError):
    """The system says no. Asking again would bring the same answer. `body` is what it said."""

    code = "refused_by_system"

    def __init__(self, message: str = "", *, body: bytes = b"", absent: bool = False) -> None:
        super().__init__(message)
        self.body = body
        self.is_absence = absent  # it knows nothing by what the call names


class Connector(Protocol):
    def call(
        self, endpoint: EndpointSpec, tool: ToolSpec, arguments: Mapping[str, Any], *, call: Call
    ) -> ToolResult:
        """The tool's result. Raises ConnectorError and nothing else."""
