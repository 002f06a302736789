"""HTTP servers on this machine that answer as told and remember what they were sent."""

import datetime
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

ENOUGH = 30.0  # seconds after which a test has gone wrong; never waited for when all is well


@dataclass(frozen=True)
class Received:
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Answer:
    status: int = 200
    body: bytes = b"{}"
    headers: Mapping[str, str] = field(default_factory=dict)


Behaviour = Callable[["Server", BaseHTTPRequestHandler], None]


class Server:
    """`answer` is what it says; `behaviour` replaces the whole answering."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.answer = Answer()
        self.behaviour: Behaviour = _say
        self.over = threading.Event()
        self.port = 0
        self.dripped = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def has_received(self, number: int) -> bool:
        """Whether so many requests have come in; what was sent may lie unread for a while."""
        for _ in range(500):
            if len(self.received) >= number:
                break
            self.over.wait(0.01)
        return len(self.received) == number


def _say(server: Server, handler: BaseHTTPRequestHandler) -> None:
    answer = server.answer
    handler.send_response(answer.status)
    for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(answer.body)


def say_nothing(server: Server, handler: BaseHTTPRequestHandler) -> None:
    """Keep the connection open until the test is over."""
    server.over.wait(ENOUGH)


def hang_up(server: Server, handler: BaseHTTPRequestHandler) -> None:
    """Close the connection instead of answering."""
    handler.close_connection = True


def say_half(server: Server, handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"half": ')
    handler.close_connection = True


def say_forever(server: Server, handler: BaseHTTPRequestHandler) -> None:
    """Send zeros until the other side has had enough."""
    handler.send_response(200)
    handler.end_headers()
    while not server.over.is_set():
        handler.wfile.write(b"0" * 65_536)


MANY_DRIPS = 1_000


def _drip(server: Server, handler: BaseHTTPRequestHandler, drop: bytes) -> None:
    """Each drop well before a caller loses patience, all of them long after."""
    while server.dripped < MANY_DRIPS and not server.over.wait(0.02):
        handler.wfile.write(drop)
        server.dripped += 1


def drip_body(server: Server, handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(MANY_DRIPS))
    handler.end_headers()
    _drip(server, handler, b"0")


def drip_chunks(server: Server, handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    _drip(server, handler, b"1\r\n0\r\n")


def drip_headers(server: Server, handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    _drip(server, handler, b"x")


def drip_interim_answers(server: Server, handler: BaseHTTPRequestHandler) -> None:
    """Say again and again that the answer is on its way."""
    _drip(server, handler, b"HTTP/1.1 102 Processing\r\n\r\n")


def _handler_of(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            server.received.append(Received(self.path, dict(self.headers), body))
            with suppress(OSError):  # the caller may have gone
                server.behaviour(server, self)

        def do_GET(self) -> None:
            self.do_POST()

        def do_CONNECT(self) -> None:
            self.do_POST()

        def log_message(self, *args: Any) -> None:
            """Say nothing on the console."""

    return Handler


def self_signed(folder: Path) -> ssl.SSLContext:
    """For 127.0.0.1, correct in everything but that nobody vouches for it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    alternative = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(alternative, critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


@contextmanager
def serving(tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    server = Server()
    http = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(server))
    if tls is not None:
        http.socket = tls.wrap_socket(http.socket, server_side=True)
    server.port = http.server_address[1]
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        http.shutdown()
        http.server_close()  # waits for the handlers
        thread.join()
