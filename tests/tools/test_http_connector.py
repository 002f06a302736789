import socket
import time
from pathlib import Path
from typing import Any

import httpcore
import pytest

from tests.tools.definitions import compiled_tool
from tests.tools.servers import (
    MANY_DRIPS,
    Answer,
    Behaviour,
    Server,
    drip_body,
    drip_chunks,
    drip_headers,
    drip_interim_answers,
    hang_up,
    say_forever,
    say_half,
    say_nothing,
    self_signed,
    serving,
)
from tools.catalog import Catalog
from tools.connectors.base import (
    Call,
    ConnectorError,
    EndpointSpec,
    NoResponse,
    NotPermitted,
    NotSent,
    Refused,
    Unavailable,
)
from tools.connectors.http import HttpConnector
from tools.invocation import call_tool

PATIENT, IMPATIENT = 10.0, 0.2


def endpoint(url: str, *, allow_private: bool = True, max_bytes: int = 10_000) -> EndpointSpec:
    return EndpointSpec("shop", "prod", url, allow_private, max_bytes)


class Unreadable(str):
    """Of a call that was carried out: why its answer could not be taken in."""

    __slots__ = ()


def ask(
    url: str,
    arguments: dict[str, Any] | None = None,
    *,
    seconds: float = PATIENT,
    key: str | None = "key-1",
    path: str = "",
    **terms: Any,
) -> Any:
    call = Call(run_id="run-1", idempotency_key=key, timeout_seconds=seconds)
    found = HttpConnector().call(
        endpoint(url, **terms), compiled_tool(name="order", path=path), arguments or {}, call=call
    )
    return found.value if not found.unreadable else Unreadable(found.unreadable)


class Names:
    """Answers for names that are not of this machine; addresses are left to the system."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers: dict[str, list[list[str]]] = {}
        self.asked: list[str] = []
        self._system = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self)

    def __call__(self, host: Any, port: Any, *args: Any, **kwargs: Any) -> list[Any]:
        if host not in self.answers:
            return list(self._system(host, port, *args, **kwargs))
        self.asked.append(host)
        answers = self.answers[host]
        addresses = answers.pop(0) if len(answers) > 1 else answers[0]
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return [row for one in addresses for row in self._system(one, port, *args, **kwargs)]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    return Names(monkeypatch)


def test_arguments_arrive_as_canonical_json(server: Server) -> None:
    server.answer = Answer(body=b'{"order": 7, "lines": [1, null]}')
    assert ask(server.url, {"z": [1, True], "a": {"ü": "é"}}) == {"order": 7, "lines": [1, None]}
    received = server.received[0]
    assert received.path == "/order"
    assert received.body == '{"a":{"ü":"é"},"z":[1,true]}'.encode()
    assert received.headers["Content-Type"] == "application/json"
    assert received.headers["Host"] == f"127.0.0.1:{server.port}"
    assert received.headers["Idempotency-Key"] == "key-1"
    assert received.headers["X-Chancery-Run"] == "run-1"


def test_what_is_too_late_is_not_sent(server: Server) -> None:
    late = Call("run-1", "key-1", PATIENT, send_by=time.monotonic() - 0.001)
    with pytest.raises(NotSent):
        HttpConnector().call(endpoint(server.url), compiled_tool(name="order"), {}, call=late)
    assert server.received == []


def test_what_becomes_too_late_once_connected_is_not_sent(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever was frozen in between cannot know what part of it has gone: it counts as unknown."""
    until = time.monotonic() + PATIENT
    connect = httpcore.SyncBackend.connect_tcp

    def slowly(*args: Any, **kwargs: Any) -> Any:
        stream = connect(*args, **kwargs)
        monkeypatch.setattr("common.http_deadline.time.monotonic", lambda: until + 0.001)
        return stream

    monkeypatch.setattr(httpcore.SyncBackend, "connect_tcp", slowly)
    late = Call("run-1", "key-1", 2 * PATIENT, send_by=until)
    with pytest.raises(NoResponse):
        HttpConnector().call(endpoint(server.url), compiled_tool(name="order"), {}, call=late)
    monkeypatch.undo()
    assert server.received == []


def test_a_read_for_facts_has_no_idempotency_key(server: Server) -> None:
    ask(server.url, key=None)
    assert "Idempotency-Key" not in server.received[0].headers


