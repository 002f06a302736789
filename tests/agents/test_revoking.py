"""Tokens given back, looked into, bound to keys, and got by another issuer's word."""

import time
from typing import Any
from uuid import uuid4

import pytest
from django.conf import settings
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from accounts.models import Environment, User
from agents.errors import CredentialTaken, InvalidKey, InvalidLifecycleTransition
from agents.models import AgentIdentity, FederatedCredential, RevokedToken
from agents.services import federation, token_service
from audit.models import Event
from common.actors import SYSTEM, Actor
from common.errors import GovernanceError, InvalidInput
from tests import factories
from tests.agents.runtimes import Runtime, dpop_proof, ec_key, ed_key, encoded, enrolled
from tests.conftest import Api

pytestmark = pytest.mark.django_db


@pytest.fixture
def runtime(identity: AgentIdentity) -> Runtime:
    return enrolled(identity)


@pytest.fixture
def other(olga: User, prod: Environment) -> Runtime:
    return enrolled(factories.identity("otto", owner=olga, environment=prod))


@pytest.fixture
def elsewhere(identity: AgentIdentity) -> Runtime:
    staging = Environment.objects.create(slug="staging", title="Staging")
    from agents.services import lifecycle, signing_keys  # noqa: PLC0415 - only here

    signing_keys.ensure_signing_key(staging, actor=SYSTEM)
    return enrolled(lifecycle.create_identity(identity.agent_id, actor=SYSTEM, environment=staging))


def token_of(runtime: Runtime, **changes: Any) -> str:
    return str(runtime.ask(**changes).json()["access_token"])


# -- RFC 7009 --------------------------------------------------------------------------------------


def test_a_token_that_is_given_back_is_dead_and_others_are_not(runtime: Runtime) -> None:
    token, kept = token_of(runtime), token_of(runtime)
    assert runtime.send("/oauth/revoke", {"token": token}).status_code == 200
    assert Api(token).get("tools").status_code == 401
    assert Api(kept).get("tools").status_code == 200
    assert runtime.send("/oauth/revoke", {"token": token}).status_code == 200  # as before
    assert Event.objects.filter(type="credential.token_revoked").count() == 1


def test_a_token_that_is_none_is_given_back_without_ado(runtime: Runtime) -> None:
    for token in ("", "x", "a.b.c", runtime.signed()):
        assert runtime.send("/oauth/revoke", {"token": token}).status_code == 200
    assert not RevokedToken.objects.exists()


def test_nobody_gives_back_anothers_token(runtime: Runtime, other: Runtime) -> None:
    token = token_of(runtime)
    answer = other.send("/oauth/revoke", {"token": token})
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    answer = other.http.post("/oauth/revoke", {"token": token})
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
    assert Api(token).get("tools").status_code == 200


def test_an_assertion_gives_back_once(runtime: Runtime) -> None:
    assertion = runtime.signed()
    form = {**runtime.client(assertion), "token": token_of(runtime)}
    assert runtime.http.post("/oauth/revoke", form).status_code == 200
    assert runtime.http.post("/oauth/revoke", form).status_code == 401
    assert runtime.ask(assertion).status_code == 401


def test_tokens_that_are_over_are_forgotten(runtime: Runtime) -> None:
    runtime.send("/oauth/revoke", {"token": token_of(runtime)})
    assert token_service.prune_revoked() == 0
    RevokedToken.objects.update(expires_at="2020-01-01T00:00:00Z")
    assert token_service.prune_revoked() == 1


# -- RFC 7662 --------------------------------------------------------------------------------------


def test_a_token_is_looked_into_by_an_agent_of_its_environment(
    runtime: Runtime, other: Runtime
) -> None:
    token = token_of(runtime, scope="system:bank")
    said = other.send("/oauth/introspect", {"token": token}).json()
    assert (said["active"], said["client_id"], said["scope"]) == (True, "tilda.prod", "system:bank")
    assert (said["iss"], said["token_type"]) == (settings.ISSUER, "Bearer")
    assert "eps" not in said


def test_all_that_may_not_be_used_now_is_only_not_active(
    runtime: Runtime, elsewhere: Runtime
) -> None:
    token = token_of(runtime)
    runtime.send("/oauth/revoke", {"token": token})
    for answer in (
        runtime.send("/oauth/introspect", {"token": token}),
        runtime.send("/oauth/introspect", {"token": "x"}),
        runtime.send("/oauth/introspect", {"token": runtime.signed()}),
        elsewhere.send("/oauth/introspect", {"token": token_of(runtime)}),
    ):
        assert (answer.status_code, answer.json()) == (200, {"active": False})
    assert runtime.http.post("/oauth/introspect", {"token": token}).status_code == 401


# -- RFC 8707, 9728 --------------------------------------------------------------------------------


