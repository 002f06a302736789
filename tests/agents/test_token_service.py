import hmac
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import urlencode

import pytest
from django.utils import timezone
from joserfc import jws, jwt
from pytest_django import Settings

from accounts.models import Environment, User
from agents.directory import directory
from agents.errors import InvalidLifecycleTransition, InvalidToken
from agents.models import AgentIdentity, AgentKey, AssertionReplay
from agents.services import assertions, enrolment, lifecycle
from agents.tokens import LIFETIME_SECONDS, verify
from audit.models import Event
from common.actors import SYSTEM, Actor
from common.errors import NotFound, ReasonRequired
from tests import factories
from tests.agents.runtimes import (
    ASSERTION_TYPE,
    LEFT_OUT,
    PrivateKey,
    Runtime,
    all_at_once,
    ec_key,
    ed_key,
    encoded,
    enrolled,
)

pytestmark = [
    pytest.mark.django_db,
    # The static files of the pages are collected on installation only.
    pytest.mark.filterwarnings("ignore:No directory at"),
]

INVALID_CLIENT = {
    "error": "invalid_client",
    "error_description": "The client could not be authenticated.",
}


@pytest.fixture
def runtime(identity: AgentIdentity) -> Runtime:
    return enrolled(identity)


@pytest.fixture
def other(olga: User, prod: Environment) -> Runtime:
    return enrolled(factories.identity("other", owner=olga, environment=prod))


def assert_nothing_issued() -> None:
    assert not Event.objects.filter(type="credential.issued").exists()
    assert not AssertionReplay.objects.exists()
    assert not AgentKey.objects.exclude(last_used_at=None).exists()


def by_hand(header: Any, claims: Any, sign: Callable[[bytes], bytes] = lambda text: b"") -> str:
    """A JWS that no library would make."""
    signed = ".".join(encoded(json.dumps(part).encode()) for part in (header, claims))
    return f"{signed}.{encoded(sign(signed.encode()))}"


def tampered(assertion: str, part: int) -> str:
    parts = assertion.split(".")
    middle = len(parts[part]) // 2
    other = "A" if parts[part][middle] != "A" else "B"
    parts[part] = parts[part][:middle] + other + parts[part][middle + 1 :]
    return ".".join(parts)


@pytest.mark.parametrize("make_key", [ec_key, ed_key])
def test_the_holder_of_an_enrolled_key_gets_a_token(
    identity: AgentIdentity, make_key: Callable[[], PrivateKey]
) -> None:
    runtime = enrolled(identity, make_key())
    answer = runtime.ask()
    assert answer.status_code == 200
    assert answer["Cache-Control"] == "no-store"
    body = answer.json()
    assert (body["token_type"], body["scope"]) == ("Bearer", "tools")
    assert body["expires_in"] == LIFETIME_SECONDS
    assert body["access_token"].count(".") == 2


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
def test_the_former_name_of_ed25519_is_understood(identity: AgentIdentity) -> None:
    runtime = enrolled(identity, ed_key())
    assert runtime.ask(runtime.signed(header={"alg": "EdDSA"})).status_code == 200


def test_an_issued_token_is_recorded(runtime: Runtime) -> None:
    body = runtime.ask(scope="system:bank").json()
    event = Event.objects.get(type="credential.issued")
    claims = jws.extract_compact(body["access_token"].encode()).payload
    issued = json.loads(claims)
    assert (event.actor_kind, event.actor_id) == ("agent", "tilda.prod")
    assert event.details == {
        "jti": issued["jti"],
        "scope": "system:bank",
        "expires_at": datetime.fromtimestamp(issued["exp"], UTC).isoformat(),
        "chain": [],
        "bound": False,
        "epoch": 1,
        "delegation": "",
    }
    assert body["access_token"] not in str(list(Event.objects.values()))
    assert AgentKey.objects.get().last_used_at is not None


def test_the_scope_is_what_was_asked_for_and_is_known(runtime: Runtime) -> None:
    for asked, granted in {
        "tools admin": "tools",
        "openid system:bank system:": "system:bank",
        "": "tools",
        "  ": "tools",
        "tools": "tools",
        "system:bank": "system:bank",
        "tool:bank.pay system:shop tool:bank.pay": "system:shop tool:bank.pay",
    }.items():
        assert runtime.ask(scope=asked).json()["scope"] == granted


