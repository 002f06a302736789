"""Thirteen things that somebody who owns the database may do to the log, and what shows them.

The attacker has taken the triggers away, and has neither the portal's keys nor, but where it says
so, the sealer's. Two of the thirteen are found by whoever kept a checkpoint elsewhere, and by
nobody else: that is said here too.
"""

import base64
import json
import os
from typing import Any

import pytest
from django.conf import settings as configured
from django.db import connection, transaction

from audit.events import PAYLOAD_ERASED
from audit.models import Checkpoint, Event, Leaf
from audit.services.access_log import LOG
from audit.services.recorder import record
from audit.services.sealer import seal
from audit.signed_notes import Signer, Verifier
from audit.verification import Report, verify
from audit.writer_sequences import forget_writers
from common import triggers
from common.actors import SYSTEM
from common.encryption import decoded_key
from tests.audit.sealed_log import many, said, sealed_all

pytestmark = pytest.mark.django_db

TABLES = (
    "audit_event", "audit_eventpayload", "audit_leaf", "audit_tile", "audit_logkey",
    "audit_checkpoint",
)  # fmt: skip


@pytest.fixture
def log() -> str:
    """A sealed log that spans tiles, without its triggers; its last checkpoint, kept elsewhere."""
    many(300)
    sealed_all(limit=120)
    for table in TABLES:
        sql(*triggers.removal(table)[connection.vendor])
    return last().note


def sql(*statements: str) -> None:
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        for statement in statements:
            cursor.execute(statement)


def last() -> Checkpoint:
    return Checkpoint.objects.order_by("-size")[0]


def own_key() -> Verifier:
    return Signer.from_seed(configured.LOG_ORIGIN, decoded_key(configured.LOG_SIGNING_KEY)).verifier


def found(**given: Any) -> set[str]:
    report = verify(trusted=[own_key()], **given)
    assert report.is_sound == (not report.problems)
    return {one.code for one in report.problems}


def at(seq: int) -> Event:
    return Event.objects.get(place__seq=seq)


def payload_of(seq: int) -> str:
    return at(seq).uid.hex


def values_of(seq: int) -> dict[str, str]:
    return dict(at(seq).payload.disclosures)


def set_disclosures(seq: int, values: dict[str, str]) -> None:
    with connection.cursor() as cursor:
        cast = "::jsonb" if connection.vendor == "postgresql" else ""
        cursor.execute(
            f"UPDATE audit_eventpayload SET disclosures = %s{cast} WHERE event_id = %s",
            [json.dumps(values), payload_of(seq)],
        )


def unsealed() -> None:
    """The log as if nothing had ever been sealed."""
    sql(*(f"DELETE FROM {table}" for table in reversed(TABLES[2:])))
    sql("DELETE FROM audit_sealermark")


def taken_out(event: Event) -> None:
    sql(
        f"DELETE FROM audit_leaf WHERE event_id = {event.pk}",
        f"DELETE FROM audit_eventpayload WHERE event_id = '{event.uid.hex}'",
        f"DELETE FROM audit_event WHERE id = {event.pk}",
    )


def test_a_log_that_nobody_touched_is_sound(log: str) -> None:
    steps: list[tuple[int, int]] = []
    report = verify(
        trusted=[own_key()], checkpoints=[log], progress=lambda *told: steps.append(told)
    )
    assert report == Report(
        size=last().size,
        root=bytes(last().root),
        checkpoints=Checkpoint.objects.count(),
        values=report.values,
        keys=[str(own_key())],
    )
    assert report.values > 300
    assert steps[-1] == (last().size, last().size)


def test_an_empty_log_is_sound() -> None:
    assert found() == set()


def test_1_a_sealed_event_is_edited(log: str) -> None:
    text = at(7).leaf.replace("human", "agent")
    sql(f"UPDATE audit_event SET leaf = '{text}' WHERE id = {at(7).pk}")
    assert found() == {"leaf", "gap"}


def test_2_a_column_is_edited(log: str) -> None:
    sql(f"UPDATE audit_event SET actor_id = '2' WHERE id = {at(7).pk}")
    assert found() == {"column"}


def test_3_a_value_is_edited(log: str) -> None:
    values = values_of(7)
    set_disclosures(7, values | {"details.reason": values["details.reason"][:-4] + "AAAA"})
    assert found() == {"value"}


def test_4_values_of_two_events_are_exchanged(log: str) -> None:
    one, other = (values_of(n) for n in (7, 8))
    set_disclosures(7, other)
    set_disclosures(8, one)
    assert found() == {"value"}


def test_5_a_value_is_taken_out(log: str) -> None:
    values = values_of(7)
    set_disclosures(7, {n: v for n, v in values.items() if n != "details.reason"})
    assert found() == {"value"}


def test_5_a_value_is_taken_out_and_said_to_be_erased(log: str) -> None:
    values = values_of(7)
    set_disclosures(7, {n: v for n, v in values.items() if n != "details.reason"})
    other = json.dumps({"details.reason": str(at(9).uid)})
    sql(f"UPDATE audit_eventpayload SET erased = '{other}' WHERE event_id = '{payload_of(7)}'")
    assert found() == {"erasure"}


