"""Delivering to a sink: all of a batch, or an error; what was delivered may come again.

Sinks are named by CHANCERY_LOG_SINKS, comma-separated, each as shape and address:
`ocsf+file:///var/log/chancery.jsonl`, `cloudevents+https://siem.example/in`,
`ocsf+syslog://collector:514` (TCP, RFC 6587) or `ocsf+syslog+udp://collector:514`.
"""

import base64
import hashlib
import hmac
import json
import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

import httpcore
import httpx
from django.conf import settings

from audit.sinks.formats import SHAPES, Sealed
from common.http_deadline import BoundedBackend, Deadline
from common.outgoing_tls import trusted
from common.redaction import fingerprint

TIMEOUT = 20.0  # seconds, for all of a batch
# What can be wrong with an address, a network and the other side. One sink does not stop others.
_UNDELIVERABLE = (
    OSError,
    UnicodeError,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.TimeoutException,
    httpcore.UnsupportedProtocol,
)
_NOTICE = 13 * 8 + 5  # RFC 5424: facility "log audit", severity "notice"
_BATCH_TYPE = "application/cloudevents-batch+json"
# What fits into a datagram (UDP over IPv4: 65,507 octets), with room for the line's head.
_MAX_DATAGRAM = 65_000
_AT_HOME = frozenset({"localhost", "127.0.0.1", "::1"})


class SinkInvalid(Exception):
    """CHANCERY_LOG_SINKS names a target that cannot be used."""