@pytest.mark.parametrize(
    ("base", "path", "called"),
    [
        ("", "", "/order"),
        ("/", "", "/order"),
        ("/api/v2", "", "/api/v2/order"),
        ("/api/v2/", "/orders/new", "/api/v2/orders/new"),
        ("", "//other.example.org/x", "/other.example.org/x"),
        ("?token=secret#part", "", "/order"),
    ],
)
def test_the_path_is_below_the_base_url(server: Server, base: str, path: str, called: str) -> None:
    ask(f"{server.url}{base}", path=path)
    assert [received.path for received in server.received] == [called]


def test_a_name_is_sent_as_host_while_its_address_is_called(server: Server, names: Names) -> None:
    names.answers["shop.example.org"] = [["127.0.0.1"]]
    ask(f"http://shop.example.org:{server.port}")
    assert server.received[0].headers["Host"] == f"shop.example.org:{server.port}"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "[::ffff:127.0.0.1]"])
def test_this_machine_is_refused_unless_the_endpoint_allows_it(server: Server, host: str) -> None:
    with pytest.raises(NotPermitted):
        ask(f"http://{host}:{server.port}", allow_private=False)
    assert server.received == []


def test_one_private_address_among_public_ones_refuses_the_name(
    server: Server, names: Names
) -> None:
    for addresses in (["93.184.215.14", "127.0.0.1"], ["127.0.0.1", "93.184.215.14"]):
        names.answers["shop.example.org"] = [addresses]
        with pytest.raises(NotPermitted):
            ask(f"http://shop.example.org:{server.port}", allow_private=False)
    assert server.received == []


def test_one_metadata_address_refuses_a_name_even_where_private_ones_may_be_called(
    server: Server, names: Names
) -> None:
    names.answers["shop.example.org"] = [["127.0.0.1", "169.254.169.254"]]
    with pytest.raises(NotPermitted):
        ask(f"http://shop.example.org:{server.port}")
    assert server.received == []


def test_a_name_is_resolved_once_and_the_checked_address_is_called(
    server: Server, names: Names
) -> None:
    names.answers["shop.example.org"] = [["127.0.0.1"], ["169.254.169.254"]]
    ask(f"http://shop.example.org:{server.port}")
    assert names.asked == ["shop.example.org"]
    assert len(server.received) == 1


def test_a_name_that_is_not_known_was_not_sent(names: Names) -> None:
    names.answers["shop.example.org"] = [[]]
    with pytest.raises(NotSent):
        ask("http://shop.example.org")


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (300, NoResponse),
        (301, NotPermitted),
        (302, NoResponse),
        (303, NoResponse),
        (307, NotPermitted),
        (308, NotPermitted),
    ],
)
def test_a_redirect_is_not_followed(
    server: Server, elsewhere: Server, status: int, error: type[ConnectorError]
) -> None:
    for target in (f"{elsewhere.url}/order", "/order", "//169.254.169.254/latest"):
        server.answer = Answer(status, headers={"Location": target})
        with pytest.raises(ConnectorError, match=str(status)) as failure:
            ask(server.url)
        assert type(failure.value) is error
    assert elsewhere.received == []
    assert len(server.received) == 3


def test_proxies_and_passwords_of_the_environment_are_ignored(
    server: Server, elsewhere: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, elsewhere.url)
        monkeypatch.setenv(name.lower(), elsewhere.url)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login olga password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    ask(server.url)
    assert elsewhere.received == []
    assert "Authorization" not in server.received[0].headers


@pytest.mark.parametrize("login", ["olga:secret@", "olga@", ":secret@", "@"])
def test_a_password_in_the_url_is_refused(server: Server, login: str) -> None:
    with pytest.raises(NotPermitted) as refusal:
        ask(f"http://{login}127.0.0.1:{server.port}")
    assert "secret" not in str(refusal.value)
    assert server.received == []


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, Refused),
        (401, Refused),
        (404, Refused),
        (409, Refused),
        (422, Refused),
        (408, NoResponse),
        (425, Unavailable),
        (429, Unavailable),
        (503, NoResponse),
        (500, NoResponse),
        (502, NoResponse),
        (504, NoResponse),
        (304, NoResponse),
    ],
)
def test_a_status_says_whether_it_was_carried_out(
    server: Server, status: int, error: type[ConnectorError]
) -> None:
    server.answer = Answer(status, body=b"" if status == 304 else b"card 4111 1111 is bad")
    with pytest.raises(ConnectorError, match=str(status)) as failure:
        ask(server.url)
    assert type(failure.value) is error
    assert "4111" not in str(failure.value)


