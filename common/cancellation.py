"""A call while it is being made, so that another thread can cut it."""

import socket
from contextlib import suppress
from threading import Lock


class CancellableCall:
    """Nothing, a connection, or a connection that was cut. Cutting is for good."""

    __slots__ = ("_lock", "_socket", "is_cancelled")

    def __init__(self) -> None:
        self._lock = Lock()
        self._socket: socket.socket | None = None
        self.is_cancelled = False

    @property
    def has_departed(self) -> bool:
        """Whether there is a connection, over which something may have been sent."""
        return self._socket is not None

    def attach(self, connected: socket.socket | None) -> None:
        """The call goes over this connection now; one that was cut already goes nowhere."""
        with self._lock:
            self._socket = connected
            if self.is_cancelled:
                self._shut()

    def cancel(self) -> None:
        """End it: whoever waits for an answer on the connection is told at once that none comes."""
        with self._lock:
            self.is_cancelled = True
            self._shut()

    def _shut(self) -> None:
        if self._socket is not None:
            with suppress(OSError):  # it has ended by itself
                # Of the plain class: that of TLS changes its state under the thread that waits.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