def test_6_an_event_is_deleted(log: str) -> None:
    taken = at(7)
    leaf = Leaf.objects.get(event=taken)
    taken_out(taken)
    where = Event.objects.order_by("-pk")[0].pk
    # Its leaf stands, and leads to another event.
    hashed = bytes(leaf.hash).hex()
    value = f"'\\x{hashed}'" if connection.vendor == "postgresql" else f"x'{hashed}'"
    sql(f"DELETE FROM audit_leaf WHERE event_id = {where}")
    sql(f"INSERT INTO audit_leaf (seq, event_id, hash) VALUES (7, {where}, {value})")
    assert "leaf" in found()


def test_7_an_event_is_deleted_with_its_leaf(log: str) -> None:
    taken_out(at(7))
    assert {"missing", "gap"} <= found()


def test_8_leaves_change_places(log: str) -> None:
    sql(
        "UPDATE audit_leaf SET seq = 100000 WHERE seq = 7",
        "UPDATE audit_leaf SET seq = 7 WHERE seq = 8",
        "UPDATE audit_leaf SET seq = 8 WHERE seq = 100000",
    )
    assert {"checkpoint", "tile"} <= found()


def test_9_an_event_is_invented(log: str) -> None:
    said("true")
    forged = Event.objects.order_by("-pk")[0]
    sql(f"UPDATE audit_event SET mac = {_zeros()} WHERE id = {forged.pk}")
    seal()
    assert "quarantine" in found()


def test_9_an_event_is_invented_before_those_that_are_sealed(log: str) -> None:
    said("true")
    forged = Event.objects.order_by("-pk")[0]
    sql(f"UPDATE audit_event SET id = -1, mac = {_zeros()} WHERE id = {forged.pk}")
    seal()
    assert found() & {"unsealed", "quarantine"}


def test_10_the_log_is_written_anew_with_another_key(log: str, settings: Any) -> None:
    mine = own_key()
    unsealed()
    settings.LOG_SIGNING_KEY = base64.b64encode(os.urandom(32)).decode()
    sealed_all()
    report = verify(trusted=[mine])
    assert {one.code for one in report.problems} == {"key"}


def test_11_the_end_is_taken_away_with_its_checkpoints(log: str) -> None:
    before = list(Checkpoint.objects.order_by("-size")[:2])
    for seq in range(before[1].size, before[0].size):
        taken_out(at(seq))
    sql(
        f"DELETE FROM audit_checkpoint WHERE size > {before[1].size}",
        f'DELETE FROM audit_tile WHERE level = 0 AND "index" >= {before[1].size // 256}',
    )
    assert found() == set()
    assert found(checkpoints=[log]) == {"shorter"}


def test_12_the_log_is_written_anew_with_the_key(log: str) -> None:
    taken_out(at(last().size - 1))
    forget_writers()  # whoever wrote it writes no more: otherwise the gap shows
    unsealed()
    sealed_all()
    assert found() == set()
    assert found(checkpoints=[log]) == {"checkpoint"}


def test_12_what_is_taken_from_the_middle_leaves_a_gap_even_then(log: str) -> None:
    taken_out(at(7))
    unsealed()
    sealed_all()
    assert found() == {"gap"}


def test_13_an_event_is_deleted_before_it_is_sealed(log: str) -> None:
    said("paid out")
    taken_out(Event.objects.order_by("-pk")[0])
    seal()
    assert found() == set()  # until its writer writes again
    said("and so on")
    seal()
    assert found() == {"gap"}


def test_a_tile_is_edited(log: str) -> None:
    sql(f"UPDATE audit_tile SET hashes = {_zeros()}")
    assert "tile" in found()


def test_a_checkpoint_is_not_of_this_log(log: str) -> None:
    other = Signer.from_seed(configured.LOG_ORIGIN, os.urandom(32))
    text = log.split("\n\n", maxsplit=1)[0] + "\n"
    assert found(checkpoints=[f"{text}\n{other.sign(text).line()}"]) == {"checkpoint"}


def _zeros() -> str:
    zeros = "00" * 32
    return f"'\\x{zeros}'" if connection.vendor == "postgresql" else f"x'{zeros}'"


def test_an_erasure_that_the_portal_did_not_write_is_none(log: str) -> None:
    with transaction.atomic():
        named: dict[str, Any] = {"erased": [str(at(7).uid)], "fields": ["details.reason"]}
        record(PAYLOAD_ERASED, actor=SYSTEM, subject=LOG, request="", basis="objection", **named)
    forged = Event.objects.order_by("-pk")[0]
    sql(f"UPDATE audit_event SET mac = {_zeros()} WHERE id = {forged.pk}")
    set_disclosures(7, {n: v for n, v in values_of(7).items() if n != "details.reason"})
    erased = json.dumps({"details.reason": str(forged.uid)})
    sql(f"UPDATE audit_eventpayload SET erased = '{erased}' WHERE event_id = '{payload_of(7)}'")
    assert found() == {"erasure"}
