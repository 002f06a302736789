"""Credentials that agents send and systems answer: refused or left out, stored nowhere."""

import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actions.models import Action, Run
from agents.models import Halt
from agents.services.halts import place_halt
from audit.models import Event
from common.actors import SYSTEM
from common.redaction import findings, fingerprint, redact
from common.secret_names import _own_rule
from policies.services import grants
from tests import factories
from tests.conftest import Api
from tests.factories import Governed
from tests.tools.factories import secrets_of_all_kinds
from tests.tools.secret_system import everything_stored, forms_of, shop
from tests.tools.servers import Server
from tools.models import Tool
from tools.services.registration import define_tool

RUN = {"initiator_kind": "user", "initiator": "somebody", "purpose": "testing"}
PASSWORD = "correct horse battery"


def pay(api: Api, run: str, **given: Any) -> Any:
    body = {"run": run, "tool": "toolbox.pay", "arguments": {"account": "a", "amount": 1}}
    arguments = body["arguments"] | given.pop("arguments", {})
    return api.post("actions", {**body, "arguments": arguments, **given}, key=given.pop("key", "k"))


# Every way in that keeps something of what was sent.
WAYS_IN: tuple[Callable[[Api, str, str], Any], ...] = (
    lambda api, _, secret: api.post("runs", {**RUN, "purpose": f"With {secret}, please"}),
    lambda api, _, secret: api.post("runs", {**RUN, "initiator": secret}),
    lambda api, _, secret: api.post("runs", {**RUN, "reference": secret[:100]}),
    lambda api, run, secret: pay(api, run, arguments={"note": secret}),
    lambda api, run, secret: pay(api, run, arguments={"note": f"use {secret}; thanks"}),
    lambda api, run, secret: pay(api, run, arguments={"deep": [{"er": {"still": secret}}]}),
    lambda api, run, secret: pay(api, run, arguments={secret: 1}),
    lambda api, run, secret: pay(api, run, claims={"confirmed": secret}),
    lambda api, run, secret: api.post("elevations", {"run": run, "reason": f"for {secret}"}),
    lambda api, run, secret: api.post(f"runs/{run}/close", {"outcome": f"done with {secret}"}),
    lambda api, _, secret: api.post("workflows/none/runs", {"inputs": {"x": secret}}, key="w"),
    lambda api, run, secret: api.post(
        f"runs/{run}/signals", {"name": "go", "payload": {"x": secret}}, key="s"
    ),
    lambda api, run, secret: api.post(f"runs/{run}/cancel", {"reason": f"because {secret}"}),
)


