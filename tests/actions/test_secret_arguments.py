"""Arguments that a tool declares to be secrets: sealed, passed on, never shown."""

import base64
from dataclasses import replace
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client

from accounts.models import User
from actions.models import Action, SealedArguments
from actions.services import recovery, redecision, submission
from actions.services.proposals import Proposal
from approvals.models import ApprovalRequest
from common.actors import SYSTEM
from common.input_checks import SecretFound
from common.redaction import fingerprint
from policies.errors import InvalidPolicy
from tests import factories
from tests import toolbox as box
from tests.actions.test_resuming import approve
from tests.conftest import Api
from tests.factories import Governed
from tests.tools.secret_system import everything_stored, forms_of
from tools.connectors.base import NoResponse
from tools.errors import InvalidArguments, InvalidToolDefinition, SecretUnusable
from tools.secret_arguments import secrets_set_apart, with_secrets
from tools.services.registration import define_tool

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse battery 47"
RUN = {"initiator_kind": "user", "initiator": "somebody", "purpose": "testing"}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["user"],
    "properties": {
        "user": {"type": "string"},
        "password": {"type": "string", "x-data-class": "secret"},
        "login": {
            "type": "object",
            "properties": {"pin": {"type": "integer", "x-data-class": "secret"}},
        },
    },
}
TOOL: dict[str, Any] = {
    "title": "Set a password",
    "access": "write",
    "idempotent": False,
    "input_schema": SCHEMA,
}
ASKS = """@id("ask-login") @title("A supervisor looks") @tier("supervisor")
@reason("It is a login.")
forbid(principal, action == Action::"toolbox.set_password", resource);"""


@pytest.fixture
def logins(governed: Governed) -> Governed:
    define_tool(governed.system, "set_password", actor=SYSTEM, **TOOL)
    factories.publish()
    return governed


def given(**more: Any) -> dict[str, Any]:
    # Longer than what a clock shows of a second: the whole database is searched for it.
    return {"user": "rosa", "password": PASSWORD, "login": {"pin": 81273094456}, **more}


