import base64
import json
import string
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from auditlog.models import LogEntry
from django.utils import timezone
from joserfc.jwk import OctKey, OKPKey, RSAKey
from pytest_django import Settings

from accounts.models import Environment, User
from agents.errors import InvalidKey, InvalidLifecycleTransition
from agents.keys import accepted_public_key
from agents.models import AgentIdentity, AgentKey, EnrolmentCode
from agents.services import enrolment, lifecycle
from audit.models import Event
from common.actors import SYSTEM, Actor
from common.errors import NotFound
from tests import factories
from tests.agents.runtimes import (
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


@pytest.fixture
def runtime(identity: AgentIdentity) -> Runtime:
    return Runtime(identity)


@pytest.fixture
def other(olga: User, prod: Environment) -> Runtime:
    return Runtime(factories.identity("other", owner=olga, environment=prod))


def assert_nothing_enrolled() -> None:
    assert not AgentKey.objects.exists()
    assert not EnrolmentCode.objects.exclude(used_at=None).exists()
    assert not Event.objects.filter(type="credential.enrolled").exists()


@pytest.mark.parametrize("make_key", [ec_key, ed_key])
def test_a_key_is_enrolled_and_gets_tokens(
    identity: AgentIdentity, make_key: Callable[[], PrivateKey]
) -> None:
    runtime = Runtime(identity, make_key())
    answer = runtime.enrol()
    assert answer.status_code == 201
    assert answer["Cache-Control"] == "no-store"
    body = answer.json()
    assert (body["client_id"], body["environment"]) == ("tilda.prod", "prod")
    assert body["kid"] == runtime.kid
    assert body["token_endpoint"].endswith("/oauth/token")
    assert runtime.ask().status_code == 200


def test_only_the_public_key_is_kept(runtime: Runtime) -> None:
    runtime.enrol(jwk={**runtime.public, "kid": "my-name", "use": "sig", "x5c": ["AA=="]})
    key = AgentKey.objects.get()
    assert key.public_jwk == runtime.public
    assert (key.identity, key.thumbprint, key.algorithm) == (runtime.identity, runtime.kid, "ES256")


def test_an_enrolment_is_recorded_as_the_agents_own(runtime: Runtime) -> None:
    runtime.enrol()
    event = Event.objects.get(type="credential.enrolled")
    assert (event.actor_kind, event.actor_id) == ("agent", "tilda.prod")
    assert event.details == {"thumbprint": runtime.kid}
    code = EnrolmentCode.objects.get()
    assert code.used_at is not None
    for row in (code, AgentKey.objects.get()):
        entry = LogEntry.objects.get_for_object(row).latest("id")
        named = {"actor": "agent", "id": "tilda.prod", "label": "tilda.prod"}
        assert (entry.actor, entry.additional_data) == (None, named)


def test_a_code_is_issued_by_somebody_and_kept_nowhere(identity: AgentIdentity, olga: User) -> None:
    code = enrolment.issue_enrolment_code(identity.pk, actor=Actor.from_user(olga))
    row = EnrolmentCode.objects.get()
    assert row.issued_by == olga
    event = Event.objects.get(type="enrolment.code_issued")
    assert (event.actor_label, event.details) == (
        "olga",
        {"expires_at": row.expires_at.isoformat()},
    )
    assert LogEntry.objects.get_for_object(row).get().actor == olga
    changes = str(list(LogEntry.objects.values_list("changes")))
    written = changes + factories.everything_recorded()
    assert code not in str(list(EnrolmentCode.objects.values())) + written
    assert row.code_hmac not in written


def test_a_code_for_an_identity_that_does_not_exist_is_not_issued(identity: AgentIdentity) -> None:
    with pytest.raises(NotFound):
        enrolment.issue_enrolment_code(identity.pk + 1, actor=SYSTEM)
    assert not EnrolmentCode.objects.exists()


def test_a_code_works_once(runtime: Runtime) -> None:
    code = runtime.code()
    assert runtime.enrol(code=code).status_code == 201
    second = Runtime(runtime.identity)
    answer = second.enrol(code=code)
    assert (answer.status_code, answer.json()["error"]) == (403, "invalid_enrolment")
    assert AgentKey.objects.get().thumbprint == runtime.kid


def test_each_code_lets_one_key_in(runtime: Runtime) -> None:
    second = Runtime(runtime.identity)
    assert runtime.enrol().status_code == second.enrol().status_code == 201
    assert runtime.identity.keys.count() == 2


def test_an_expired_code_is_refused(runtime: Runtime) -> None:
    code = runtime.code()
    EnrolmentCode.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert runtime.enrol(code=code).status_code == 403
    assert_nothing_enrolled()


def test_a_code_that_was_never_issued_is_refused(runtime: Runtime) -> None:
    runtime.code()
    for code in ("", "guess", "a" * 5_000, "\x00", "ü", None, 5, ["a"]):
        assert runtime.enrol(code=code).status_code == 403, code
    assert_nothing_enrolled()


PROOFS: dict[str, Callable[[Runtime], Any]] = {
    "none": lambda runtime: "",
    "null": lambda runtime: None,
    "garbage": lambda runtime: "a.b.c",
    "by another key": lambda runtime: runtime.signed(by=ec_key()),
    "by a key of another kind": lambda runtime: runtime.signed(by=ed_key()),
    "unsigned": lambda runtime: runtime.signed().rsplit(".", 1)[0] + ".",
    "for another server": lambda runtime: runtime.signed(aud="https://elsewhere.example.org"),
    "for several servers": lambda runtime: runtime.signed(aud=[runtime.claims()["aud"]]),
    "expired": lambda runtime: runtime.signed(iat=1_000_000_000, exp=1_000_000_060),
    "for too long": lambda runtime: runtime.signed(exp=runtime.claims()["iat"] + 600),
    "without an end": lambda runtime: runtime.signed(exp=LEFT_OUT),
    "without an id": lambda runtime: runtime.signed(jti=LEFT_OUT),
    "too long": lambda runtime: runtime.signed(note="x" * 4_000),
}


def test_without_a_proof_of_the_key_the_code_stays_usable(runtime: Runtime) -> None:
    code = runtime.code()
    for what, proof in PROOFS.items():
        answer = runtime.enrol(code=code, proof=proof(runtime))
        assert (answer.status_code, answer.json()["error"]) == (403, "invalid_enrolment"), what
    assert_nothing_enrolled()
    assert runtime.enrol(code=code).status_code == 201


def test_a_private_key_is_refused_and_not_repeated(runtime: Runtime) -> None:
    code = runtime.code()
    private = dict(runtime.key.as_dict(private=True))
    answer = runtime.enrol(code=code, jwk=private)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_key")
    assert private["d"] not in answer.content.decode()
    assert_nothing_enrolled()
    assert Runtime(runtime.identity).enrol(code=code).status_code == 201


KEYS: dict[str, Callable[[], Any]] = {
    "nothing": lambda: None,
    "text": lambda: "key",
    "a list": list,
    "an empty object": dict,
    "another curve": lambda: ec_key("P-384").as_dict(private=False),
    "a key for agreement": lambda: OKPKey.generate_key("X25519").as_dict(private=False),
    "RSA": lambda: RSAKey.generate_key(2048).as_dict(private=False),
    "a shared secret": lambda: OctKey.generate_key(256).as_dict(),
    "half a point": lambda: {**ec_key().as_dict(private=False), "y": ""},
    "off the curve": lambda: {**ec_key().as_dict(private=False), "y": "AQ"},
    "numbers": lambda: {"kty": "EC", "crv": "P-256", "x": 1, "y": 2},
    "padded": lambda: {"kty": "OKP", "crv": "Ed25519", "x": "AA=="},
    "large": lambda: {**ec_key().as_dict(private=False), "note": "x" * 3_000},
    "deep": lambda: {"kty": json.loads("[" * 300 + "]" * 300)},
}


def test_keys_of_other_kinds_are_refused(runtime: Runtime) -> None:
    code = runtime.code()
    for what, make_key in KEYS.items():
        answer = runtime.enrol(code=code, jwk=make_key())
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_key"), what
    assert_nothing_enrolled()
    assert runtime.enrol(code=code).status_code == 201


def test_a_key_belongs_to_one_identity_for_ever(runtime: Runtime, other: Runtime) -> None:
    runtime.enrol()
    thief, code = Runtime(other.identity, runtime.key), other.code()
    answer = thief.enrol(code=code)
    assert (answer.status_code, answer.json()["error"]) == (409, "key_already_used")
    assert AgentKey.objects.get().identity == runtime.identity
    AgentKey.objects.update(status=AgentKey.Status.REVOKED)
    assert thief.enrol(code=code).status_code == 409
    assert other.enrol(code=code).status_code == 201


def test_a_key_is_not_shared_between_the_environments_of_one_agent(
    runtime: Runtime, staging: Environment
) -> None:
    runtime.enrol()
    twin = AgentIdentity.objects.create(
        agent=runtime.identity.agent, environment=staging, client_id="tilda.staging"
    )
    assert Runtime(twin, runtime.key).enrol().status_code == 409
    assert not twin.keys.exists()


ALPHABET = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"


def respelt(value: str) -> list[str]:
    """Other ways in which a member of a JWK might say the same number."""
    number = base64.urlsafe_b64decode(value + "=")
    # The last of 43 characters has two bits that are no part of the number.
    kin = ALPHABET[ALPHABET.index(value[-1]) ^ 1]
    return [
        encoded(b"\x00" + number),
        encoded(bytes(8) + number),
        value[:-1] + kin,
        f"{value}=",
        f"{value[:20]}\n{value[20:]}",
        f" {value}",
        value.replace("-", "+").replace("_", "/"),
    ]


def spellings(public: dict[str, Any]) -> list[dict[str, Any]]:
    members = [name for name in ("x", "y") if name in public]
    return [{**public, name: text} for name in members for text in respelt(public[name])]


@pytest.mark.parametrize("make_key", [ec_key, ed_key])
def test_one_point_has_one_thumbprint_however_it_is_spelt(
    make_key: Callable[[], PrivateKey],
) -> None:
    key = make_key()
    _, accepted = accepted_public_key(key.as_dict(private=False))
    for jwk in spellings(dict(key.as_dict(private=False))):
        try:
            _, again = accepted_public_key(jwk)
        except InvalidKey:
            continue
        assert again.thumbprint() == accepted.thumbprint() == key.thumbprint(), jwk
        assert again.as_dict(private=False) == accepted.as_dict(private=False)


@pytest.mark.parametrize("make_key", [ec_key, ed_key])
def test_another_spelling_does_not_enrol_a_key_a_second_time(
    identity: AgentIdentity, other: Runtime, make_key: Callable[[], PrivateKey]
) -> None:
    first = enrolled(identity, make_key())
    thief, code = Runtime(other.identity, first.key), other.code()
    for jwk in spellings(first.public):
        assert thief.enrol(code=code, jwk=jwk).status_code in {400, 409}, jwk
    assert AgentKey.objects.get().identity == identity


STOPS: dict[str, Callable[[AgentIdentity], Any]] = {
    "suspended agent": lambda i: lifecycle.suspend(i.agent_id, actor=SYSTEM, reason="Stop."),
    "retired agent": lambda i: lifecycle.retire(i.agent_id, actor=SYSTEM, reason="Stop."),
    "suspended identity": lambda i: lifecycle.suspend_identity(i.pk, actor=SYSTEM, reason="Stop."),
}


@pytest.mark.parametrize("stop", STOPS.values(), ids=STOPS)
def test_who_is_stopped_gets_no_code_and_enrols_with_none(
    runtime: Runtime, stop: Callable[[AgentIdentity], Any]
) -> None:
    code = runtime.code()
    stop(runtime.identity)
    with pytest.raises(InvalidLifecycleTransition):
        runtime.code()
    answer = runtime.enrol(code=code)
    assert (answer.status_code, answer.json()["error"]) == (403, "invalid_enrolment")
    assert EnrolmentCode.objects.count() == 1
    assert_nothing_enrolled()


def test_a_draft_gets_its_key_before_it_is_activated(olga: User, prod: Environment) -> None:
    agent = lifecycle.register_agent(
        "draft", actor=SYSTEM, title="Draft", purpose="Wait.", owner=olga, sponsor=olga
    )
    identity = lifecycle.create_identity(agent.pk, actor=SYSTEM, environment=prod)
    assert Runtime(identity).enrol().status_code == 201


def test_text_that_cannot_be_encoded_is_refused(runtime: Runtime) -> None:
    for text in ("\ud800", "\x00", "a.\ud800.c", "a.b.\x00"):
        assert runtime.enrol(code=text).status_code == 403
        assert runtime.enrol(proof=text).status_code == 403
        for name in ("kty", "crv", "x", "y"):
            answer = runtime.enrol(jwk={**runtime.public, name: text})
            assert (answer.status_code, answer.json()["error"]) == (400, "invalid_key")
    assert_nothing_enrolled()


def test_a_deep_body_is_refused(runtime: Runtime) -> None:
    for levels in (100, 900, 950, 980, 990, 1_000, 5_000):
        deep = "[" * levels + "]" * levels
        for name in ("kty", "x", "note"):
            body = f'{{"code": "guess", "proof": "", "jwk": {{"{name}": {deep}}}}}'
            assert runtime.send_enrolment(body).status_code == 400, levels
    assert_nothing_enrolled()


@pytest.mark.parametrize("length", ["abc", "-1", "1e3", "", "9" * 30])
def test_a_length_that_is_no_number_is_refused(runtime: Runtime, length: str) -> None:
    body = json.dumps({"code": "guess", "jwk": runtime.public, "proof": ""})
    answer = runtime.http.post(
        "/oauth/enrol", data=body, content_type="application/json", CONTENT_LENGTH=length
    )
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


def test_a_body_that_is_not_an_object_is_refused(runtime: Runtime) -> None:
    for body in ("", "{", "[]", "null", '"text"', "[" * 10_000, b"\xff\xfe\xfd"):
        answer = runtime.send_enrolment(body)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request"), body
    assert_nothing_enrolled()


def test_a_body_of_a_megabyte_is_refused(runtime: Runtime) -> None:
    body = {"code": runtime.code(), "jwk": runtime.public, "proof": runtime.signed()}
    answer = runtime.send_enrolment(json.dumps({**body, "note": "x" * 1_000_000}))
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    assert_nothing_enrolled()


def test_enrolments_are_counted_per_minute(runtime: Runtime, settings: Settings) -> None:
    settings.TOKEN_LIMIT_PER_ADDRESS = 3
    statuses = [runtime.enrol(code="guess").status_code for _ in range(7)]
    assert statuses[:3] == [403, 403, 403]
    assert 429 in statuses


def test_enrolment_is_posted(runtime: Runtime) -> None:
    assert runtime.http.get("/oauth/enrol").status_code == 405


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_of_eight_keys_with_one_code_one_is_enrolled(identity: AgentIdentity) -> None:
    runtimes = [enrolled(identity), *(Runtime(identity) for _ in range(8))]
    code = runtimes[0].code()
    answers = all_at_once([partial(one.enrol, code=code) for one in runtimes[1:]])
    assert sorted(answer.status_code for answer in answers) == [201] + [403] * 7
    assert identity.keys.count() == 2


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_of_two_identities_with_one_key_one_enrols_it(runtime: Runtime, other: Runtime) -> None:
    twins = [Runtime(runtime.identity, runtime.key), Runtime(other.identity, runtime.key)] * 3
    answers = all_at_once([partial(one.enrol, code=one.code()) for one in twins])
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 5
    assert AgentKey.objects.count() == 1