@pytest.mark.django_db
def test_500_secrets_of_12_kinds_are_stored_nowhere(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    run = str(api.post("runs", RUN).json()["id"])
    before = (Run.objects.count(), Action.objects.count())
    seeded = secrets_of_all_kinds(504, seed=20)
    answers = []
    for number, (kind, secret) in enumerate(seeded):
        way = WAYS_IN[number % len(WAYS_IN)]
        if way is WAYS_IN[2] and len(secret) > 100:
            way = WAYS_IN[0]
        response = way(api, run, secret)
        assert response.status_code == 400, (kind, number % len(WAYS_IN), response.content)
        assert response.json()["code"] == "secret_in_request"
        assert response.json()["kind"] == kind
        answers.append(response.content.decode())
    assert (Run.objects.count(), Action.objects.count()) == before
    told = list(Event.objects.filter(type="request.secret_refused").with_values())
    assert len(told) == len(seeded)
    stored = "\n".join((everything_stored(), caplog.text, *answers))
    for _, secret in seeded:
        assert not [form for form in forms_of(secret) if form in stored]
    prints = {event.details["fingerprint"] for event in told}
    assert prints == {fingerprint(secret) for _, secret in seeded}


@pytest.mark.django_db
def test_an_idempotency_key_is_looked_at_too(api: Api) -> None:
    run = str(api.post("runs", RUN).json()["id"])
    [(_, secret)] = secrets_of_all_kinds(3, seed=1)[2:]
    body = {"run": run, "tool": "toolbox.pay", "arguments": {"account": "a", "amount": 1}}
    assert api.post("actions", body, key=secret).json()["code"] == "secret_in_request"
    assert secret not in everything_stored()


@pytest.mark.django_db
def test_what_is_named_as_a_secret_is_one(api: Api) -> None:
    run = str(api.post("runs", RUN).json()["id"])
    for name in ("password", "Api-Key", "client_secret", "accessToken"):
        refused = pay(api, run, arguments={name: PASSWORD})
        assert refused.json()["code"] == "secret_in_request"
        assert refused.json()["where"] == f"/arguments/{name}"
    assert PASSWORD not in everything_stored()
    # Words that only sound like it: the schema may refuse them, this does not.
    for fine in ({"authorization": "by phone"}, {"password": ""}, {"note": "my password is gone"}):
        assert pay(api, run, arguments=fine).json().get("code") != "secret_in_request"


@pytest.mark.django_db
def test_what_systems_answer_is_kept_without_secrets(
    governed: Governed, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    seeded = secrets_of_all_kinds(120, seed=7)

    def answer(_: Server, handler: BaseHTTPRequestHandler) -> None:
        body = json.dumps(
            {
                "listed": [secret for _, secret in seeded],
                "in_text": " and ".join(secret for _, secret in seeded),
                "by_name": {secret: n for n, (_, secret) in enumerate(seeded)},
                "password": PASSWORD,
                "order": 4711,
            }
        ).encode()
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    kept = shop(server, governed.identity.environment)
    grants.grant(governed.role, kept.system, Tool.Access.WRITE, actor=SYSTEM)
    factories.publish(
        permit_shop='@id("permit-shop") '
        'permit(principal, action == Action::"shop.order", resource);'
    )
    server.behaviour = answer
    run = governed.run()
    done = governed.propose(run, "shop.order", {"to": "me"}).action
    assert done.status == "succeeded"
    assert done.result is not None
    assert done.result["order"] == 4711
    assert done.result["listed"][1] == f"[redacted jwt {fingerprint(seeded[1][1])}]"
    server.behaviour = lambda _, handler: handler.send_error(400, seeded[3][1])
    governed.propose(run, "shop.order", {"to": "you"})
    stored = everything_stored() + caplog.text
    for secret in [*(secret for _, secret in seeded), PASSWORD]:
        assert not [form for form in forms_of(secret) if form in stored]


@pytest.mark.django_db
def test_a_person_who_writes_one_down_is_not_quoted(governed: Governed) -> None:
    [(_, secret)] = secrets_of_all_kinds(5, seed=3)[4:]
    place_halt(Halt.Kind.GLOBAL, actor=SYSTEM, reason=f"It sent {secret} to everybody.")
    assert secret not in everything_stored()
    said = Event.objects.filter(type="halt.placed").with_values().get().details["reason"]
    assert said == f"It sent [redacted gitlab_token {fingerprint(secret)}] to everybody."


CLASSED = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "born": {"type": "string", "x-data-class": "personal"},
        "people": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"diagnosis": {"type": "string", "x-data-class": "sensitive"}},
            },
        },
        "pin": {"type": "string", "x-data-class": "secret"},
    },
}


@pytest.mark.django_db
def test_classes_of_data_are_kept_apart_in_the_log(governed: Governed) -> None:
    define_tool(
        governed.system,
        "read_account",
        actor=SYSTEM,
        title="Read an account",
        access="read",
        idempotent=True,
        input_schema=CLASSED,
    )
    factories.publish()
    run = governed.run()
    given = {"id": "a", "born": "1970-01-02", "people": [{"diagnosis": "measles"}, {}]}
    governed.propose(run, "toolbox.read_account", given)
    made = Event.objects.filter(type="decision.made").with_values().get()
    assert made.details["arguments"] == {
        "id": "a",
        "born": "[personal]",
        "people": [{"diagnosis": "[sensitive]"}, {}],
    }
    assert made.details["sensitive"] == {
        "/born": "1970-01-02",
        "/people/0/diagnosis": "measles",
    }
    answered = Event.objects.filter(type="tool.call.completed").with_values().get()
    assert answered.details["classes"] == ["personal", "sensitive", "secret"]


@pytest.mark.django_db
def test_a_declared_secret_is_stored_nowhere(api: Api, governed: Governed) -> None:
    define_tool(
        governed.system,
        "read_account",
        actor=SYSTEM,
        title="Read an account",
        access="read",
        idempotent=True,
        input_schema=CLASSED,
    )
    factories.publish()
    run = str(api.post("runs", RUN).json()["id"])
    body = {
        "run": run,
        "tool": "toolbox.read_account",
        "arguments": {"id": "a", "pin": "4711-0815"},
    }
    assert api.post("actions", body, key="k").json()["status"] == "succeeded"
    assert "4711-0815" not in everything_stored()


