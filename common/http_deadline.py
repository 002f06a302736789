"""A network backend that gives a whole call one deadline.

Time limits of HTTP libraries are per read: a system that sends a byte now and then would hold a
worker for ever. Here each wait on the socket gets what is left of the call's time.
"""

import math
import time
from collections.abc import Iterable
from ssl import SSLContext
from typing import Any

import httpcore

from common.cancellation import CancellableCall


class Deadline:
    def __init__(
        self, seconds: float, flight: CancellableCall | None = None, *, send_by: float = math.inf
    ) -> None:
        self._until = time.monotonic() + seconds
        self._send_by = send_by
        self.flight = flight or CancellableCall()

    def left(self) -> float:
        """Seconds left. Raises httpcore.ReadTimeout when there are none, and ReadError if the call
        was cut.
        """
        if self.flight.is_cancelled:
            raise httpcore.ReadError
        remaining = self._until - time.monotonic()
        if remaining <= 0:
            raise httpcore.ReadTimeout
        return remaining

    def left_to_send(self) -> float:
        """As `left`; raises httpcore.WriteTimeout also when nothing may be sent any more."""
        remaining = self.left()
        if time.monotonic() > self._send_by:
            raise httpcore.WriteTimeout
        return remaining


class _BoundedStream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream, deadline: Deadline) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._deadline.left())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._deadline.left_to_send())

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        secured = self._stream.start_tls(ssl_context, server_hostname, self._deadline.left())
        self._deadline.flight.attach(secured.get_extra_info("socket"))
        return _BoundedStream(secured, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class BoundedBackend(httpcore.NetworkBackend):
    def __init__(self, deadline: Deadline, *, connect_seconds: float = math.inf) -> None:
        self._deadline = deadline
        self._connect_seconds = connect_seconds
        self._backend = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        try:
            left = self._deadline.left_to_send()
        except (httpcore.ReadTimeout, httpcore.WriteTimeout, httpcore.ReadError) as error:
            raise httpcore.ConnectTimeout from error
        within = min(left, self._connect_seconds)
        stream = self._backend.connect_tcp(host, port, within, local_address, socket_options)
        self._deadline.flight.attach(stream.get_extra_info("socket"))
        return _BoundedStream(stream, self._deadline)