@pytest.mark.parametrize("behaviour", [say_nothing, hang_up, say_half])
def test_a_call_without_a_whole_answer_is_unanswered(server: Server, behaviour: Behaviour) -> None:
    server.behaviour = behaviour
    with pytest.raises(NoResponse):
        ask(server.url, seconds=IMPATIENT)
    assert server.has_received(1)


@pytest.mark.parametrize("behaviour", [drip_body, drip_chunks, drip_headers, drip_interim_answers])
def test_a_call_ends_at_its_deadline_however_slowly_the_answer_drips(
    server: Server, behaviour: Behaviour
) -> None:
    server.behaviour = behaviour
    with pytest.raises(NoResponse):
        ask(server.url, seconds=IMPATIENT)
    assert server.dripped < MANY_DRIPS
    assert server.has_received(1)


def test_an_answer_that_drips_over_tls_ends_as_well(tmp_path: Path, settings: Any) -> None:
    settings.CA_FILE = str(tmp_path / "certificate.pem")
    with serving(self_signed(tmp_path)) as server:
        assert ask(f"https://127.0.0.1:{server.port}") == {}
        server.behaviour = drip_body
        with pytest.raises(NoResponse):
            ask(f"https://127.0.0.1:{server.port}", seconds=IMPATIENT)
        assert server.dripped < MANY_DRIPS


def test_a_call_without_time_left_is_not_sent(server: Server) -> None:
    with pytest.raises(NotSent):
        ask(server.url, seconds=0.0)
    assert server.received == []


def test_a_closed_port_was_not_sent_to() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    with pytest.raises(NotSent):
        ask(f"http://127.0.0.1:{port}")


def test_a_server_that_does_not_speak_tls_is_not_sent_to(server: Server) -> None:
    with pytest.raises(NotSent):
        ask(f"https://127.0.0.1:{server.port}")
    assert server.received == []


def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    with serving(self_signed(tmp_path)) as server, pytest.raises(NotSent):
        ask(f"https://127.0.0.1:{server.port}")
    assert server.received == []


def test_an_answer_up_to_the_limit_is_taken_and_no_more(server: Server) -> None:
    server.answer = Answer(body=b'"' + b"x" * 98 + b'"')
    assert ask(server.url, max_bytes=100) == "x" * 98
    server.answer = Answer(body=b'"' + b"x" * 99 + b'"')
    found = ask(server.url, max_bytes=100)
    assert isinstance(found, Unreadable)
    assert "100 bytes" in found


def test_an_endless_answer_is_cut_off(server: Server) -> None:
    server.behaviour = say_forever
    found = ask(server.url, max_bytes=200_000)
    assert isinstance(found, Unreadable)
    assert "larger" in found


@pytest.mark.parametrize(
    "body",
    [b"<html></html>", b"{", b"\xff\xfe\xfd", b'{"a": 1} x', b"[" * 9_000, b"1" * 9_000],
    ids=["html", "half", "bytes", "more", "deep", "digits"],
)
def test_an_answer_that_is_not_json_is_that_of_a_done_call(server: Server, body: bytes) -> None:
    server.answer = Answer(body=body)
    found = ask(server.url)
    assert isinstance(found, Unreadable)
    assert "not JSON" in found


def test_a_compressed_answer_is_not_unpacked(server: Server) -> None:
    server.answer = Answer(body=b"\x1f\x8b\x08", headers={"Content-Encoding": "gzip"})
    assert isinstance(ask(server.url), Unreadable)
    assert server.received[0].headers["Accept-Encoding"] == "identity"


def test_an_empty_answer_is_nothing(server: Server) -> None:
    server.answer = Answer(204, body=b"")
    assert ask(server.url) is None


@pytest.mark.parametrize("body", [b"NaN", b'"\\u0000"', b'"\\ud800"', b"[" * 40 + b"]" * 40])
def test_an_answer_that_cannot_be_recorded_is_that_of_a_done_call(
    server: Server, body: bytes
) -> None:
    server.answer = Answer(body=body)
    found = call_tool(
        Catalog({}, {("shop", "prod"): endpoint(server.url)}),
        compiled_tool(system="shop", kind="http"),
        {},
        environment="prod",
        call=Call("run-1", "key-1", PATIENT),
    )
    assert found.value is None
    assert "recorded" in found.unreadable


def test_a_system_without_an_endpoint_in_the_environment_is_not_called(server: Server) -> None:
    catalog = Catalog({}, {("shop", "prod"): endpoint(server.url)})
    call = Call("run-1", "key-1", PATIENT)
    with pytest.raises(NotPermitted, match="staging"):
        call_tool(catalog, compiled_tool(system="shop"), {}, environment="staging", call=call)
    assert server.received == []