class Undelivered(Exception):
    """`code` says in a word why; no address and nothing of an event is in it."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class Sink:
    """One place to deliver to; `name` is without what could be a secret in its address.

    A file and the web say when they have taken what came, so it comes at least once. Syslog (RFC
    5424) has no answer: what a collector loses after the connection took it does not come again.
    """

    name: str
    shape: str
    url: SplitResult

    def deliver(self, batch: Sequence[Sealed]) -> None:
        """Raises Undelivered."""
        try:
            _TARGETS[self.url.scheme](self, [SHAPES[self.shape](one) for one in batch])
        except _UNDELIVERABLE as error:
            code = "unreachable"
            raise Undelivered(code) from error


def sinks() -> list[Sink]:
    """Raises SinkInvalid."""
    found = [_sink(part.strip()) for part in settings.LOG_SINKS.split(",") if part.strip()]
    if len({one.name for one in found}) < len(found):
        message = "a sink is named twice."
        raise SinkInvalid(message)
    return found


def _sink(text: str) -> Sink:
    shape, _, address = text.partition("+")
    try:
        url = urlsplit(address)
    except ValueError:
        message = "its address is none."
        raise SinkInvalid(message) from None
    if shape not in SHAPES or url.scheme not in _TARGETS:
        message = f"a sink is one of {', '.join(SHAPES)}, a plus, and an address."
        raise SinkInvalid(message)
    if url.scheme == "file" and url.netloc:
        message = "a file is named as file:///path."
        raise SinkInvalid(message)
    if url.scheme == "http" and url.hostname not in _AT_HOME:
        message = "events go over https, but for this machine."
        raise SinkInvalid(message)
    if url.scheme.startswith("http") and not settings.LOG_SINK_SECRET:
        message = "CHANCERY_LOG_SINK_SECRET is needed to sign what is sent."
        raise SinkInvalid(message)
    return Sink(_name(shape, url), shape, url)


def _name(shape: str, url: SplitResult) -> str:
    """Of an address on the web the path may be a secret, too: a keyed digest stands for it."""
    try:
        port = f":{url.port}" if url.port else ""
    except ValueError:
        message = "a port is a number."
        raise SinkInvalid(message) from None
    where = f"/{fingerprint(url.geturl())[:8]}" if url.scheme.startswith("http") else url.path
    return f"{shape}+{url.scheme}://{url.hostname or ''}{port}{where}"[:200]


def _to_file(sink: Sink, events: Sequence[dict[str, Any]]) -> None:
    """One line of JSON for each, on disk when this returns; the file is opened anew each time, so
    that it can be rotated.
    """
    lines = "".join(f"{_compact(event)}\n" for event in events).encode()
    try:
        file = os.open(sink.url.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o640)
        try:
            _append_whole(file, lines)
        finally:
            os.close(file)
    except OSError as error:
        code = "not_writable"
        raise Undelivered(code) from error


def _append_whole(file: int, lines: bytes) -> None:
    """All of it or nothing. A line that a process that ended has left unfinished is ended."""
    before = os.fstat(file).st_size
    if before and os.pread(file, 1, before - 1) != b"\n":
        lines = b"\n" + lines
    try:
        while lines:  # a disk that is nearly full takes a part and says no error
            lines = lines[os.write(file, lines) :]
        os.fsync(file)
    except OSError:
        os.ftruncate(file, before)
        raise


def _to_web(sink: Sink, events: Sequence[dict[str, Any]]) -> None:
    """POST of all as one JSON array, signed after the Standard Webhooks specification: the
    receiver checks that it is ours and new, and by `webhook-id` that it came once.
    """
    body = f"[{','.join(map(_compact, events))}]".encode()
    kind = _BATCH_TYPE if sink.shape == "cloudevents" else "application/json"
    headers = {"Content-Type": kind, **signature_headers(body)}
    if sink.url.username is not None:
        person = f"{unquote(sink.url.username)}:{unquote(sink.url.password or '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(person.encode()).decode()}"
    backend = BoundedBackend(Deadline(TIMEOUT))
    with (
        httpcore.ConnectionPool(ssl_context=trusted(), network_backend=backend) as pool,
        pool.stream(
            "POST", sink.url.geturl(), headers=list(headers.items()), content=body
        ) as answer,
    ):
        status = answer.status  # what else it says is not waited for
    if not httpx.codes.is_success(status):
        code = f"status_{status}"
        raise Undelivered(code)


def signature_headers(body: bytes, *, at: int | None = None) -> dict[str, str]:
    """`webhook-id` is of the content, so a batch that comes again has the same."""
    moment = int(time.time()) if at is None else at
    number = f"batch_{hashlib.sha256(body).hexdigest()[:32]}"
    signed = f"{number}.{moment}.".encode() + body
    mac = hmac.digest(settings.LOG_SINK_SECRET.encode(), signed, "sha256")
    return {
        "webhook-id": number,
        "webhook-timestamp": str(moment),
        "webhook-signature": f"v1,{base64.b64encode(mac).decode()}",
    }


def _to_syslog(sink: Sink, events: Sequence[dict[str, Any]]) -> None:
    """RFC 5424 lines; over TCP each with its length before it (RFC 6587 section 3.4.1)."""
    lines = [_line(event) for event in events]
    is_stream = sink.url.scheme == "syslog"
    address = (sink.url.hostname or "localhost", sink.url.port or 514)
    if is_stream:
        with socket.create_connection(address, timeout=TIMEOUT) as connection:
            connection.sendall(b"".join(b"%d %s" % (len(line), line) for line in lines))
        return
    family, kind, _, _, found = socket.getaddrinfo(*address, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as connection:
        for line in lines:
            # RFC 5424 section 6.1 lets lines be cut; no JSON any more, it shows.
            connection.sendto(line[:_MAX_DATAGRAM], found)


def _line(event: dict[str, Any]) -> bytes:
    at = event.get("time")
    moment = at if isinstance(at, str) else event["unmapped"]["at"]
    host = socket.gethostname()[:255] or "-"
    return f"<{_NOTICE}>1 {moment} {host} chancery - - - {_compact(event)}".encode()


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


_TARGETS: dict[str, Callable[[Sink, Sequence[dict[str, Any]]], None]] = {
    "file": _to_file,
    "http": _to_web,
    "https": _to_web,
    "syslog": _to_syslog,
    "syslog+udp": _to_syslog,
}