def test_a_token_is_for_its_own_environment(runtime: Runtime) -> None:
    resource = f"{settings.ISSUER}/env/prod"
    assert runtime.ask(resource=resource).status_code == 200
    for wrong in (f"{settings.ISSUER}/env/staging", settings.ISSUER, f"{resource}/", "prod"):
        answer = runtime.ask(resource=wrong)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_target")


def test_a_resource_says_who_gives_tokens_for_it(runtime: Runtime) -> None:
    said = runtime.http.get("/.well-known/oauth-protected-resource/env/prod").json()
    assert said["resource"] == f"{settings.ISSUER}/env/prod"
    assert said["authorization_servers"] == [settings.ISSUER]
    assert "scopes_supported" not in said
    assert runtime.http.get("/.well-known/oauth-protected-resource/env/no").status_code == 404


# -- RFC 9449 --------------------------------------------------------------------------------------


class Bound:
    """A token that is bound to `key`, and requests with it."""

    def __init__(self, runtime: Runtime) -> None:
        self.http, self.key = runtime.http, ec_key()
        proof = dpop_proof(self.key, "POST", "/oauth/token")
        answer = runtime.http.post(
            "/oauth/token",
            {"grant_type": "client_credentials", **runtime.client()},
            headers={"DPoP": proof},
        )
        assert (answer.status_code, answer.json()["token_type"]) == (200, "DPoP")
        self.token = answer.json()["access_token"]

    def proof(self, **changes: Any) -> str:
        given = {"method": "GET", "path": "/api/v1/tools", "token": self.token, **changes}
        key = given.pop("key", self.key)
        return dpop_proof(key, given.pop("method"), given.pop("path"), given.pop("token"), **given)

    def get(self, proof: str, scheme: str = "DPoP") -> int:
        headers = {"Authorization": f"{scheme} {self.token}", **({"DPoP": proof} if proof else {})}
        return int(self.http.get("/api/v1/tools", headers=headers).status_code)


def test_a_bound_token_is_of_use_to_the_holder_of_its_key_only(runtime: Runtime) -> None:
    bound = Bound(runtime)
    proof = bound.proof()
    assert bound.get(proof) == 200
    assert bound.get(proof) == 401  # a proof is seen once
    wrong = {
        "without a proof": "",
        "by another key": bound.proof(key=ec_key()),
        "for another method": bound.proof(method="POST"),
        "for another address": bound.proof(path="/api/v1/runs"),
        "for another token": bound.proof(token="x"),
        "for no token": bound.proof(token=""),
        "of long ago": bound.proof(iat=int(time.time()) - 120),
        "of times to come": bound.proof(iat=int(time.time()) + 120),
        "without a number": bound.proof(jti=""),
        "no proof at all": "x",
        "two of them": f"{bound.proof()},{bound.proof()}",
    }
    assert {case: bound.get(proof) for case, proof in wrong.items()} == dict.fromkeys(wrong, 401)
    assert bound.get(bound.proof(), scheme="Bearer") == 401
    assert bound.get("", scheme="Bearer") == 401


def test_a_token_that_is_not_bound_is_a_bearers(runtime: Runtime) -> None:
    token = token_of(runtime)
    headers = {
        "Authorization": f"DPoP {token}",
        "DPoP": dpop_proof(ec_key(), "GET", "/api/v1/tools", token),
    }
    assert runtime.http.get("/api/v1/tools", headers=headers).status_code == 401


def test_an_identity_that_must_prove_its_key_gets_no_other_token(runtime: Runtime) -> None:
    before = token_of(runtime)
    federation.require_dpop(runtime.identity.pk, actor=SYSTEM, required=True)
    answer = runtime.ask()
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_dpop_proof")
    assert Api(before).get("tools").status_code == 401
    bound = Bound(runtime)
    assert bound.get(bound.proof()) == 200
    federation.require_dpop(runtime.identity.pk, actor=SYSTEM, required=False)
    assert runtime.ask().status_code == 200
    assert bound.get(bound.proof()) == 200


def test_a_bound_token_is_not_exchanged(runtime: Runtime, other: Runtime) -> None:
    federation.allow_delegation(
        runtime.identity.agent_id,
        actor=SYSTEM,
        acting_agent=other.identity.agent,
        scope="tools",
        max_depth=1,
        reason="It helps.",
    )
    answer = other.exchange(Bound(runtime).token)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")


# -- other issuers ---------------------------------------------------------------------------------

ISSUER, SUBJECT = "https://ci.example", "repo:bank:ref:main"


class Pipeline:
    """A CI service that signs who a job is."""

    def __init__(self, key: Any = None, algorithm: str = "RS256") -> None:
        self.key = key or RSAKey.generate_key(2048, private=True)
        self.algorithm = algorithm

    @property
    def jwks(self) -> dict[str, Any]:
        return {"keys": [{**self.key.as_dict(private=False), "kid": "ci-1"}]}

    def says(self, *, by: Any = None, **changes: Any) -> str:
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "sub": SUBJECT,
            "aud": settings.ISSUER,
            "iat": now,
            "exp": now + 3600,
            "jti": str(uuid4()),
            **changes,
        }
        header = {"alg": self.algorithm, "kid": "ci-1"}
        return jwt.encode(header, claims, by or self.key, algorithms=[self.algorithm])


