import hmac
import json
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest
from django.conf import settings
from joserfc import jwt
from joserfc.jwk import ECKey

from accounts.models import Environment, User
from actions.models import Action, Run
from agents import tokens
from agents.directory import directory
from agents.errors import InvalidScope, InvalidToken
from agents.keys import opened_signing_key
from agents.models import AgentIdentity, SigningKey
from agents.services import lifecycle
from agents.tokens import Caller, granted_scope, revalidate, verify
from common.actors import SYSTEM
from tests import factories
from tests.agents.runtimes import LEFT_OUT, ec_key, encoded
from tests.conftest import Api
from tests.factories import Governed

pytestmark = [
    pytest.mark.django_db,
    # The static files of the pages are collected on installation only.
    pytest.mark.filterwarnings("ignore:No directory at"),
]


class Forge:
    """Makes tokens with an environment's own signing key, right but for what a test changes."""

    def __init__(self, identity: AgentIdentity) -> None:
        self.identity = identity
        row = SigningKey.objects.get(environment=identity.environment, status="active")
        self.kid = row.kid
        self.key = opened_signing_key(row.environment_id, row.kid, bytes(row.sealed_private))

    def claims(self, **changes: Any) -> dict[str, Any]:
        known = directory.current().identities[self.identity.client_id]
        _, claims = tokens.mint(tokens.TokenSpec(known, "tools"), kid=self.kid, key=self.key)
        changed = {**claims, **changes}
        return {name: value for name, value in changed.items() if value is not LEFT_OUT}

    def token(
        self, *, by: ECKey | None = None, header: dict[str, Any] | None = None, **claims: Any
    ) -> str:
        head = {"alg": "ES256", "typ": "at+jwt", "kid": self.kid, **(header or {})}
        head = {name: value for name, value in head.items() if value is not LEFT_OUT}
        return jwt.encode(head, self.claims(**claims), by or self.key)


@pytest.fixture
def forge(identity: AgentIdentity) -> Forge:
    return Forge(identity)


@pytest.fixture
def in_staging(identity: AgentIdentity, staging: Environment) -> AgentIdentity:
    """Tilda's identity in staging."""
    return lifecycle.create_identity(identity.agent_id, actor=SYSTEM, environment=staging)


def caller_of(token: str) -> Caller:
    return verify(token, directory.current())


def is_alive(token: str) -> bool:
    try:
        caller_of(token)
    except InvalidToken:
        return False
    return True


def assert_dead(token: str, what: str = "") -> None:
    # Twice: what is remembered of a signature must not bring a token back to life.
    assert not is_alive(token), what
    assert not is_alive(token), what


def test_a_token_tells_who_calls(identity: AgentIdentity) -> None:
    caller = caller_of(factories.token_for(identity, scope="system:bank tool:shop.order"))
    assert caller.identity.client_id == "tilda.prod"
    assert caller.identity.environment == "prod"
    assert caller.scopes == {"system:bank", "tool:shop.order"}
    assert caller.epoch == identity.epoch


def test_a_forged_token_is_right_if_nothing_is_changed(forge: Forge) -> None:
    assert caller_of(forge.token()).identity.client_id == "tilda.prod"


def test_each_environment_signs_for_itself(forge: Forge, in_staging: AgentIdentity) -> None:
    staging = Forge(in_staging)
    assert caller_of(staging.token()).identity.environment == "staging"
    for by, kid in ((staging.key, staging.kid), (staging.key, forge.kid)):
        assert_dead(forge.token(by=by, header={"kid": kid}))
    assert_dead(staging.token(by=forge.key, header={"kid": forge.kid}))


def test_a_staging_key_does_not_sign_claims_of_production(
    forge: Forge, in_staging: AgentIdentity
) -> None:
    staging, of_production = Forge(in_staging), forge.claims()
    names = ("aud", "env", "client_id", "eps")
    for count in range(1, len(names) + 1):
        for some in combinations(names, count):
            token = staging.token(**{name: of_production[name] for name in some})
            assert_dead(token, " ".join(some))


