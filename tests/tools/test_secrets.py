import pickle
import traceback
from datetime import timedelta
from io import StringIO
from typing import Any
from uuid import uuid4

import pytest
from auditlog.models import LogEntry
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import IntegrityError, transaction
from django.test import Client
from pytest_django import Settings

from accounts.models import Environment, User
from agents.models import SigningKey
from audit.models import Event
from audit.services.change_reconciliation import reconcile
from common.actors import SYSTEM
from common.encryption import CannotUnseal, sealing_key_id
from common.errors import InvalidInput, NotFound
from policies.services import grants
from portal import startup
from tests import factories
from tests.common.test_sealing import a_key
from tests.factories import Governed
from tests.tools.secret_system import CANARY, Shop, echo, everything_stored, forms_of, shop
from tests.tools.servers import Answer, Server
from tools import envelope
from tools.catalog import catalog
from tools.connectors.base import Call, NotPermitted, ToolResult
from tools.credentials import MASK, Credential, Hidden, mask
from tools.envelope import Envelope, Place
from tools.errors import SecretNotInForce
from tools.invocation import call_tool
from tools.models import Endpoint, Secret, SecretLease, SecretVersion, Tool
from tools.services import secret_leases, secrets
from tools.services.registration import set_endpoint

pytestmark = pytest.mark.django_db
OTHER = "another-value-of-it"


@pytest.fixture
def kept(server: Server, prod: Environment) -> Shop:
    return shop(server, prod)


def call(seconds: float = 10) -> Call:
    return Call(run_id=str(uuid4()), idempotency_key=str(uuid4()), timeout_seconds=seconds)


def order(arguments: dict[str, Any] | None = None, *, by: Call | None = None) -> ToolResult:
    held = catalog.current()
    tool = held.tools["shop.order"]
    return call_tool(held, tool, arguments or {}, environment="prod", call=by or call())


def state() -> tuple[Any, ...]:
    return (
        list(Secret.objects.values()),
        list(SecretVersion.objects.values()),
        SecretLease.objects.count(),
        Event.objects.count(),
    )


def test_a_header_carries_it(kept: Shop, server: Server) -> None:
    kept.secret(parameter="Authorization", prefix="Bearer")
    order()
    assert server.received[0].headers["Authorization"] == f"Bearer {CANARY}"


def test_a_password_goes_with_its_user_name(kept: Shop, server: Server) -> None:
    kept.secret("basic", username="chancery", value="pass:word-1")
    order()
    assert server.received[0].headers["Authorization"] == "Basic Y2hhbmNlcnk6cGFzczp3b3JkLTE="


def test_an_address_parameter_carries_it_encoded(kept: Shop, server: Server) -> None:
    kept.secret("query", parameter="api_key", value="a&b=c/d e+f%")
    order()
    assert server.received[0].path == "/order?api_key=a%26b%3Dc%2Fd+e%2Bf%25"


def test_what_is_sealed_stays_out_of_the_change_log(kept: Shop) -> None:
    secret = kept.secret()
    secrets.rotate_secret(secret.pk, actor=SYSTEM, value=OTHER, reason="It is time.")
    written = str(list(LogEntry.objects.values_list("changes", "object_repr")))
    assert "secretversion" in str(list(LogEntry.objects.values_list("content_type__model")))
    assert "destroyed" in written
    for column in ("key_id", "wrapped_key"):
        assert column not in written
    said = [one.changes_dict["ciphertext"] for one in LogEntry.objects.all()
            if "ciphertext" in (one.changes_dict or {})]  # fmt: skip
    assert said
    assert all(set(one) <= {"(hidden)", "None", ""} for one in said)
    for version in SecretVersion.objects.exclude(ciphertext=""):
        assert version.ciphertext not in written
        assert version.wrapped_key not in written


def test_each_use_is_written_down_before_it(kept: Shop, server: Server) -> None:
    secret = kept.secret()
    made = call()
    order(by=made)
    lease = SecretLease.objects.get()
    assert (str(lease.run_id), lease.call, lease.tool) == (
        made.run_id,
        made.idempotency_key,
        "shop.order",
    )
    event = Event.objects.get(type="secret.used")
    assert event.details == {
        "version": 1,
        "tool": "shop.order",
        "call": made.idempotency_key,
        "origin": secret.origin,
    }
    assert str(event.run_id) == made.run_id


