"""JSON over HTTP: POST {base_url}/{path} with the arguments as body."""

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import httpcore
from django.views.decorators.debug import sensitive_variables

from common.cancellation import CancellableCall
from common.canonical import canonical_json
from common.http_deadline import BoundedBackend, Deadline
from common.json_text import ensure_shallow
from common.outgoing_tls import trusted
from tools.connectors.addresses import permitted_addresses
from tools.connectors.base import (
    Call,
    CancelledByHalt,
    EndpointSpec,
    NoResponse,
    NotPermitted,
    NotSent,
    Refused,
    ToolResult,
    Unavailable,
)
from tools.credentials import Credential
from tools.definitions import ToolSpec

MAX_REFUSAL_BYTES = 16_000
_ABSENT = frozenset({404, 410})
MAX_RETRY_AFTER_SECONDS = 999_999.0
# RFC 8470 and RFC 6585: the request was not carried out. 408 and 503 do not promise that.
_NOT_CARRIED_OUT = frozenset({425, 429})
# RFC 9110: the resource is elsewhere, and this one did nothing. Other 3xx may follow an effect.
_ELSEWHERE = frozenset({301, 307, 308})


class HttpConnector:
    """Calls the endpoint's origin and no other: redirects are an error, proxies are ignored."""

    @sensitive_variables()
    def call(
        self, endpoint: EndpointSpec, tool: ToolSpec, arguments: Mapping[str, Any], *, call: Call
    ) -> ToolResult:
        deadline = Deadline(call.timeout_seconds, call.flight, send_by=call.send_by)
        addresses, host, port = permitted_addresses(endpoint)
        body = canonical_json(dict(arguments)).encode()
        # A name's addresses share the time: one where nobody answers must not use all of it up.
        share = call.timeout_seconds / (len(addresses) + 1) if len(addresses) > 1 else math.inf
        for left, address in enumerate(addresses, start=1 - len(addresses)):
            url, headers, extensions = self._target(endpoint, tool, call, (address, host, port))
            url = _identified(url, headers, call.credentials)
            try:
                return self._sent(url, headers, body, extensions, (endpoint, call, deadline, share))
            except NotSent:
                # Nothing reached it: the name's next address may be the one that answers.
                if left == 0 or call.flight.is_cancelled:
                    raise
        message = "The system could not be reached."
        raise NotSent(message)

    @sensitive_variables()
    def _sent(
        self,
        url: str,
        headers: dict[bytes | str, bytes | str],
        body: bytes,
        extensions: dict[str, Any],
        within: tuple[EndpointSpec, Call, Deadline, float],
    ) -> ToolResult:
        endpoint, call, deadline, share = within
        backend = BoundedBackend(deadline, connect_seconds=share)
        with (
            _as_connector_errors(call.flight),
            httpcore.ConnectionPool(ssl_context=trusted(), network_backend=backend) as pool,
            pool.stream(
                "POST", url, headers=headers, content=body, extensions=extensions
            ) as response,
        ):
            return _checked(response, endpoint.max_response_bytes)

    def _target(
        self, endpoint: EndpointSpec, tool: ToolSpec, call: Call, where: tuple[str, str, int]
    ) -> tuple[str, dict[bytes | str, bytes | str], dict[str, Any]]:
        address, host, port = where
        parts = urlsplit(endpoint.base_url)
        literal = f"[{address}]" if ":" in address else address
        path = f"{parts.path.rstrip('/')}/{(tool.path or tool.name).lstrip('/')}"
        headers: dict[bytes | str, bytes | str] = {
            "Host": parts.netloc,
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": "chancery",
            "X-Chancery-Run": call.run_id,
        }
        if call.idempotency_key is not None:
            headers["Idempotency-Key"] = call.idempotency_key
        extensions = {"sni_hostname": host} if parts.scheme == "https" else {}
        return f"{parts.scheme}://{literal}:{port}{path}", headers, extensions


@sensitive_variables()
def _identified(
    url: str, headers: dict[bytes | str, bytes | str], credentials: Sequence[Credential]
) -> str:
    """Put each credential in its place; the address with those that go there."""
    for credential in credentials:
        header = credential.header()
        if header is not None:
            headers[header[0]] = header[1]
    query = "&".join(part for part in (one.query() for one in credentials) if part)
    return f"{url}?{query}" if query else url


@contextmanager
def _as_connector_errors(flight: CancellableCall) -> Iterator[None]:
    try:
        yield
    except (httpcore.ConnectError, httpcore.ConnectTimeout, httpcore.PoolTimeout) as error:
        message = (
            "It was stopped first." if flight.is_cancelled else "The system could not be reached."
        )
        raise NotSent(message) from error
    except (httpcore.LocalProtocolError, httpcore.UnsupportedProtocol, UnicodeError) as error:
        message = "The address or a header cannot be sent."
        raise NotPermitted(message) from error
    except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError) as error:
        if flight.is_cancelled:
            message = "The call was cut off, because it was stopped."
            raise CancelledByHalt(message) from error
        message = "The system did not answer in time."
        raise NoResponse(message) from error


def _checked(response: httpcore.Response, max_bytes: int) -> ToolResult:
    status = response.status
    message = f"The system answered {status}."
    after = _retry_after(response)
    if status in _NOT_CARRIED_OUT:
        raise Unavailable(message, retry_after=after)
    if status == 409 and after is not None:
        # draft-ietf-httpapi-idempotency-key-header: a call with this key is still being made.
        raise NoResponse(message, retry_after=after)
    if status in _ELSEWHERE:
        message = f"The system answered {status}: redirects are not followed."
        raise NotPermitted(message)
    if status >= 500 or status == 408 or 300 <= status < 400:
        # What it had done by then is not known.
        raise NoResponse(message, retry_after=after)
    body = _bounded(response, max_bytes)
    if status >= 400:
        absent = status in _ABSENT
        raise Refused(message, body=(body or b"")[:MAX_REFUSAL_BYTES], absent=absent)
    if body is None:
        return ToolResult(None, f"The system's answer is larger than {max_bytes} bytes.")
    try:
        ensure_shallow(body)
        return ToolResult(json.loads(body) if body else None)
    except (ValueError, RecursionError):
        return ToolResult(None, "The system's answer is not JSON.")


def _retry_after(response: httpcore.Response) -> float | None:
    """Seconds from now, where the system names them or a date (RFC 9110 section 10.2.3)."""
    for name, value in response.headers:
        if name.lower() != b"retry-after":
            continue
        text = value.decode("latin-1").strip()
        if text.isascii() and text.isdigit():
            return float(text[:6])
        try:
            moment = parsedate_to_datetime(text)
        except (ValueError, OverflowError, IndexError):
            return None
        if moment.tzinfo is None:
            return None
        return min(max(moment.timestamp() - time.time(), 0.0), MAX_RETRY_AFTER_SECONDS)
    return None


def _bounded(response: httpcore.Response, max_bytes: int) -> bytes | None:
    """The body; None if it is larger."""
    body = b""
    for chunk in response.iter_stream():
        body += chunk
        if len(body) > max_bytes:
            return None
    return body