Forgeries = dict[str, Callable[[Forge], str]]
HEADERS: Forgeries = {
    "wrong type": lambda f: f.token(header={"typ": "JWT"}),
    "no type": lambda f: f.token(header={"typ": LEFT_OUT}),
    "unknown key": lambda f: f.token(header={"kid": "prod-unknown"}),
    "no key": lambda f: f.token(header={"kid": LEFT_OUT}),
    "another's signature": lambda f: f.token(by=ec_key()),
    "too long": lambda f: f.token(note="x" * 8_000),
}
PLACES: Forgeries = {
    "another issuer": lambda f: f.token(iss="https://elsewhere.example.org"),
    "no issuer": lambda f: f.token(iss=LEFT_OUT),
    "another audience": lambda f: f.token(aud=f"{settings.ISSUER}/env/staging"),
    "a list of audiences": lambda f: f.token(aud=[f.claims()["aud"]]),
    "no audience": lambda f: f.token(aud=LEFT_OUT),
    "another environment": lambda f: f.token(env="staging"),
    "an unknown client": lambda f: f.token(client_id="nobody.prod"),
    "no client": lambda f: f.token(client_id=LEFT_OUT),
}
TIMES: Forgeries = {
    "expired": lambda f: f.token(exp=int(time.time()) - 1),
    "expiring now": lambda f: f.token(exp=int(time.time())),
    "no end": lambda f: f.token(exp=LEFT_OUT),
    "an end in text": lambda f: f.token(exp=str(int(time.time()) + 60)),
    "from the future": lambda f: f.token(iat=int(time.time()) + 100),
    "no beginning": lambda f: f.token(iat=LEFT_OUT),
}
EPOCHS: Forgeries = {
    "no epoch": lambda f: f.token(eps=LEFT_OUT),
    "an empty epoch": lambda f: f.token(eps={}),
    "a bare epoch": lambda f: f.token(eps=1),
    "an epoch to come": lambda f: f.token(eps={"tilda.prod": 2}),
    "an epoch in text": lambda f: f.token(eps={"tilda.prod": "1"}),
}


@pytest.mark.parametrize(
    "forgeries", [HEADERS, PLACES, TIMES, EPOCHS], ids=["headers", "places", "times", "epochs"]
)
def test_a_token_that_is_not_right_is_dead(forge: Forge, forgeries: Forgeries) -> None:
    for what, made in forgeries.items():
        assert_dead(made(forge), what)


def test_a_tampered_token_is_dead(forge: Forge) -> None:
    token = forge.token()
    for position in range(0, len(token) - 1, 7):
        other = "A" if token[position] != "A" else "B"
        assert_dead(token[:position] + other + token[position + 1 :], str(position))


def test_what_is_no_token_is_dead(identity: AgentIdentity) -> None:
    for text in ("", ".", "..", "a.b.c", "a.b", "a.b.c.d.e", "é.é.é", "x" * 9_000):
        assert_dead(text, text[:20])


def test_no_algorithm_but_es256_is_accepted(forge: Forge) -> None:
    head, body, signature = forge.token().split(".")
    public = forge.key.as_pem(private=False)
    for algorithm in ("none", "HS256", "ES384"):
        header = json.dumps({"alg": algorithm, "typ": "at+jwt", "kid": forge.kid}).encode()
        changed = f"{encoded(header)}.{body}"
        confused = hmac.digest(public, changed.encode(), "sha256")
        for end in ("", signature, encoded(confused)):
            assert_dead(f"{changed}.{end}")
    assert is_alive(f"{head}.{body}.{signature}")


STOPS: dict[str, Callable[[AgentIdentity], Any]] = {
    "suspended agent": lambda i: lifecycle.suspend(i.agent_id, actor=SYSTEM, reason="Stop."),
    "retired agent": lambda i: lifecycle.retire(i.agent_id, actor=SYSTEM, reason="Stop."),
    "suspended identity": lambda i: lifecycle.suspend_identity(i.pk, actor=SYSTEM, reason="Stop."),
}


