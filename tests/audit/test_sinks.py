"""Leaves go to files, web addresses and syslog, in order, signed, and without values."""

import base64
import contextlib
import errno
import hashlib
import hmac
import itertools
import json
import os
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.conf import LazySettings
from django.core.checks import run_checks
from django.db import connection

from audit.event_types import declared
from audit.health import alarms
from audit.leaf_encoding import parsed_leaf
from audit.merkle import leaf_hash
from audit.models import Event, Leaf, SinkState
from audit.services import delivery
from audit.sinks import transports
from audit.sinks.formats import SHAPES, Sealed, ocsf
from audit.sinks.transports import Sink, SinkInvalid, sinks
from tests.audit.sealed_log import many, said, sealed_all
from tests.tools.servers import Received, Server, serving

pytestmark = pytest.mark.django_db

SECRET = "only for this test"


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def use(settings: LazySettings, *given: str) -> None:
    settings.LOG_SINKS = ", ".join(given)
    settings.LOG_SINK_SECRET = SECRET


def forwarded() -> int:
    sealed_all()
    return delivery.forward_all()


def uids(place: int = 0) -> list[str]:
    rows = Leaf.objects.filter(seq__gte=place).order_by("seq")
    return [str(uid) for uid in rows.values_list("event__uid", flat=True)]


