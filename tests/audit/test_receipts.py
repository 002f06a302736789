"""The receipt of an event, as an outsider gets and checks it."""

import pytest
from django.test import Client

from accounts.models import User
from audit.merkle import check_inclusion, leaf_hash
from audit.models import Event, LogKey
from audit.signed_notes import Verifier, parsed_proof, verify_checkpoint
from common.ids import uuid7
from tests.audit.sealed_log import many, said, sealed_all

pytestmark = pytest.mark.django_db


def path_of(event: Event) -> str:
    return f"/api/v1/audit/events/{event.uid}/receipt"


@pytest.fixture
def reader(client: Client, django_user_model: type[User]) -> Client:
    client.force_login(django_user_model.objects.create_superuser("rita", password="x"))
    return client


def test_a_receipt_proves_its_event(reader: Client) -> None:
    many(300)
    sealed_all()
    event = Event.objects.get(place__seq=17)
    response = reader.get(path_of(event), headers={"accept": "text/plain"})
    assert response.status_code == 200
    assert response["content-type"] == "text/plain; charset=utf-8"
    proof = parsed_proof(response.content.decode())
    assert proof.index == 17
    assert proof.extra == event.leaf.encode()
    statement = verify_checkpoint(proof.checkpoint, Verifier.from_text(LogKey.objects.get().vkey))
    check_inclusion(leaf_hash(proof.extra), 17, statement.size, statement.root, proof=proof.path)


def test_an_event_that_is_not_sealed_has_none_yet(reader: Client) -> None:
    said("a")
    response = reader.get(path_of(Event.objects.get(type="agent.suspended")))
    assert (response.status_code, response.json()["code"]) == (409, "not_sealed")


def test_what_is_not_there_has_none(reader: Client) -> None:
    response = reader.get(f"/api/v1/audit/events/{uuid7()}/receipt")
    assert (response.status_code, response.json()["code"]) == (404, "not_found")


def test_receipts_are_for_people_who_may_see_events(
    client: Client, django_user_model: type[User]
) -> None:
    said("a")
    sealed_all()
    event = Event.objects.get(place__seq=0)
    assert client.get(path_of(event)).status_code == 403
    client.force_login(django_user_model.objects.create_user("nora"))
    assert client.get(path_of(event)).status_code == 403
    assert client.get(path_of(event), headers={"authorization": "Bearer x"}).status_code == 403