UNKNOWN_SCOPES = [
    "admin",
    "TOOLS",
    "systems:bank",
    "*",
    "openid",
    "system:",
    "system:bank.pay",
    "system:bänk",
    "system:bank\x00",
    "tool:bank",
    "tool:bank.",
    "tool:.pay",
    "tool:bank.pay.out",
    "tool:*",
    f"system:{'x' * 65}",
    f"tool:bank.{'x' * 101}",
    " ".join(["tools"] * 400),
]


def test_an_unknown_scope_is_refused_and_the_assertion_stays_usable(runtime: Runtime) -> None:
    assertion = runtime.signed()
    for scope in UNKNOWN_SCOPES:
        answer = runtime.ask(assertion, scope=scope)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_scope"), scope
    assert_nothing_issued()
    assert runtime.ask(assertion).status_code == 200


def _mixed_up(runtime: Runtime) -> str:
    """HMAC with the public key as its secret: signed by anybody who can read."""
    secret = runtime.key.as_pem(private=False)
    header = {"alg": "HS256", "kid": runtime.kid}
    return by_hand(header, runtime.claims(), lambda text: hmac.digest(secret, text, "sha256"))


def _later(runtime: Runtime, **seconds: int) -> str:
    now = runtime.claims()["iat"]
    return runtime.signed(**{name: now + after for name, after in seconds.items()})


Assertions = dict[str, Callable[[Runtime], str]]
AUDIENCES: Assertions = {
    "for another server": lambda r: r.signed(aud="https://elsewhere.example.org"),
    "for the token endpoint": lambda r: r.signed(aud=f"{r.claims()['aud']}/oauth/token"),
    "for a list of this server": lambda r: r.signed(aud=[r.claims()["aud"]]),
    "for several servers": lambda r: r.signed(aud=[r.claims()["aud"], "https://e.example.org"]),
    "for nobody": lambda r: r.signed(aud=LEFT_OUT),
}
TIMES: Assertions = {
    "expired": lambda r: _later(r, iat=-100, exp=-1),
    "ending now": lambda r: _later(r, iat=-100, exp=0),
    "for more than five minutes": lambda r: _later(r, iat=0, exp=301),
    "of an hour ago for an hour": lambda r: _later(r, iat=-3_500, exp=100),
    "made in the future": lambda r: _later(r, iat=100, exp=200),
    "ending before it began": lambda r: _later(r, iat=20, exp=10),
    "without an end": lambda r: r.signed(exp=LEFT_OUT),
    "without a beginning": lambda r: r.signed(iat=LEFT_OUT),
    "with a time in text": lambda r: r.signed(exp=str(r.claims()["exp"])),
    "with a broken time": lambda r: r.signed(iat=None),
}
NAMES: Assertions = {
    "without an id": lambda r: r.signed(jti=LEFT_OUT),
    "with an empty id": lambda r: r.signed(jti=""),
    "with a blank in its id": lambda r: r.signed(jti="a b"),
    "with a line in its id": lambda r: r.signed(jti="a\n"),
    "with a NUL in its id": lambda r: r.signed(jti="a\x00"),
    "with half a character in its id": lambda r: jws.serialize_compact(
        {"alg": "ES256", "kid": r.kid}, json.dumps(r.claims(jti="\ud800")).encode(), r.key
    ),
    "with an id that is not ASCII": lambda r: r.signed(jti="é"),
    "with a long id": lambda r: r.signed(jti="x" * 201),
    "with a number as id": lambda r: r.signed(jti=5),
    "with a list as id": lambda r: r.signed(jti=["one"]),
    "about another": lambda r: r.signed(sub="other.prod"),
    "from another": lambda r: r.signed(iss="other.prod"),
    "as another": lambda r: r.signed(iss="other.prod", sub="other.prod"),
    "from nobody": lambda r: r.signed(iss=LEFT_OUT, sub=LEFT_OUT),
}
SIGNATURES: Assertions = {
    "by a key that is not enrolled": lambda r: r.signed(by=ec_key()),
    "by an unknown key": lambda r: r.signed(by=ec_key(), header={"kid": ec_key().thumbprint()}),
    "by an unnamed key": lambda r: r.signed(header={"kid": LEFT_OUT}),
    "by a key of another kind": lambda r: r.signed(by=ed_key()),
    "by a key named with NUL": lambda r: by_hand({"alg": "ES256", "kid": "\x00"}, r.claims()),
    "by a key named with half a character": lambda r: by_hand(
        {"alg": "ES256", "kid": "\ud800"}, r.claims()
    ),
    "by a key named by a number": lambda r: by_hand({"alg": "ES256", "kid": 5}, r.claims()),
    "by a key named at length": lambda r: by_hand({"alg": "ES256", "kid": "a" * 64}, r.claims()),
    "by a key named with a line": lambda r: by_hand(
        {"alg": "ES256", "kid": f"{r.kid}\n"}, r.claims()
    ),
    "unsigned": lambda r: by_hand({"alg": "none", "kid": r.kid}, r.claims()),
    "with an empty signature": lambda r: by_hand({"alg": "ES256", "kid": r.kid}, r.claims()),
    "with a zero signature": lambda r: by_hand(
        {"alg": "ES256", "kid": r.kid}, r.claims(), lambda text: bytes(64)
    ),
    "with the public key as secret": _mixed_up,
    "with a changed header": lambda r: tampered(r.signed(), 0),
    "with changed claims": lambda r: tampered(r.signed(), 1),
    "with a changed signature": lambda r: tampered(r.signed(), 2),
    "with a key of its own": lambda r: r.signed(
        by=(key := ec_key()), header={"jwk": key.as_dict(private=False)}
    ),
    "with an unknown algorithm": lambda r: by_hand({"alg": "ES999", "kid": r.kid}, r.claims()),
    "with a list as algorithm": lambda r: by_hand({"alg": ["ES256"], "kid": r.kid}, r.claims()),
    "with a critical header": lambda r: jws.serialize_compact(
        {"alg": "ES256", "kid": r.kid, "crit": ["b64"], "b64": False}, b"{}", r.key
    ),
}
FORMS: Assertions = {
    "of a header that is a list": lambda r: by_hand([], r.claims()),
    "of claims that are a list": lambda r: jws.serialize_compact(
        {"alg": "ES256", "kid": r.kid}, b"[]", r.key
    ),
    "of claims that are not JSON": lambda r: jws.serialize_compact(
        {"alg": "ES256", "kid": r.kid}, b"claims", r.key
    ),
    "of deep claims": lambda r: jws.serialize_compact(
        {"alg": "ES256", "kid": r.kid}, b"[" * 1_200 + b"]" * 1_200, r.key
    ),
    "of a deep header": lambda r: f"{encoded(b'[' * 1_200 + b']' * 1_200)}.e30.AA",
    "of claims with half a character": lambda r: jws.serialize_compact(
        {"alg": "ES256", "kid": r.kid}, b'{"iss": "\\ud800", "sub": "\\ud800"}', r.key
    ),
    "with NUL": lambda r: f"{r.signed()}\x00",
    "encrypted": lambda r: "a.b.c.d.e",
    "garbage": lambda r: "garbage",
    "dots": lambda r: "..",
    "not ASCII": lambda r: "é.ü.ß",
    "empty": lambda r: "",
    "too long": lambda r: r.signed(note="x" * 4_000),
}