def header(received: Received, name: str) -> str:
    return {key.lower(): value for key, value in received.headers.items()}[name]


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_file_gets_every_event_once_and_in_order(settings: LazySettings, tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    use(settings, f"cloudevents+file://{file}")
    many(1_200)
    assert forwarded() == len(uids())
    many(3, of="more")
    forwarded()
    assert delivery.forward_all() == 0
    found = lines(file)
    assert [one["id"] for one in found] == uids()
    assert [one["sequence"] for one in found] == sorted(one["sequence"] for one in found)
    assert file.stat().st_mode & 0o007 == 0


def test_what_is_sent_is_the_leaf_and_its_hash_and_no_value(
    settings: LazySettings, tmp_path: Path
) -> None:
    files = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    use(settings, f"cloudevents+file://{files[0]}", f"ocsf+file://{files[1]}")
    said("Maria Muster said so")
    forwarded()
    for file in files:
        assert "Maria" not in file.read_text()
        assert "rose" not in file.read_text()
    [event, *_] = Event.objects.filter(type="agent.suspended")
    [sent] = [one for one in lines(files[0]) if one["id"] == str(event.uid)]
    assert sent["data"] == parsed_leaf(event.leaf)
    assert sent["leafhash"] == leaf_hash(event.leaf.encode()).hex()
    assert (sent["specversion"], sent["type"]) == ("1.0", "chancery.agent.suspended.v1")


LEAF = {
    "v": 1, "uid": "u", "at": "2026-01-02T03:04:05.678901Z", "type": "agent.suspended",
    "actor": {"kind": "agent", "id": "a"}, "subject": {"kind": "k", "id": "i"}, "w": ["w", 1],
}  # fmt: skip


def test_every_event_has_its_ocsf_form() -> None:
    for kind in declared():
        made = ocsf(Sealed(7, json.dumps({**LEAF, "type": kind}), b"\x00" * 32))
        assert made["type_uid"] == made["class_uid"] * 100 + made["activity_id"]
        assert made["category_uid"] == made["class_uid"] // 1000
        assert made["time"] == 1767323045678
        assert made["severity_id"] in range(7)
        assert made["metadata"]["uid"] == "u"
    denied = {**LEAF, "type": "decision.made", "details": {"outcome": "denied", "tool": "crm.read"}}
    made = ocsf(Sealed(7, json.dumps(denied), b""))
    assert (made["class_uid"], made["status_id"], made["severity_id"]) == (6003, 2, 2)
    assert made["api"]["operation"] == "crm.read"


def test_a_web_address_gets_signed_batches(settings: LazySettings, server: Server) -> None:
    use(settings, f"cloudevents+{server.url}/in?token=hidden")
    many(700)
    forwarded()
    got: list[str] = []
    for received in server.received:
        number, moment = header(received, "webhook-id"), header(received, "webhook-timestamp")
        signed = f"{number}.{moment}.".encode() + received.body
        mac = hmac.digest(SECRET.encode(), signed, hashlib.sha256)
        assert header(received, "webhook-signature") == f"v1,{base64.b64encode(mac).decode()}"
        assert header(received, "content-type") == "application/cloudevents-batch+json"
        got += [one["id"] for one in json.loads(received.body)]
    assert got == uids()
    assert len(server.received) == 2
    assert "hidden" not in SinkState.objects.get().name


def test_a_sink_that_refuses_is_said_once_and_gets_all_of_it_later(
    settings: LazySettings, server: Server
) -> None:
    use(settings, f"ocsf+{server.url}/in")
    said("a", "b")
    well, server.behaviour = server.behaviour, lambda _, handler: handler.send_error(500)
    assert forwarded() == delivery.forward_all() == 0
    [told] = Event.objects.filter(type="audit.sink_refused")
    assert told.details["error"] == "status_500"
    state = SinkState.objects.get()
    assert (state.trouble, state.next_seq) == ("status_500", 0)
    assert not alarms()
    SinkState.objects.update(since="2026-01-01T00:00Z")
    assert any("does not take the log" in sentence for sentence in alarms())
    server.behaviour = well
    server.received.clear()
    assert forwarded() == Leaf.objects.count()
    assert SinkState.objects.get().trouble == ""


def test_what_comes_again_is_the_same_batch_though_the_log_has_grown(
    settings: LazySettings, server: Server
) -> None:
    use(settings, f"ocsf+{server.url}/in")
    said("a", "b")
    well, server.behaviour = server.behaviour, lambda _, handler: handler.send_error(500)
    forwarded()
    first = header(server.received[0], "webhook-id")
    said("c", "d")
    server.behaviour = well
    server.received.clear()
    assert forwarded() == Leaf.objects.count()
    assert header(server.received[0], "webhook-id") == first
    got = [one["metadata"]["uid"] for sent in server.received for one in json.loads(sent.body)]
    assert got == uids()


@pytest.mark.django_db(transaction=True)
def test_delivering_holds_no_transaction_and_no_second_worker_delivers_meanwhile(
    settings: LazySettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(settings, f"ocsf+file://{tmp_path}/log.jsonl")
    said("a", "b")
    delivered: list[int] = []

    def slow(sink: Sink, batch: Sequence[Sealed]) -> None:
        assert not connection.in_atomic_block
        assert delivery.forward_all() == 0
        delivered.append(len(batch))

    monkeypatch.setattr(Sink, "deliver", slow)
    assert forwarded() == sum(delivered) == Leaf.objects.count()


def test_who_lost_the_lease_notes_nothing(
    settings: LazySettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(settings, f"ocsf+file://{tmp_path}/log.jsonl")
    said("a")

    def overtaken(sink: Sink, batch: Sequence[Sealed]) -> None:
        SinkState.objects.update(lease=uuid4())

    monkeypatch.setattr(Sink, "deliver", overtaken)
    assert forwarded() == 0
    assert SinkState.objects.get().next_seq == 0
    SinkState.objects.update(leased_until="2026-01-01T00:00Z")
    monkeypatch.undo()
    use(settings, f"ocsf+file://{tmp_path}/log.jsonl")
    assert delivery.forward_all() == Leaf.objects.count()


def test_an_address_that_no_host_can_have_is_trouble_of_that_sink_alone(
    settings: LazySettings, tmp_path: Path
) -> None:
    use(settings, f"ocsf+https://{'a' * 70}.example/in", f"ocsf+file://{tmp_path}/log.jsonl")
    said("a")
    assert forwarded() == Leaf.objects.count()
    [told] = Event.objects.filter(type="audit.sink_refused")
    assert told.details["error"] == "unreachable"


def test_who_a_web_address_names_signs_in_there(settings: LazySettings, server: Server) -> None:
    use(settings, f"ocsf+{server.url.replace('://', '://anna:a%20b@')}/in")
    said("a")
    forwarded()
    assert header(server.received[0], "authorization") == "Basic YW5uYTphIGI="


def test_what_a_sink_s_address_keeps_secret_is_in_no_name(settings: LazySettings) -> None:
    use(
        settings, "ocsf+https://user:pw1@a.example/hook/Zm9v1?k=s3", "ocsf+https://a.example/hook/2"
    )
    names = [one.name for one in sinks()]
    assert len(set(names)) == 2
    for secret in ("pw1", "Zm9v1", "s3", "hook"):
        assert secret not in str(names)


def test_a_collector_that_drips_its_answer_is_not_waited_for(
    settings: LazySettings, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dripped = 0

    def dripping(running: Server, handler: Any) -> None:
        nonlocal dripped
        with contextlib.suppress(OSError):
            for _ in range(600):
                handler.wfile.write(b"H" if not dripped else b"T")
                handler.wfile.flush()
                dripped += 1
                time.sleep(0.05)

    server.behaviour = dripping
    monkeypatch.setattr(transports, "TIMEOUT", 0.5)
    use(settings, f"ocsf+{server.url}/in", f"ocsf+file://{tmp_path}/log.jsonl")
    said("a")
    assert forwarded() == Leaf.objects.count()
    assert dripped < 600
    assert SinkState.objects.get(name__contains="http").trouble == "unreachable"


def test_without_trusted_roots_that_sink_alone_is_in_trouble(
    settings: LazySettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nonexistent")
    use(settings, "ocsf+https://a.example/in", f"ocsf+file://{tmp_path}/log.jsonl")
    said("a")
    assert forwarded() == Leaf.objects.count()
    assert SinkState.objects.get(name__contains="http").trouble == "unreachable"


def test_a_line_that_could_not_be_written_whole_is_not_left_in_part(
    settings: LazySettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "log.jsonl"
    file.write_text('{"left": "by a process that')
    use(settings, f"cloudevents+file://{file}")
    many(3)
    write, calls = os.write, 0

    def full(to: int, data: bytes) -> int:
        nonlocal calls
        calls += 1
        if calls == 1:
            return write(to, data[:40])
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "write", full)
    assert forwarded() == 0
    monkeypatch.setattr(os, "write", write)
    assert file.read_text() == '{"left": "by a process that'
    assert delivery.forward_all() == Leaf.objects.count()
    whole = [json.loads(line) for line in file.read_text().splitlines()[1:]]
    assert [one["id"] for one in whole] == uids()


def test_a_sink_whose_trouble_has_many_names_is_said_once(
    settings: LazySettings, server: Server
) -> None:
    use(settings, f"ocsf+{server.url}/in")
    said("a")
    codes = itertools.cycle((500, 501))
    server.behaviour = lambda _, handler: handler.send_error(next(codes))
    for _ in range(4):
        forwarded()
    assert Event.objects.filter(type="audit.sink_refused").count() == 1


def test_a_line_too_long_for_a_datagram_is_cut_and_the_next_come(settings: LazySettings) -> None:
    with collector(socket.SOCK_DGRAM) as (port, got):
        use(settings, f"ocsf+syslog+udp://127.0.0.1:{port}")
        [sink] = sinks()
        leaf = json.dumps({**LEAF, "details": {"kind": "x" * 70_000}})
        sink.deliver([Sealed(0, leaf, b"")])
    assert got[0].startswith(b"<109>1 20")
    assert 60_000 < len(got[0]) < 65_507


def test_a_redirect_is_not_followed(settings: LazySettings, server: Server) -> None:
    def elsewhere(_: Server, handler: Any) -> None:
        handler.send_response(307)
        handler.send_header("Location", f"{server.url}/other")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    server.behaviour = elsewhere
    use(settings, f"ocsf+{server.url}/in")
    said("a")
    assert forwarded() == 0
    assert [received.path for received in server.received] == ["/in"]


@contextmanager
def collector(kind: socket.SocketKind) -> Iterator[tuple[int, list[bytes]]]:
    got: list[bytes] = []
    with socket.socket(socket.AF_INET, kind) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.settimeout(5)
        if kind == socket.SOCK_STREAM:
            listener.listen()

        def collect() -> None:
            if kind == socket.SOCK_DGRAM:
                got.append(listener.recv(65_535))
                return
            connection, _ = listener.accept()
            with connection:
                while part := connection.recv(65_535):
                    got.append(part)

        thread = threading.Thread(target=collect)
        thread.start()
        yield listener.getsockname()[1], got
        thread.join(5)


def test_syslog_over_tcp_says_the_length_of_each(settings: LazySettings) -> None:
    with collector(socket.SOCK_STREAM) as (port, got):
        use(settings, f"ocsf+syslog://127.0.0.1:{port}")
        said("a", "b")
        number = forwarded()
    text, found = b"".join(got), []
    while text:
        length, _, rest = text.partition(b" ")
        found.append(rest[: int(length)])
        text = rest[int(length) :]
    assert len(found) == number
    head, _, body = found[0].partition(b" - - - ")
    assert head.startswith(b"<109>1 20")
    assert json.loads(body)["metadata"]["uid"] == uids()[0]


def test_syslog_over_udp(settings: LazySettings) -> None:
    with collector(socket.SOCK_DGRAM) as (port, got):
        use(settings, f"cloudevents+syslog+udp://127.0.0.1:{port}")
        said("a")
        forwarded()
    assert json.loads(got[0].partition(b" - - - ")[2])["id"] == uids()[0]


@pytest.mark.parametrize(
    "wrong",
    [
        "file:///x",
        "xml+file:///x",
        "ocsf+ftp://x",
        "ocsf+http://elsewhere.example/in",
        "ocsf+file://var/log/x",
        "ocsf+https://a.example/in?k=1, ocsf+https://a.example/in?k=1",
        "ocsf+https://user:hunter2#x@host",
        "ocsf+https://[::1/in",
    ],
)
def test_a_sink_that_cannot_be_meant_is_said_at_start_up(
    settings: LazySettings, wrong: str
) -> None:
    use(settings, wrong)
    with pytest.raises(SinkInvalid) as refusal:
        sinks()
    assert "hunter2" not in str(refusal.value)
    assert "chancery.E008" in {one.id for one in run_checks()}


def test_what_is_sent_over_the_web_is_signed_or_not_sent(settings: LazySettings) -> None:
    use(settings, "ocsf+https://siem.example/in")
    settings.LOG_SINK_SECRET = ""
    with pytest.raises(SinkInvalid):
        sinks()


def test_a_file_that_cannot_be_written_is_trouble(settings: LazySettings, tmp_path: Path) -> None:
    use(settings, f"ocsf+file://{tmp_path}/none/log.jsonl")
    said("a")
    assert forwarded() == 0
    assert SinkState.objects.get().trouble == "not_writable"
    assert set(SHAPES) == {"ocsf", "cloudevents"}