@pytest.fixture
def pipeline(identity: AgentIdentity) -> Pipeline:
    found = Pipeline()
    federation.trust_issuer(
        identity.pk, actor=SYSTEM, issuer=ISSUER, subject=SUBJECT, jwks=found.jwks
    )
    return found


def test_a_job_gets_its_identitys_token_by_its_issuers_word(
    identity: AgentIdentity, pipeline: Pipeline
) -> None:
    runtime = Runtime(identity)
    word = pipeline.says()
    assert runtime.ask(word).status_code == 200
    answer = runtime.ask(word)  # an issuer's word is used until it is over
    assert answer.status_code == 200
    assert runtime.ask(pipeline.says(aud=[settings.ISSUER])).status_code == 200
    assert Api(answer.json()["access_token"]).get("tools").status_code == 200


def test_what_an_issuer_did_not_say_so_is_refused(
    identity: AgentIdentity, pipeline: Pipeline
) -> None:
    now = int(time.time())
    said = {
        "by another key": pipeline.says(by=RSAKey.generate_key(2048, private=True)),
        "of another job": pipeline.says(sub="repo:bank:ref:other"),
        "by another issuer": pipeline.says(iss="https://evil.example"),
        "to somebody else": pipeline.says(aud="https://other"),
        "to several": pipeline.says(aud=[settings.ISSUER, "https://other"]),
        "that is over": pipeline.says(iat=now - 100, exp=now - 1),
        "for ever": pipeline.says(exp=now + 10**9),
        "mixed up": Pipeline(ec_key(), "ES256").says(),
    }
    runtime = Runtime(identity)
    answers = {case: runtime.ask(word) for case, word in said.items()}
    assert {case: answer.status_code for case, answer in answers.items()} == dict.fromkeys(
        said, 401
    )
    assert len({answer.content for answer in answers.values()}) == 1


def test_an_issuer_that_is_trusted_no_more_proves_nothing(
    identity: AgentIdentity, pipeline: Pipeline
) -> None:
    runtime = Runtime(identity)
    token = token_of_word(runtime, pipeline)
    found = FederatedCredential.objects.get()
    federation.trust_issuer_no_more(found.pk, actor=SYSTEM, reason="The job is gone.")
    assert runtime.ask(pipeline.says()).status_code == 401
    assert Api(token).get("tools").status_code == 401
    with pytest.raises(InvalidLifecycleTransition):
        federation.trust_issuer_no_more(found.pk, actor=SYSTEM, reason="Again.")


def token_of_word(runtime: Runtime, pipeline: Pipeline) -> str:
    return str(runtime.ask(pipeline.says()).json()["access_token"])


def test_one_subject_is_one_identity_for_ever(
    identity: AgentIdentity, pipeline: Pipeline, other: Runtime
) -> None:
    for identity_id in (identity.pk, other.identity.pk):
        with pytest.raises(CredentialTaken):
            federation.trust_issuer(
                identity_id, actor=SYSTEM, issuer=ISSUER, subject=SUBJECT, jwks=pipeline.jwks
            )
    assert FederatedCredential.objects.count() == 1


@pytest.mark.parametrize(
    "jwks",
    [
        None,
        {},
        {"keys": []},
        {"keys": [{"kty": "RSA"}]},
        {"keys": [{"kty": "oct", "k": "c2VjcmV0"}]},
        {"keys": [{"kty": "RSA", "n": encoded(b"\xff" * 128), "e": "AQAB"}]},
        {"keys": [RSAKey.generate_key(2048, private=True).as_dict(private=True)]},
        {"keys": [ECKey.generate_key("P-256", private=True).as_dict(private=False)] * 21},
    ],
)
def test_only_public_keys_that_are_strong_are_pinned(identity: AgentIdentity, jwks: Any) -> None:
    with pytest.raises(InvalidKey):
        federation.trust_issuer(
            identity.pk, actor=SYSTEM, issuer=ISSUER, subject=SUBJECT, jwks=jwks
        )
    assert not FederatedCredential.objects.exists()


def test_an_issuer_is_an_address_and_is_named_by_who_answers(
    identity: AgentIdentity, sam: User
) -> None:
    keys = Pipeline(ed_key(), "Ed25519").jwks
    with pytest.raises(InvalidInput):
        federation.trust_issuer(
            identity.pk, actor=SYSTEM, issuer="http://ci", subject=SUBJECT, jwks=keys
        )
    with pytest.raises(GovernanceError):
        federation.trust_issuer(
            identity.pk, actor=Actor.from_user(sam), issuer=ISSUER, subject=SUBJECT, jwks=keys
        )
    assert not FederatedCredential.objects.exists()
