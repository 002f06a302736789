"""Keys of other issuers, fetched from a real server and fetched again when they are replaced."""

import json
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.conf import LazySettings
from django.utils import timezone

from agents.errors import IssuerUnreachable
from agents.models import AgentIdentity, FederatedCredential
from agents.services import federation, issuer_keys
from audit.models import Event
from common.actors import SYSTEM
from tests.agents.runtimes import Runtime
from tests.agents.test_revoking import ISSUER, SUBJECT, Pipeline
from tests.tools.servers import Answer, Server, serving
from tests.tools.test_http_connector import Names

pytestmark = pytest.mark.django_db
LATER = timedelta(minutes=11)


@pytest.fixture
def server(settings: LazySettings) -> Iterator[Server]:
    with serving() as found:
        settings.DEBUG = True  # http, for a server on this machine
        settings.PRIVATE_ISSUERS = frozenset({f"{found.url}/jwks"})
        yield found


def publishes(server: Server, pipeline: Pipeline) -> None:
    server.answer = Answer(200, json.dumps(pipeline.jwks).encode())


def trusted(server: Server, identity: AgentIdentity) -> FederatedCredential:
    return federation.trust_issuer(
        identity.pk, actor=SYSTEM, issuer=ISSUER, subject=SUBJECT, jwks_uri=f"{server.url}/jwks"
    )


def test_a_replaced_key_is_found_when_its_time_has_come(
    server: Server, identity: AgentIdentity
) -> None:
    old, new = Pipeline(), Pipeline()
    publishes(server, old)
    trusted(server, identity)
    assert Runtime(identity).ask(old.says()).status_code == 200
    publishes(server, new)
    assert issuer_keys.refresh_due(now=timezone.now() + LATER) == 1
    assert Runtime(identity).ask(new.says()).status_code == 200
    assert Runtime(identity).ask(old.says()).status_code == 401
    assert Event.objects.filter(type="credential.federated_keys_replaced").count() == 1


@pytest.mark.parametrize(
    "answer",
    [Answer(500), Answer(200, b"<html>"), Answer(200, b'{"keys": []}'), Answer(200, b"[" * 9_999)],
    ids=["fault", "page", "none", "bomb"],
)
def test_an_issuer_in_trouble_is_believed_by_the_keys_it_had(
    server: Server, identity: AgentIdentity, answer: Answer
) -> None:
    pipeline = Pipeline()
    publishes(server, pipeline)
    row = trusted(server, identity)
    server.answer = answer
    issuer_keys.refresh_due(now=timezone.now() + LATER)
    row.refresh_from_db()
    assert row.trouble
    assert Runtime(identity).ask(pipeline.says()).status_code == 200


def test_an_address_inside_is_not_asked_unless_that_is_set(
    server: Server, identity: AgentIdentity, settings: LazySettings
) -> None:
    publishes(server, Pipeline())
    settings.PRIVATE_ISSUERS = frozenset()
    with pytest.raises(IssuerUnreachable):
        trusted(server, identity)
    assert not FederatedCredential.objects.exists()
    assert server.received == []


def test_what_was_withdrawn_can_be_trusted_again_for_the_same_identity(
    identity: AgentIdentity,
) -> None:
    old, new = Pipeline(), Pipeline()
    row = federation.trust_issuer(
        identity.pk, actor=SYSTEM, issuer=ISSUER, subject=SUBJECT, jwks=old.jwks
    )
    federation.trust_issuer_no_more(row.pk, actor=SYSTEM, reason="Its key leaked.")
    federation.trust_issuer(
        identity.pk, actor=SYSTEM, issuer=ISSUER, subject=SUBJECT, jwks=new.jwks
    )
    assert Runtime(identity).ask(new.says()).status_code == 200
    assert Runtime(identity).ask(old.says()).status_code == 401


@pytest.mark.parametrize(
    "address", ["https://issuer.example:99999/jwks", "https://[::1", "https://a:b@issuer.example/"]
)
def test_what_is_no_address_is_refused_in_a_sentence(identity: AgentIdentity, address: str) -> None:
    with pytest.raises(IssuerUnreachable):
        federation.trust_issuer(
            identity.pk, actor=SYSTEM, issuer=ISSUER, subject=SUBJECT, jwks_uri=address
        )
    assert not FederatedCredential.objects.exists()


def test_every_address_of_a_name_is_tried(
    server: Server,
    identity: AgentIdentity,
    settings: LazySettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = Names(monkeypatch)
    names.answers["issuer.example"] = [["::1", "127.0.0.1"]]  # nobody listens on ::1
    address = f"http://issuer.example:{server.port}/jwks"
    settings.PRIVATE_ISSUERS = frozenset({address})
    pipeline = Pipeline()
    publishes(server, pipeline)
    federation.trust_issuer(
        identity.pk, actor=SYSTEM, issuer=ISSUER, subject=SUBJECT, jwks_uri=address
    )
    assert Runtime(identity).ask(pipeline.says()).status_code == 200