@pytest.mark.parametrize(
    "assertions",
    [AUDIENCES, TIMES, NAMES, SIGNATURES, FORMS],
    ids=["audiences", "times", "names", "signatures", "forms"],
)
def test_a_client_that_does_not_prove_itself_gets_one_answer(
    runtime: Runtime, assertions: Assertions
) -> None:
    for what, made in assertions.items():
        answer = runtime.ask(made(runtime))
        assert (answer.status_code, answer.json()) == (401, INVALID_CLIENT), what
    assert_nothing_issued()
    assert runtime.ask().status_code == 200


def test_an_unknown_client_and_a_bad_signature_are_told_the_same(runtime: Runtime) -> None:
    unknown = Runtime(runtime.identity).ask()
    forged = runtime.ask(runtime.signed(by=ec_key()))
    assert unknown.status_code == forged.status_code == 401
    assert unknown.content == forged.content
    for answer in (unknown, forged):
        del answer["X-Request-Id"]
    assert unknown.headers == forged.headers


def test_an_unknown_client_costs_a_signature_check_like_any_other(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer that comes sooner would tell who exists."""
    checked: list[int] = []
    real = jwt.decode

    def counted(*args: Any, **kwargs: Any) -> Any:
        checked.append(1)
        return real(*args, **kwargs)

    monkeypatch.setattr(jwt, "decode", counted)
    for asked in (Runtime(runtime.identity).signed(), runtime.signed(by=ec_key())):
        checked.clear()
        assert runtime.ask(asked).status_code == 401
        assert len(checked) == 1


def test_another_agents_key_does_not_speak_for_this_one(runtime: Runtime, other: Runtime) -> None:
    for kid in (runtime.kid, other.kid):
        assertion = runtime.signed(by=other.key, header={"kid": kid})
        assert runtime.ask(assertion).status_code == 401
    assert_nothing_issued()


def test_a_revoked_key_gets_no_token(runtime: Runtime) -> None:
    AgentKey.objects.update(status=AgentKey.Status.REVOKED)
    assert runtime.ask().json() == INVALID_CLIENT
    assert_nothing_issued()


def test_a_revoked_key_is_dead_with_all_that_was_got_with_it(runtime: Runtime, olga: User) -> None:
    token = runtime.ask().json()["access_token"]
    assert verify(token, directory.current()).epoch == 1
    actor, key = Actor.from_user(olga), AgentKey.objects.get()
    assert enrolment.revoke_key(key.pk, actor=actor, reason=" Leaked. ").status == "revoked"
    runtime.identity.refresh_from_db()
    assert (runtime.identity.status, runtime.identity.epoch) == ("active", 2)
    event = Event.objects.get(type="credential.revoked")
    assert (event.actor_label, event.subject_label) == ("olga", "tilda.prod")
    assert event.details == {"thumbprint": runtime.kid, "reason": "Leaked."}
    with pytest.raises(InvalidToken):
        verify(token, directory.current())
    assert runtime.ask().json() == INVALID_CLIENT
    assert runtime.enrol().status_code == 409
    assert enrolled(runtime.identity).ask().status_code == 200


def test_a_key_is_revoked_once_and_for_a_reason(runtime: Runtime) -> None:
    key = AgentKey.objects.get()
    with pytest.raises(ReasonRequired):
        enrolment.revoke_key(key.pk, actor=SYSTEM, reason=" ")
    with pytest.raises(NotFound):
        enrolment.revoke_key(key.pk + 1, actor=SYSTEM, reason="So.")
    assert not Event.objects.filter(type="credential.revoked").exists()
    enrolment.revoke_key(key.pk, actor=SYSTEM, reason="Leaked.")
    with pytest.raises(InvalidLifecycleTransition):
        enrolment.revoke_key(key.pk, actor=SYSTEM, reason="Leaked again.")
    runtime.identity.refresh_from_db()
    assert runtime.identity.epoch == 2
    assert Event.objects.filter(type="credential.revoked").count() == 1


def test_a_key_revoked_while_it_is_used_gets_no_living_token(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = assertions.checked_assertion

    def revoked_meanwhile(*given: Any) -> Any:
        enrolment.revoke_key(AgentKey.objects.get().pk, actor=SYSTEM, reason="Leaked.")
        return check(*given)

    monkeypatch.setattr(assertions, "checked_assertion", revoked_meanwhile)
    answer = runtime.ask()
    assert (answer.status_code, answer.json()) == (401, INVALID_CLIENT)
    assert_nothing_issued()


@pytest.mark.parametrize("length", ["abc", "-1", "1e3", "", "9" * 30])
def test_a_length_that_is_no_number_is_refused(runtime: Runtime, length: str) -> None:
    body = urlencode({"grant_type": "client_credentials"})
    answer = runtime.http.post(
        "/oauth/token", body, "application/x-www-form-urlencoded", CONTENT_LENGTH=length
    )
    assert answer.status_code == 400


def test_the_longest_id_is_taken(runtime: Runtime) -> None:
    assert runtime.ask(runtime.signed(jti="~" * 200)).status_code == 200


def test_an_assertion_works_once(runtime: Runtime) -> None:
    assertion = runtime.signed()
    assert runtime.ask(assertion).status_code == 200
    for _ in range(2):
        answer = runtime.ask(assertion)
        assert (answer.status_code, answer.json()) == (401, INVALID_CLIENT)
    assert Event.objects.filter(type="credential.issued").count() == 1


def test_an_id_is_not_used_again_in_another_assertion(runtime: Runtime) -> None:
    assert runtime.ask(runtime.signed(jti="one")).status_code == 200
    assert runtime.ask(runtime.signed(jti="one", note="different")).status_code == 401
    assert runtime.ask(runtime.signed(jti="two")).status_code == 200


def test_two_agents_may_use_the_same_id(runtime: Runtime, other: Runtime) -> None:
    assert runtime.ask(runtime.signed(jti="one")).status_code == 200
    assert other.ask(other.signed(jti="one")).status_code == 200


def test_used_assertions_are_forgotten_once_they_have_expired(runtime: Runtime) -> None:
    assertion = runtime.signed()
    runtime.ask(assertion)
    assert assertions.prune() == 0
    assert runtime.ask(assertion).status_code == 401
    assert assertions.prune(now=timezone.now() + timedelta(hours=1)) == 1
    assert not AssertionReplay.objects.exists()


STOPS: dict[str, Callable[[AgentIdentity], Any]] = {
    "suspended agent": lambda i: lifecycle.suspend(i.agent_id, actor=SYSTEM, reason="Stop."),
    "retired agent": lambda i: lifecycle.retire(i.agent_id, actor=SYSTEM, reason="Stop."),
    "suspended identity": lambda i: lifecycle.suspend_identity(i.pk, actor=SYSTEM, reason="Stop."),
}


@pytest.mark.parametrize("stop", STOPS.values(), ids=STOPS)
def test_who_is_stopped_gets_no_token(
    runtime: Runtime, stop: Callable[[AgentIdentity], Any]
) -> None:
    stop(runtime.identity)
    answer = runtime.ask()
    assert (answer.status_code, answer.json()) == (401, INVALID_CLIENT)
    assert_nothing_issued()


def test_without_an_active_sponsor_there_is_no_token(runtime: Runtime, olga: User) -> None:
    olga.is_active = False
    olga.save()
    assert runtime.ask().json() == INVALID_CLIENT
    assert_nothing_issued()


def test_an_agent_that_is_not_yet_active_gets_no_token(olga: User, prod: Environment) -> None:
    agent = lifecycle.register_agent(
        "draft", actor=SYSTEM, title="Draft", purpose="Wait.", owner=olga, sponsor=olga
    )
    runtime = enrolled(lifecycle.create_identity(agent.pk, actor=SYSTEM, environment=prod))
    assert runtime.ask().json() == INVALID_CLIENT
    lifecycle.activate(agent.pk, actor=SYSTEM, reason="Ready.")
    assert runtime.ask().status_code == 200


def test_other_grants_are_not_supported(runtime: Runtime) -> None:
    for grant in (LEFT_OUT, "", "password", "authorization_code", "CLIENT_CREDENTIALS"):
        answer = runtime.ask(grant_type=grant)
        assert (answer.status_code, answer.json()["error"]) == (400, "unsupported_grant_type")
    assert_nothing_issued()


def test_only_a_signed_assertion_authenticates(runtime: Runtime) -> None:
    for kind in (LEFT_OUT, "", "urn:ietf:params:oauth:grant-type:jwt-bearer"):
        answer = runtime.ask(client_assertion_type=kind, client_id="tilda.prod", client_secret="x")
        assert (answer.status_code, answer.json()) == (401, INVALID_CLIENT)
    assert_nothing_issued()


def test_a_parameter_given_twice_is_refused(runtime: Runtime) -> None:
    form = {
        "grant_type": "client_credentials",
        "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": runtime.signed(),
        "scope": "tools",
        "anything": "else",
    }
    for name, value in form.items():
        body = urlencode([*form.items(), (name, value)])
        answer = runtime.http.post("/oauth/token", body, "application/x-www-form-urlencoded")
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request"), name
    assert_nothing_issued()


def test_parameters_in_the_address_do_not_count(runtime: Runtime) -> None:
    form = {
        "grant_type": "client_credentials",
        "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": runtime.signed(),
    }
    answer = runtime.http.post(f"/oauth/token?{urlencode(form)}")
    assert (answer.status_code, answer.json()["error"]) == (400, "unsupported_grant_type")
    assert runtime.http.get(f"/oauth/token?{urlencode(form)}").status_code == 405
    assert_nothing_issued()


def test_a_body_of_a_megabyte_is_refused(runtime: Runtime) -> None:
    for name in ("client_assertion", "scope", "note"):
        answer = runtime.ask(**{name: "x" * 1_000_000})
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request"), name
    assert_nothing_issued()


def test_requests_are_counted_per_minute(runtime: Runtime, settings: Settings) -> None:
    settings.TOKEN_LIMIT_PER_ADDRESS = 3
    answers = [runtime.ask() for _ in range(7)]
    refused = [answer for answer in answers if answer.status_code != 200]
    assert [answer.status_code for answer in answers[:3]] == [200, 200, 200]
    assert refused[0].json()["error"] == "too_many_requests"
    assert {answer.status_code for answer in refused} == {429}
    assert AssertionReplay.objects.count() == 7 - len(refused)


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_of_eight_requests_with_one_assertion_one_gets_a_token(identity: AgentIdentity) -> None:
    runtime = enrolled(identity)
    assertion = runtime.signed()
    runtimes = [Runtime(identity, runtime.key) for _ in range(8)]
    answers = all_at_once([partial(one.ask, assertion) for one in runtimes])
    assert sorted(answer.status_code for answer in answers) == [200] + [401] * 7
    assert Event.objects.filter(type="credential.issued").count() == 1
    assert AssertionReplay.objects.count() == 1