@pytest.mark.parametrize("stop", STOPS.values(), ids=STOPS)
def test_a_stop_kills_tokens_that_were_already_used(
    identity: AgentIdentity, stop: Callable[[AgentIdentity], Any]
) -> None:
    token = factories.token_for(identity)
    caller = caller_of(token)
    assert revalidate(caller, directory.current()).epoch == caller.epoch
    stop(identity)
    assert_dead(token)
    with pytest.raises(InvalidToken):
        revalidate(caller, directory.current())


def test_a_resumed_identity_needs_a_new_token(identity: AgentIdentity) -> None:
    before = factories.token_for(identity)
    lifecycle.suspend_identity(identity.pk, actor=SYSTEM, reason="Stop.")
    while_suspended = factories.token_for(identity)
    assert_dead(while_suspended)
    lifecycle.resume_identity(identity.pk, actor=SYSTEM, reason="Go on.")
    assert_dead(before)
    assert caller_of(factories.token_for(identity)).epoch == 2


def test_a_reactivated_agent_needs_new_tokens(
    identity: AgentIdentity, in_staging: AgentIdentity
) -> None:
    before = [factories.token_for(one) for one in (identity, in_staging)]
    lifecycle.suspend(identity.agent_id, actor=SYSTEM, reason="Stop.")
    lifecycle.activate(identity.agent_id, actor=SYSTEM, reason="Go on.")
    for token in before:
        assert_dead(token)
    assert is_alive(factories.token_for(identity))


def test_stopping_one_identity_leaves_the_other(
    identity: AgentIdentity, in_staging: AgentIdentity
) -> None:
    token = factories.token_for(in_staging)
    lifecycle.suspend_identity(identity.pk, actor=SYSTEM, reason="Stop.")
    assert caller_of(token).identity.environment == "staging"


def test_without_an_active_sponsor_a_token_is_dead(identity: AgentIdentity, olga: User) -> None:
    token = factories.token_for(identity)
    assert is_alive(token)
    olga.is_active = False
    olga.save()
    assert_dead(token)


@pytest.mark.parametrize(
    ("status", "alive"),
    [(SigningKey.Status.RETIRING, True), (SigningKey.Status.REVOKED, False)],
)
def test_a_signing_key_counts_until_it_is_revoked(
    identity: AgentIdentity, status: str, *, alive: bool
) -> None:
    token = factories.token_for(identity)
    assert is_alive(token)
    key = SigningKey.objects.get()
    key.status = status
    key.save()
    assert is_alive(token) is alive


def test_a_caller_is_not_seen_once_the_key_that_signed_is_revoked(identity: AgentIdentity) -> None:
    caller = caller_of(factories.token_for(identity))
    key = SigningKey.objects.get()
    assert caller.kid == key.kid
    key.status = SigningKey.Status.REVOKED
    key.save()
    with pytest.raises(InvalidToken):
        revalidate(caller, directory.current())


def test_a_caller_is_seen_as_the_identity_is_now(identity: AgentIdentity) -> None:
    caller = caller_of(factories.token_for(identity, scope="system:bank"))
    identity.agent.risk = "high"
    identity.agent.save()
    seen = revalidate(caller, directory.current())
    assert (caller.identity.risk, seen.identity.risk) == ("medium", "high")
    assert (seen.scopes, seen.jti, seen.kid) == (caller.scopes, caller.jti, caller.kid)


def test_an_identity_that_is_gone_is_not_seen(identity: AgentIdentity) -> None:
    caller = caller_of(factories.token_for(identity))
    known = directory.current()
    for without in (replace(known, identities={}), replace(known, verification_keys={})):
        with pytest.raises(InvalidToken):
            revalidate(caller, without)


def test_a_scope_is_a_ceiling(identity: AgentIdentity) -> None:
    for scope, tool, covered in (
        ("tools", "bank.pay", True),
        ("system:bank", "bank.pay", True),
        ("system:bank", "shop.order", False),
        ("system:ban", "bank.pay", False),
        ("system:bank", "bank2.pay", False),
        ("tool:bank.pay", "bank.pay", True),
        ("tool:bank.pay", "bank.pay_out", False),
        ("tool:bank", "bank.pay", False),
        ("system:shop tool:bank.pay", "bank.pay", True),
        ("system:", "bank.pay", False),
        ("", "bank.pay", False),
    ):
        caller = caller_of(factories.token_for(identity, scope=scope))
        assert caller.scope_covers(tool) is covered, scope