def test_no_record_no_use(kept: Shop, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    kept.secret()
    monkeypatch.setattr(secret_leases, "write", lambda *args: (_ for _ in ()).throw(IntegrityError))
    with pytest.raises(IntegrityError):
        order()
    assert server.received == []


@pytest.mark.parametrize("placement", ["header", "basic", "query"])
def test_what_a_system_echoes_is_masked(kept: Shop, server: Server, placement: str) -> None:
    kept.secret(placement)
    server.behaviour = echo
    answer = str(order().value)
    assert server.received
    assert MASK in answer
    for form in forms_of(CANARY):
        assert form not in answer


@pytest.mark.parametrize(
    "value", [CANARY, "1234567890", "abcdefgh", "äöü".encode().hex(), "x" * 500, '\\"/\\"/\\"']
)
def test_every_spelling_is_masked(value: str) -> None:
    one = Credential("header", "X", "", "", Hidden(value))
    for form in {*one.forms(), value}:
        around = {f"k{form}": [f"before {form} after", {"x": form}], "n": 7, "b": True}
        found = str(mask(around, [one]))
        assert form not in found
        assert "'n': 7" in found
        assert "True" in found
    for before in range(4):
        inside = envelope._text(b"\0" * before + value.encode() + b"tail")
        assert MASK in mask(inside, [one])
    if value.isdigit():
        assert mask([int(value), 42], [one]) == [MASK, 42]


def test_a_moved_endpoint_gets_no_secret(kept: Shop, server: Server, elsewhere: Server) -> None:
    kept.secret()
    set_endpoint(
        kept.system,
        kept.endpoint.environment,
        actor=SYSTEM,
        base_url=elsewhere.url,
        allow_private=True,
    )
    with pytest.raises(NotPermitted, match="another origin"):
        order()
    assert (server.received, elsewhere.received) == ([], [])
    assert not SecretLease.objects.exists()
    set_endpoint(
        kept.system,
        kept.endpoint.environment,
        actor=SYSTEM,
        base_url=f"{server.url}/v2",
        allow_private=True,
    )
    order()
    assert server.received[0].path == "/v2/order"


def test_a_redirect_takes_it_nowhere(kept: Shop, server: Server, elsewhere: Server) -> None:
    kept.secret()
    server.answer = Answer(status=307, headers={"Location": elsewhere.url})
    with pytest.raises(NotPermitted):
        order()
    assert elsewhere.received == []


def test_an_agents_token_is_never_sent_on(governed: Governed, server: Server) -> None:
    """The confused deputy: what the agent proved itself with stays here."""
    kept = shop(server, governed.identity.environment)
    kept.secret()
    token = factories.token_for(governed.identity)
    order()
    sent = str([dict(one.headers) for one in server.received]) + str(server.received)
    assert token not in sent
    assert "Bearer" not in sent


def test_a_new_value_is_used_at_once_and_the_old_one_is_gone(kept: Shop, server: Server) -> None:
    secret = kept.secret()
    secrets.rotate_secret(secret.pk, actor=SYSTEM, value=OTHER, reason="It is time.")
    order()
    assert server.received[0].headers["X-Api-Key"] == OTHER
    former = SecretVersion.objects.get(number=1)
    assert (former.status, former.wrapped_key, former.ciphertext) == ("destroyed", "", "")


def test_a_withdrawn_secret_is_destroyed(kept: Shop, server: Server) -> None:
    secret = kept.secret()
    stale = catalog.current()
    secrets.withdraw_secret(secret.pk, actor=SYSTEM, reason="No longer needed.")
    with pytest.raises(NotPermitted):
        call_tool(stale, stale.tools["shop.order"], {}, environment="prod", call=call())
    assert server.received == []
    order()
    assert "X-Api-Key" not in server.received[0].headers
    assert not SecretVersion.objects.exclude(ciphertext="").exists()
    before = state()
    for refused in (
        lambda: secrets.withdraw_secret(secret.pk, actor=SYSTEM, reason="Again."),
        lambda: secrets.rotate_secret(secret.pk, actor=SYSTEM, value=OTHER, reason="Again."),
    ):
        with pytest.raises(SecretNotInForce):
            refused()
    assert state() == before


@pytest.mark.parametrize(
    "given",
    [
        {"value": "short"},
        {"value": "line one\r\nX-Other: 1"},
        {"value": " with space "},
        {"value": "überlanges"},
        {"value": "x" * 8_001},
        {"parameter": "Host"},
        {"parameter": "content-LENGTH"},
        {"parameter": "X Y"},
        {"parameter": ""},
        {"name": "no slug"},
        {"placement": "basic", "username": "a:b"},
    ],
)
def test_what_cannot_be_sent_is_refused(kept: Shop, given: dict[str, Any]) -> None:
    before = state()
    with pytest.raises((InvalidInput, IntegrityError)), transaction.atomic():
        kept.secret(given.pop("placement", "header"), **given)
    assert state() == before


def test_a_secret_does_not_go_in_the_clear(kept: Shop) -> None:
    Endpoint.objects.filter(pk=kept.endpoint.pk).update(
        base_url="http://shop.example", allow_private=False
    )
    with pytest.raises(InvalidInput, match="https"):
        kept.secret()
    with pytest.raises(NotFound):
        secrets.add_secret(
            0, actor=SYSTEM, name="a", placement=Secret.Placement.HEADER, value=CANARY
        )


@pytest.mark.parametrize(
    "place", [Place(2, 1, "prod"), Place(1, 2, "prod"), Place(1, 1, "staging")]
)
def test_a_moved_row_does_not_open(place: Place) -> None:
    sealed = envelope.closed(CANARY, Place(1, 1, "prod"))
    assert envelope.opened(sealed, Place(1, 1, "prod")) == CANARY
    with pytest.raises(CannotUnseal):
        envelope.opened(sealed, place)
    with pytest.raises(CannotUnseal):
        envelope.rewrapped(sealed.wrapped_key, place)


def test_parts_of_two_rows_do_not_open() -> None:
    place = Place(1, 1, "prod")
    one, other = envelope.closed(CANARY, place), envelope.closed(OTHER, place)
    for mixed in (
        Envelope(one.key_id, one.wrapped_key, other.ciphertext),
        Envelope(one.key_id, other.wrapped_key, one.ciphertext),
        Envelope(one.key_id, one.ciphertext, one.wrapped_key),
        Envelope(one.key_id, "not base64!", one.ciphertext),
        Envelope(one.key_id, "", ""),
    ):
        with pytest.raises(CannotUnseal):
            envelope.opened(mixed, place)


def test_rows_swapped_in_the_database_are_not_sent(kept: Shop, server: Server) -> None:
    first = kept.secret()
    second = kept.secret(name="second", parameter="X-Second", value=OTHER)
    one, other = first.versions.get(), second.versions.get()
    SecretVersion.objects.filter(pk=one.pk).update(
        wrapped_key=other.wrapped_key, ciphertext=other.ciphertext
    )
    with pytest.raises(NotPermitted):
        order()
    assert server.received == []
    assert not SecretLease.objects.exists()


def test_the_ring_is_rotated_while_calls_go_on(
    kept: Shop, server: Server, settings: Settings
) -> None:
    settings.ENCRYPTION_KEYS = a_key(1)
    SigningKey.objects.all().delete()
    secret = kept.secret()
    before = secret.versions.get()
    settings.ENCRYPTION_KEYS = f"{a_key(2)}, {a_key(1)}"
    order()
    call_command("rewrap_keys", stdout=StringIO())
    after = secret.versions.get()
    assert after.key_id == sealing_key_id() != before.key_id
    assert after.ciphertext == before.ciphertext
    settings.ENCRYPTION_KEYS = a_key(2)
    order()
    assert [one.headers["X-Api-Key"] for one in server.received] == [CANARY] * 2
    count = Event.objects.filter(type="secret.rewrapped").count()
    call_command("rewrap_keys", stdout=StringIO())
    assert Event.objects.filter(type="secret.rewrapped").count() == count == 1


def test_signing_keys_are_sealed_anew(prod: Environment, settings: Settings) -> None:
    settings.ENCRYPTION_KEYS = f"{a_key(2)},{settings.ENCRYPTION_KEYS}"
    call_command("rewrap_keys", stdout=StringIO())
    # It did not pass by the change log, though that holds nothing of what is sealed.
    assert reconcile(settle=timedelta(seconds=-1)) == 0
    settings.ENCRYPTION_KEYS = a_key(2)
    assert startup.problems() == []
    assert Event.objects.filter(type="signing_key.resealed").count() == 1


def test_nothing_is_wrapped_anew_without_the_former_key(kept: Shop, settings: Settings) -> None:
    kept.secret()
    before = state()
    settings.ENCRYPTION_KEYS = a_key(3)
    with pytest.raises(CommandError, match="Put its key back"):
        call_command("rewrap_keys", stdout=StringIO())
    assert state() == before


@pytest.mark.parametrize("wrong", [a_key(9), f"{a_key(9)},{a_key(8)}"])
def test_a_process_without_the_key_does_not_start(
    kept: Shop, settings: Settings, wrong: str
) -> None:
    kept.secret()
    SigningKey.objects.all().delete()
    startup.ensure_keys()
    settings.ENCRYPTION_KEYS = wrong
    with pytest.raises(ImproperlyConfigured, match="CHANCERY_ENCRYPTION_KEYS"):
        startup.ensure_keys()


def test_a_process_that_cannot_sign_does_not_start(prod: Environment, settings: Settings) -> None:
    startup.ensure_keys()
    settings.ENCRYPTION_KEYS = a_key(9)
    with pytest.raises(ImproperlyConfigured):
        startup.ensure_keys()
    with pytest.raises(CommandError, match="E007"):
        call_command("check", databases=["default"], fail_level="ERROR")


def test_a_value_is_shown_and_pickled_by_nobody() -> None:
    hidden = Hidden(CANARY)
    one = Credential("header", "X-Api-Key", "", "", hidden)
    for text in (repr(hidden), str(hidden), f"{hidden}", f"{hidden:>9}", repr(one), str([one])):
        assert "canary" not in text
        assert MASK in text
    with pytest.raises(TypeError):
        pickle.dumps(hidden)
    shown = traceback.format_exception_only(RuntimeError(one))
    assert CANARY not in str(shown)


def test_the_command_takes_the_value_from_its_input(
    kept: Shop, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.secret()
    monkeypatch.setattr("sys.stdin", StringIO(f"{OTHER}\n"))
    said = StringIO()
    call_command("rotate_secret", "shop", "prod", "token", reason="It is time.", stdout=said)
    assert OTHER not in said.getvalue()
    order()
    assert server.received[0].headers["X-Api-Key"] == OTHER
    for refused in (("shop", "prod", "nothing"), ("shop", "staging", "token")):
        with pytest.raises(CommandError):
            call_command("rotate_secret", *refused, reason="It is time.")


def test_leases_are_forgotten_after_a_while(kept: Shop) -> None:
    kept.secret()
    order()
    assert secret_leases.prune() == 0
    lease = SecretLease.objects.get()
    SecretLease.objects.update(opened_at=lease.opened_at - secret_leases.KEPT_FOR)
    assert secret_leases.prune() == 1
    assert Event.objects.filter(type="secret.used").count() == 1


def test_pages_take_a_value_and_never_show_it(kept: Shop, admin_user: User, server: Server) -> None:
    office = Client()
    office.force_login(admin_user)
    url = f"/admin/tools/endpoint/{kept.endpoint.pk}/add_secret/"
    form = {"name": "token", "placement": "header", "parameter": "Host", "secret": CANARY}
    shown = [office.get(url), office.post(url, form)]
    assert not Secret.objects.exists()
    shown.append(office.post(url, {**form, "parameter": "X-Api-Key"}))
    secret = Secret.objects.get()
    order()
    page = f"/admin/tools/secret/{secret.pk}/"
    shown.append(office.post(f"{page}rotate/", {"secret": CANARY, "reason": ""}))
    assert secret.versions.count() == 1
    office.post(f"{page}rotate/", {"secret": OTHER, "reason": "It is time."})
    order()
    shown += [
        office.get(address)
        for address in (
            f"{page}change/",
            "/admin/tools/secret/",
            f"/admin/tools/endpoint/{kept.endpoint.pk}/change/",
            "/admin/audit/event/",
            "/admin/auditlog/logentry/",
        )
    ]
    for response in shown:
        text = response.content.decode()
        assert not [form for form in {*forms_of(CANARY), *forms_of(OTHER)} if form in text]
    office.post(f"{page}withdraw/", {"reason": "Over."})
    assert b"Its value is destroyed" in office.get(f"{page}change/").content


def test_a_canary_is_found_nowhere(
    governed: Governed, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """Given, used, echoed, failed with: then everything that is stored is searched."""
    caplog.set_level("DEBUG")
    kept = shop(server, governed.identity.environment)
    for placement, name in (("header", "one"), ("basic", "two"), ("query", "three")):
        kept.secret(placement, name=name)
    grant_and_publish(governed, kept)
    server.behaviour = echo
    run = governed.run()
    done = governed.propose(run, "shop.order", {"to": "me"}).action
    assert done.status == "succeeded"
    assert CANARY in str(server.received)
    server.behaviour = lambda _, handler: handler.send_error(500, CANARY)
    governed.propose(run, "shop.order", {"to": "you"})
    server.behaviour = lambda _, handler: handler.send_error(400, CANARY)
    governed.propose(run, "shop.order", {"to": "them"})
    stored, logged = everything_stored(), caplog.text
    for form in forms_of(CANARY):
        assert form not in stored
        assert form not in logged


def grant_and_publish(governed: Governed, kept: Shop) -> None:
    grants.grant(governed.role, kept.system, Tool.Access.WRITE, actor=SYSTEM)
    factories.publish(
        permit_shop='@id("permit-shop") '
        'permit(principal, action == Action::"shop.order", resource);'
    )
