"""The protocol with the portal, step by step, independent of how it is sent.

Each flow is a generator: it yields a request to be sent, or a pause to be made, and is given the
answer. The synchronous and the asynchronous client drive the same flows.
"""

import random
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
from joserfc.jwk import ECKey

from chancery_client.errors import BY_STATUS, ChanceryError
from chancery_client.keys import Identity, new_key
from chancery_client.tokens import assertion, refusal

POLL_SECONDS = 25
MAX_TRIES = 4
_SETTLED = frozenset(
    {"succeeded", "failed", "unknown", "denied", "halted", "rejected", "expired", "withdrawn"}
)
# Not decided, or not recorded: asking again with the same key is safe and right.
_AGAIN = frozenset({429, 502, 503, 504})


@dataclass(frozen=True)
class Send:
    """A request to be sent; with `retry` again and again while the network fails."""

    method: str
    path: str
    body: Any = None
    key: str = ""
    signed: bool = True
    retry: bool = True


@dataclass(frozen=True)
class Pause:
    seconds: float


Step = Send | Pause
Answer = httpx.Response | None
Flow = Generator[Step, Answer, Any]


@dataclass(frozen=True)
class Options:
    """Seconds to wait for people, and the runtime's declarations."""

    approval_timeout: float = 600
    claims: Mapping[str, Any] | None = None


def checked_url(url: str) -> str:
    """The portal's address. Raises ChanceryError unless it is https, or this very machine."""
    parts = urlsplit(url)
    is_local = parts.hostname in {"localhost", "127.0.0.1", "::1"}
    if parts.scheme != "https" and not (parts.scheme == "http" and is_local):
        message = "A portal is reached over https."
        raise ChanceryError(message)
    return url.rstrip("/")


def backoff(tries: int) -> float:
    """Exponential with full jitter, in seconds."""
    return random.SystemRandom().uniform(0, min(5.0, 0.25 * 2**tries))


def enrol(url: str, code: str) -> Generator[Step, Answer, Identity]:
    """A new key, handed over against a one-time code."""
    issuer = yield from _issuer(url)
    key = new_key()
    body = {
        "code": code.strip(),
        "jwk": key.as_dict(private=False),
        "proof": assertion(key, "enrolment", issuer),
    }
    said = yield from _asked(Send("POST", "/oauth/enrol", body, signed=False, retry=False))
    return Identity(issuer, said["client_id"], key)


def replace_key(identity: Identity, key: ECKey) -> Generator[Step, Answer, Identity]:
    """The new key in place of the old one, which is accepted for a day longer."""
    body = {
        "jwk": key.as_dict(private=False),
        "proof": assertion(key, identity.client_id, identity.issuer),
        "client_assertion": assertion(
            identity.key, identity.client_id, identity.issuer, new_key=key.thumbprint()
        ),
    }
    yield from _asked(Send("POST", "/oauth/keys", body, signed=False, retry=False))
    return Identity(identity.issuer, identity.client_id, key)


def _issuer(url: str) -> Generator[Step, Answer, str]:
    """The issuer as the portal names it; it must be the address that was asked (RFC 8414)."""
    path = "/.well-known/oauth-authorization-server"
    said = yield from _asked(Send("GET", path, signed=False))
    issuer = str(said["issuer"])
    if issuer.rstrip("/") != url:
        message = f"{url} calls itself {issuer}: not the portal that was asked for."
        raise ChanceryError(message)
    return issuer


def open_run(body: Mapping[str, Any]) -> Generator[Step, Answer, str]:
    # A run that was opened twice is only one that stays empty.
    said = yield from _asked(Send("POST", "/api/v1/runs", dict(body)))
    return str(said["id"])


def close_run(run: str, outcome: str) -> Generator[Step, Answer, None]:
    yield from _asked(Send("POST", f"/api/v1/runs/{run}/close", {"outcome": outcome}, retry=False))


def tools() -> Flow:
    return (yield from _asked(Send("GET", "/api/v1/tools")))


def call(
    run: str, tool: str, arguments: Mapping[str, Any], options: Options, key: str = ""
) -> Flow:
    """The tool's result. Raises what the portal decided instead."""
    body = {
        "run": run,
        "tool": tool,
        "arguments": dict(arguments),
        "claims": dict(options.claims or {}),
    }
    action = yield from _asked(Send("POST", "/api/v1/actions", body, key=key or str(uuid4())))
    return (yield from wait_for(action, options.approval_timeout))


def wait_for(action: Mapping[str, Any], seconds: float) -> Flow:
    """The result of an action once it is settled. Raises ApprovalPending after `seconds`."""
    found = dict(action)
    left = seconds
    while found.get("status") not in _SETTLED and left > 0:
        wait = max(1, min(POLL_SECONDS, int(left)))
        found = yield from _asked(Send("GET", f"/api/v1/actions/{found['id']}?wait={wait}"))
        left -= wait
        if found["status"] not in _SETTLED:
            # When many wait, the portal answers at once: not a hundred times a second.
            yield Pause(0.5)
    if found.get("status") == "succeeded":
        return found["result"]
    raise BY_STATUS[found["status"]](found)


def elevate(run: str, wanted: Sequence[str], minutes: int, reason: str, seconds: float) -> Flow:
    """Ask people for tools; whether they were given, or None if nobody has answered in time."""
    body = {"run": run, "tools": list(wanted), "minutes": minutes, "reason": reason}
    found = yield from _asked(Send("POST", "/api/v1/elevations", body, retry=False))
    left = seconds
    while found["status"] == "asked" and left > 0:
        wait = max(1, min(POLL_SECONDS, int(left)))
        found = yield from _asked(Send("GET", f"/api/v1/elevations/{found['id']}?wait={wait}"))
        left -= wait
        if found["status"] == "asked":
            yield Pause(0.5)
    return {"active": True, "asked": None}.get(found["status"], False)


def _asked(send: Send) -> Flow:
    """The answer's body. Raises PortalRefused; the network's own error after MAX_TRIES."""
    for tries in range(1, MAX_TRIES + 1):
        response = yield send
        is_last = tries == MAX_TRIES or not send.retry
        if response is not None and response.status_code < 400:
            return response.json()
        if response is not None and (is_last or response.status_code not in _AGAIN):
            raise refusal(response)
        if is_last:
            break
        yield Pause(backoff(tries))
    message = "The portal cannot be reached."
    raise ChanceryError(message)