@pytest.mark.parametrize(
    "asked", ["all", "bank", "system", "tool", "system:bänk tool,x", "tools " * 334]
)
def test_a_scope_that_is_not_known_is_not_granted(asked: str) -> None:
    with pytest.raises(InvalidScope):
        granted_scope(asked)


def test_an_action_outside_the_tokens_scope_is_denied(governed: Governed) -> None:
    run = governed.run()
    api = Api(factories.token_for(governed.identity, scope="system:other tool:toolbox.mail"))
    body = {"run": str(run.pk), "tool": "toolbox.pay", "arguments": {"account": "a", "amount": 1}}
    answer = api.post("actions", body, key="k").json()
    assert answer["status"] == "denied"
    assert answer["decision"]["reasons"][0]["rule"] == "chancery:out-of-scope"
    mail = {"run": str(run.pk), "tool": "toolbox.mail", "arguments": {"to": "x"}}
    assert api.post("actions", mail, key="l").json()["status"] == "succeeded"
    assert governed.toolbox.effects == [("mail", {"to": "x"})]


RUN = {"initiator_kind": "user", "initiator": "somebody", "purpose": "testing"}


def assert_turned_away(answer: Any) -> None:
    assert answer.status_code == 401
    assert answer["Content-Type"] == "application/problem+json"
    assert answer["WWW-Authenticate"].startswith("Bearer")
    assert answer.json()["code"] == "invalid_token"
    assert not Run.objects.exists()


AUTHORIZATIONS: dict[str, Callable[[str], str]] = {
    "none": lambda token: "",
    "scheme only": lambda token: "Bearer",
    "scheme and space": lambda token: "Bearer ",
    "Basic": lambda token: "Basic dGlsZGE6c2VjcmV0",
    "Basic with a token": lambda token: f"Basic {token}",
    "Token": lambda token: f"Token {token}",
    "no scheme": lambda token: token,
    "no space": lambda token: f"Bearer:{token}",
    "two headers": lambda token: f"Bearer {token}, Bearer {token}",
    "two headers, one empty": lambda token: f"Bearer {token},",
    "two tokens": lambda token: f"Bearer {token} {token}",
    "half a token": lambda token: f"Bearer {token[:-20]}",
    "not ASCII": lambda token: "Bearer é.ü.ß",
}


def test_without_exactly_one_bearer_token_the_api_is_closed(identity: AgentIdentity) -> None:
    token, outside = factories.token_for(identity), Api("")
    for header in AUTHORIZATIONS.values():
        assert_turned_away(outside.post("runs", RUN, Authorization=header(token)))
    assert outside.post("runs", RUN, Authorization=f"bearer {token}").status_code == 201


def test_a_token_elsewhere_than_in_the_header_does_not_count(identity: AgentIdentity) -> None:
    token, outside = factories.token_for(identity), Api("")
    assert_turned_away(outside.post(f"runs?access_token={token}", RUN))
    assert_turned_away(outside.post("runs", {**RUN, "access_token": token}))
    assert_turned_away(outside.post("runs", RUN, Cookie=f"access_token={token}"))


def test_every_address_of_the_api_wants_a_token(identity: AgentIdentity) -> None:
    outside = Api("")
    assert_turned_away(outside.get("tools"))
    assert_turned_away(outside.get("runs/01960000-0000-7000-8000-000000000001"))
    assert_turned_away(outside.get("actions/01960000-0000-7000-8000-000000000001"))
    assert_turned_away(outside.post("actions", {}, key="k"))


def test_after_a_stop_nothing_more_is_done(governed: Governed, api: Api) -> None:
    run = governed.run()
    lifecycle.suspend_identity(governed.identity.pk, actor=SYSTEM, reason="Stop.")
    body = {"run": str(run.pk), "tool": "toolbox.mail", "arguments": {"to": "x"}}
    answer = api.post("actions", body, key="k")
    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_token")
    assert api.post("runs", RUN).status_code == 401
    assert (Run.objects.count(), Action.objects.count()) == (1, 0)
    assert governed.toolbox.effects == []