anything = st.recursive(
    st.text() | st.integers() | st.none(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.mark.parametrize(
    "value",
    [
        {"note": "card:\n4111 1111 1111 1111"},
        {"db_password": "hunter22"},
        {"smtpPassword": "hunter22"},
        {"note": "awsSecretAccessKey=" + "a1" * 20},
        {"token": "9f86d081884c7d659a2feaa0c55ad015"},
        {"password": 123456},
        {"deep": [{"smtp_password": 4711}]},
        {"credentials": {"user": {"value": "hunter22hunter"}}},
        {"note": "the password: hunter22!"},
        {"note": "Your API key: k3y-abcdef99"},
        {"note": "password is hunter22"},
        {"note": "AUTHORIZATION: BEARER abcdefghij0123456789xyz"},
        {"headers": {"X-Auth-Token": "abcdefg"}},
        {"credentials": {"token": "hunter2hunter"}},
        {"password": {"value": "hunter2"}},
        {"password_confirmation": "hunter22"},
        {"client_secret_value": "abc"},
        {"note": "api key is abc123def456ghi"},
        {"note": "PASSWORD : Hunter22!"},
        {"note": "Password:Hunter22!"},
        {"note": "the passwd\tis hunter22"},
        {"note": "IBAN DE50 3704 0044 5659 3651 23 and 4111 1111 1111 1111"},
    ],
)
def test_what_an_attack_found_to_come_in_does_not(value: Any) -> None:
    assert findings(value)
    assert redact(value) != value


@pytest.mark.parametrize(
    "value",
    [
        {"token": "EUR"},
        {"token": "page two"},
        {"next_page_token": "CAUQAA9f86d081884c7d659a2"},
        {"note": "Reset your password: follow the letter."},
        {"note": "Password: forgotten"},
        {"credentials": {"kind": "licence"}},
        {"is_password_set": True},
        {"tokens": 4711},
        {"authorization": "by phone"},
        {"note": "The key: 12345678 is on the table"},
        {"note": "DE50 3704 0044 5659 3651 23"},
        {"note": "Pay to AT22 4563 2141 0488 3887 BEFORE FRIDAY"},
        {"note": "ES80 5286 2611 9312 3827 0944"},
        {"note": "The customer says her password is incorrect!"},
        {"note": "Password is https://help.example/reset#now"},
        {"note": "Forgot password: ticket#1234 opened"},
        {"note": "Reset password: INC0012345"},
        {"note": "password: not_set, passwd: 2024-05-01 last change"},
        {"note": "API key: KEY-ROTATION-2024"},
        {"credentials": "MD, PhD", "more": [{"credentials": ["RN, BSN"]}]},
        {"credential": {"type": "passport", "issued_by": "Bundesdruckerei"}},
        {"access_token": 3600, "refresh_token": 86400, "secret": 1234},
        {"token": "6f9619ff-8b86-d011-b42d-00cf4fc964ff"},
        {"token": "page-2-of-resultset-0001"},
        {"reset_password": "requested", "must_change_password": "false", "password": "none"},
    ],
)
def test_what_is_no_credential_comes_in(value: Any) -> None:
    assert findings(value) == []


def test_a_name_is_looked_at_once_however_much_it_holds() -> None:
    """And a name of great length not at all: 64,000 looks at 127,000 letters took half a minute."""
    before = _own_rule.cache_info()
    findings({"k" * 127_000: [1] * 63_900, "x": "="})
    findings({"password hint": [1] * 60_000})
    after = _own_rule.cache_info()
    assert after.misses - before.misses <= 2
    assert after.hits - before.hits <= 4


@given(anything)
def test_redacting_twice_changes_nothing_more(value: Any) -> None:
    once = redact(value)
    assert redact(once) == once
    assert not findings(once)


@given(st.integers(0, 10_000), st.text(max_size=20), st.text(max_size=20))
def test_a_secret_is_found_between_any_words(seed: int, before: str, after: str) -> None:
    for kind, secret in secrets_of_all_kinds(12, seed=seed):
        found = findings(f"{before} {secret} {after}")
        assert kind in {one.kind for one in found}
        assert secret not in redact(f"{before} {secret} {after}")


@pytest.mark.django_db
@pytest.mark.parametrize(
    "number",
    ["4111111111111111", "4111111111111111.0", "4.111111111111111e15", "41111111111111110e-1"],
)
def test_a_card_is_one_however_its_number_is_written(
    governed: Governed, api: Api, number: str
) -> None:
    loose = {"type": "object", "properties": {"card": {"type": "number"}}}
    define_tool(
        governed.system, "buy", actor=SYSTEM, title="Buy", access="write", idempotent=False,
        input_schema=loose,
    )  # fmt: skip
    factories.publish()
    run = str(api.post("runs", RUN).json()["id"])
    body = json.loads(f'{{"card": {number}}}')
    refused = api.post("actions", {"run": run, "tool": "toolbox.buy", "arguments": body}, key="k")
    assert refused.json()["code"] == "secret_in_request"
    assert not Action.objects.exists()


@pytest.mark.parametrize("letter", ["\u212a"])  # what NFC makes a plain letter of
def test_a_secret_is_found_in_the_form_in_which_it_is_sent(letter: str) -> None:
    hidden = "AKIA" + "IOSFODNN7EXAMPLQ"
    text = hidden.replace("K", letter, 1)
    assert findings(text)
    assert findings({"note": [f"use {text}"]})
    assert hidden not in str(redact({"note": text}))


@pytest.mark.parametrize("number", [1.5, float(10**15 + 1), 1e300, -4111111111111111.0])
def test_other_numbers_stay(number: float) -> None:
    assert redact({"n": number}) == {"n": number}
