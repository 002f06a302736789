"""JSON over HTTP: POST {base_url}/{path} with the arguments as body."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx

from common.canonical import canonical_json
from tools.connectors.addresses import permitted_address
from tools.connectors.base import (
    Call,
    EndpointSpec,
    NotPermitted,
    NotSent,
    Refused,
    ToolResult,
    Unanswered,
    Unavailable,
)
from tools.definitions import ToolSpec

# RFC 9110 and RFC 6585: the request was not carried out and may be sent again.
_NOT_CARRIED_OUT = frozenset({408, 425, 429, 503})


class HttpConnector:
    """Calls the endpoint's origin and no other: redirects are an error, proxies are ignored."""

    def call(
        self, endpoint: EndpointSpec, tool: ToolSpec, arguments: Mapping[str, Any], *, call: Call
    ) -> ToolResult:
        url, headers, extensions = self._target(endpoint, tool, call)
        with _as_connector_errors(), httpx.Client(trust_env=False) as client:
            request = client.build_request(
                "POST",
                url,
                content=canonical_json(dict(arguments)).encode(),
                headers=headers,
                timeout=httpx.Timeout(call.timeout_seconds),
                extensions=extensions,
            )
            response = client.send(request, stream=True)
            try:
                return _checked(response, endpoint.max_response_bytes)
            finally:
                response.close()

    def _target(
        self, endpoint: EndpointSpec, tool: ToolSpec, call: Call
    ) -> tuple[str, dict[str, str], dict[str, Any]]:
        address, host, port = permitted_address(endpoint)
        parts = urlsplit(endpoint.base_url)
        literal = f"[{address}]" if ":" in address else address
        path = f"{parts.path.rstrip('/')}/{(tool.path or tool.name).lstrip('/')}"
        headers = {
            "Host": parts.netloc,
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "X-Chancery-Run": call.run_id,
        }
        if call.idempotency_key is not None:
            headers["Idempotency-Key"] = call.idempotency_key
        extensions = {"sni_hostname": host} if parts.scheme == "https" else {}
        return f"{parts.scheme}://{literal}:{port}{path}", headers, extensions


@contextmanager
def _as_connector_errors() -> Iterator[None]:
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
        message = "The system could not be reached."
        raise NotSent(message) from error
    except (httpx.TimeoutException, httpx.TransportError) as error:
        message = "The system did not answer in time."
        raise Unanswered(message) from error


def _checked(response: httpx.Response, max_bytes: int) -> ToolResult:
    status = response.status_code
    message = f"The system answered {status}."
    if status in _NOT_CARRIED_OUT:
        raise Unavailable(message)
    if status >= 500:
        # It failed somewhere on the way: what it had done by then is not known.
        raise Unanswered(message)
    if 300 <= status < 400:
        message = f"The system answered {status}: redirects are not followed."
        raise NotPermitted(message)
    body = _bounded(response, max_bytes)
    if status >= 400:
        raise Refused(message)
    try:
        return ToolResult(json.loads(body) if body else None)
    except (ValueError, RecursionError) as error:
        # It was carried out; only its answer cannot be read.
        message = "The system's answer is not JSON."
        raise Unanswered(message) from error


def _bounded(response: httpx.Response, max_bytes: int) -> bytes:
    body = b""
    for chunk in response.iter_raw():
        body += chunk
        if len(body) > max_bytes:
            message = f"The system's answer is larger than {max_bytes} bytes."
            raise Unanswered(message)
    return body