def test_a_secret_reaches_the_system_and_nothing_else(
    logins: Governed, api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    run = str(api.post("runs", RUN).json()["id"])
    body = {"run": run, "tool": "toolbox.set_password", "arguments": given()}
    answer = api.post("actions", body, key="one")
    assert answer.json()["status"] == "succeeded"
    assert logins.toolbox.effects == [("set_password", given())]
    recovery.discard_encrypted_arguments()
    stored = everything_stored() + caplog.text + answer.content.decode()
    assert not [form for form in forms_of(PASSWORD) if form in stored]
    assert "81273094456" not in stored
    kept = Action.objects.get().arguments
    assert kept["password"] == f"[redacted declared {fingerprint(PASSWORD)}]"
    # The same request has its answer; another secret is another request.
    assert api.post("actions", body, key="one").status_code == 200
    other = {**body, "arguments": given(password="another one 48")}
    assert api.post("actions", other, key="one").status_code == 409
    assert len(logins.toolbox.effects) == 1


def test_what_a_system_echoes_of_it_is_masked(logins: Governed) -> None:
    logins.toolbox.answer = {"said": f"welcome, {PASSWORD}!", "pin": 81273094456}
    done = logins.propose(logins.run(), "toolbox.set_password", given()).action
    assert done.result == {"said": "welcome, [secret]!", "pin": "[secret]"}


def test_people_approve_it_unseen_and_it_is_passed_on(
    logins: Governed, rosa: User, admin_client: Client
) -> None:
    factories.publish(ask_login=ASKS)
    action = logins.propose(logins.run(), "toolbox.set_password", given()).action
    assert action.status == "waiting"
    assert PASSWORD not in everything_stored()
    assert PASSWORD.encode() not in SealedArguments.objects.get().sealed.encode()
    request = ApprovalRequest.objects.get()
    page = admin_client.get(
        f"/admin/approvals/approvalrequest/{request.pk}/change/"
    ).content.decode()
    assert "redacted declared" in page
    assert PASSWORD not in page
    approve(action, rosa)
    redecision.resume(action.pk)
    assert logins.toolbox.effects == [("set_password", given())]


def test_it_is_forgotten_when_the_call_is_over_and_not_before(logins: Governed) -> None:
    logins.toolbox.fail_with = [NoResponse("It was silent.")]
    unknown = logins.propose(logins.run(), "toolbox.set_password", given()).action
    assert unknown.status == "unknown"
    assert recovery.discard_encrypted_arguments() == 0
    recovery.resolve_unknown(
        unknown.pk, actor=SYSTEM, answer=recovery.Resolution.AGAIN, reason="It did not arrive."
    )
    redecision.resume(unknown.pk)
    assert logins.toolbox.effects == [("set_password", given())]
    assert recovery.discard_encrypted_arguments() == 1
    assert not SealedArguments.objects.exists()


def test_a_denied_call_keeps_no_secret(logins: Governed) -> None:
    factories.publish(never='@id("never") @reason("No.") forbid(principal, action, resource);')
    denied = logins.propose(logins.run(), "toolbox.set_password", given()).action
    assert denied.status == "denied"
    assert not SealedArguments.objects.exists()


@pytest.mark.parametrize("damage", ["gone", "moved", "changed"])
def test_a_call_without_its_secret_is_not_made(logins: Governed, rosa: User, damage: str) -> None:
    factories.publish(ask_login=ASKS)
    run = logins.run()
    action = logins.propose(run, "toolbox.set_password", given()).action
    other = logins.propose(run, "toolbox.set_password", given(password="another one 48")).action
    kept = SealedArguments.objects.filter(pk=action.pk)
    if damage == "gone":
        kept.delete()
    elif damage == "moved":
        kept.update(sealed=SealedArguments.objects.get(pk=other.pk).sealed)
    else:
        kept.update(sealed=kept.get().sealed[:-8] + "AAAAAAA=")
    approve(action, rosa)
    redecision.resume(action.pk)
    action.refresh_from_db()
    assert (action.status, action.error_code) == ("failed", "not_permitted")
    assert not logins.toolbox.effects


def test_rules_facts_and_amounts_cannot_look_at_it(logins: Governed) -> None:
    rule = """@id("weak") @reason("It is weak.")
    forbid(principal, action == Action::"toolbox.set_password", resource)
    when { context.input has password && context.input.password == "12345" };"""
    with pytest.raises(InvalidPolicy, match="never true"):
        factories.publish(weak=rule)
    with pytest.raises(InvalidToolDefinition, match="is a secret"):
        define_tool(logins.system, "t", actor=SYSTEM, **TOOL, exclusive_by="password")


@pytest.mark.parametrize(
    "expression",
    [
        "args.password == 'x'",
        "args['password'] == 'x'",
        'args [ "password" ] == "x"',
        "args . password == 'x'",
        "args.login.pin == 1",
        "args.login['pin'] == 1",
        "size(args.login) > 1",
        "args.login.exists(k, args.login[k] == 1)",
        "args.login.exists(k, k == 'pin')",
        "args.login.size() > 1",
        "args.login.map(k, k).size() > 1",
        "args.map(k, args[k]).exists(v, v == 'x')",
        "size(args) > 2",
        "'password' in args",
        "has(args.password)",
        "args[args.user] == 'x'",
    ],
)
def test_no_fact_is_computed_from_a_secret_or_what_has_one_in_it(
    logins: Governed, expression: str
) -> None:
    fact = {"name": "weak", "title": "Weak", "expression": expression}
    with pytest.raises(InvalidToolDefinition, match="is a secret"):
        define_tool(logins.system, "set_password", actor=SYSTEM, **TOOL, facts=[fact])


@pytest.mark.parametrize(
    ("expression", "fact"),
    [
        ("account.password == args.user", False),
        ("account.password != args.user", True),
        ("account.password.startsWith(args.user)", None),
        ("account.password > args.user", None),
        ("account.password.contains(args.user)", None),
        ("size(account.password) > 3", None),
        ("account.exists(k, account[k] == args.user)", None),
        ("account.frozen == true", False),
        ("(account.password == args.user) || !(account.frozen != true)", False),
        ("account.pin + 0 == 4711", None),
        ("account.pin / 1000 % 10 == 4", None),
        ("string(account.frozen)", "false"),
        ("string(account.password)", None),
        ("[string(account.password)]", None),
        ("size(string(account.password))", None),
        ("account.map(k, string(account[k]))", None),
        ("string(account)", None),
    ],
)
def test_a_fact_tells_whether_a_secret_of_an_answer_is_right_and_never_what_it_is(
    governed: Governed, expression: str, fact: Any
) -> None:
    secret = {
        "password": {"type": "string", "x-data-class": "secret"},
        "pin": {"type": "integer", "x-data-class": "secret"},
    }
    readable = {**box.TOOLS["read_account"], "output_schema": {"properties": secret}}
    define_tool(governed.system, "read_account", actor=SYSTEM, **readable)
    governed.toolbox.accounts["a"] = {"password": PASSWORD, "frozen": False, "pin": 4711}
    asking = {
        **TOOL,
        "sources": [{"name": "account", "tool": "read_account", "arguments": {"id": "args.user"}}],
        "facts": [{"name": "told", "title": "Told", "expression": expression}],
    }
    try:
        define_tool(governed.system, "ship", actor=SYSTEM, **asking)
    except InvalidToolDefinition:
        assert fact is None
        return
    factories.publish()
    action = governed.propose(governed.run(), "toolbox.ship", {"user": "a"}).action
    if fact is None:
        assert PASSWORD not in str(action.facts)
        assert action.facts.get("told") is not True
    else:
        assert action.facts == {"told": fact}
    assert PASSWORD not in everything_stored()


def test_facts_are_computed_from_the_other_arguments(logins: Governed) -> None:
    expression = "args.user == 'u' || args.login['name'] == 'n' || args.user.startsWith('r')"
    fact = {"name": "known", "title": "Known", "expression": expression}
    define_tool(logins.system, "set_password", actor=SYSTEM, **TOOL, facts=[fact])


def test_credentials_that_no_schema_declares_stay_refused(logins: Governed, api: Api) -> None:
    run = str(api.post("runs", RUN).json()["id"])
    declared = {"run": run, "tool": "toolbox.set_password", "arguments": given()}
    for body in (
        {**declared, "arguments": given(user="password=hunter2hunter2")},
        {**declared, "tool": "toolbox.pay", "arguments": {"account": "a", "password": PASSWORD}},
        {**declared, "claims": {"password": PASSWORD}},
        {**declared, "tool": "toolbox.unknown"},
    ):
        refused = api.post("actions", body, key="k")
        assert refused.json()["code"] == "secret_in_request"
    assert not Action.objects.exists()
    assert PASSWORD not in everything_stored()


def test_a_definition_that_no_longer_declares_it_lets_nothing_in(logins: Governed) -> None:
    declaring = factories.proposal(
        logins.caller, logins.run(), "toolbox.set_password", given(), vouched_by="of then"
    )
    properties = {**SCHEMA["properties"], "password": {"type": "string"}}
    changed = {**TOOL, "input_schema": {**SCHEMA, "properties": properties}}
    define_tool(logins.system, "set_password", actor=SYSTEM, **changed)
    factories.publish()
    with pytest.raises(SecretFound):
        submission.submit(declaring)
    assert not Action.objects.exists()


def test_a_workflow_passes_no_secret_on(logins: Governed) -> None:
    by_hand = factories.proposal(logins.caller, logins.run(), "toolbox.set_password", given())
    driven: Proposal = replace(by_hand, executor="workflow")
    with pytest.raises(SecretFound):
        submission.submit(driven)


def test_a_new_sealing_key_takes_them_along(
    logins: Governed, rosa: User, settings: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    factories.publish(ask_login=ASKS)
    action = logins.propose(logins.run(), "toolbox.set_password", given()).action
    new = base64.b64encode(bytes([7]) * 32).decode()
    settings.ENCRYPTION_KEYS = f"{new},{settings.ENCRYPTION_KEYS}"
    call_command("rewrap_keys")
    assert "1 secret arguments" in capsys.readouterr().out
    settings.ENCRYPTION_KEYS = new  # the old one is taken out
    approve(action, rosa)
    redecision.resume(action.pk)
    assert logins.toolbox.effects == [("set_password", given())]


def test_a_tools_page_says_which_arguments_agents_cannot_give(
    logins: Governed, admin_client: Client
) -> None:
    open_schema = {"type": "object", "properties": {"api_key": {"type": "string"}}}
    define_tool(logins.system, "keyed", actor=SYSTEM, **{**TOOL, "input_schema": open_schema})
    page = admin_client.get(f"/admin/tools/tool/{logins.tool('keyed').pk}/change/").content.decode()
    assert "Calls that give api_key are refused" in page
    other = admin_client.get(f"/admin/tools/tool/{logins.tool('set_password').pk}/change/")
    assert "are refused" not in other.content.decode()
    assert other.status_code == 200


def test_a_secret_goes_in_the_place_of_its_own_mark_only() -> None:
    shown, secrets = secrets_set_apart(given(), SCHEMA)
    assert with_secrets(shown, secrets) == given()
    for wrong in ({"/password": "another one 48"}, {"/user": PASSWORD}, {"/elsewhere": PASSWORD}):
        with pytest.raises(SecretUnusable):
            with_secrets(shown, wrong)


def test_arguments_with_too_many_places_are_refused(logins: Governed, api: Api) -> None:
    """Their whole would be one secret: nothing could be decided on."""
    schema = {
        "type": "object",
        "properties": {"password": {"type": "string", "x-data-class": "secret"}},
        "additionalProperties": {"items": {"x-data-class": "personal"}},
    }
    define_tool(logins.system, "wide", actor=SYSTEM, **{**TOOL, "input_schema": schema})
    factories.publish()
    run = str(api.post("runs", RUN).json()["id"])
    arguments = {"password": PASSWORD, "k" * 20_000: list(range(200))}
    body = {"run": run, "tool": "toolbox.wide", "arguments": arguments}
    answer = api.post("actions", body, key="k")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_arguments")
    assert not Action.objects.exists()


@pytest.mark.parametrize(
    "properties",
    [
        {"keys": {"type": "array", "items": {"type": "string", "x-data-class": "secret"}}},
        {"a": {"additionalProperties": {"x-data-class": "secret"}}},
        {"a": {"allOf": [{"properties": {"b": {"x-data-class": "secret"}}}]}},
        {"cle\u0301": {"type": "string", "x-data-class": "secret"}},
    ],
)
def test_a_secret_is_a_property_by_its_name(logins: Governed, properties: Any) -> None:
    schema = {"type": "object", "properties": properties}
    with pytest.raises(InvalidToolDefinition):
        define_tool(logins.system, "t", actor=SYSTEM, **{**TOOL, "input_schema": schema})


def test_secrets_of_many_texts_are_refused(governed: Governed) -> None:
    """Each would be looked for in the whole answer, when the effect is done."""
    schema = {"type": "object", "properties": {"all": {"x-data-class": "secret"}}}
    define_tool(governed.system, "set_all", actor=SYSTEM, **TOOL | {"input_schema": schema})
    factories.publish()
    run = governed.run()
    for value in ([f"text {n}" for n in range(51)], {f"k{n}": n for n in range(51)}, [[[1] * 51]]):
        with pytest.raises(InvalidArguments, match="more than 50"):
            governed.propose(run, "toolbox.set_all", {"all": value})
    assert not Action.objects.exists()
    fifty = [f"text {n}" for n in range(50)]
    assert governed.propose(run, "toolbox.set_all", {"all": fifty}).action.arguments
