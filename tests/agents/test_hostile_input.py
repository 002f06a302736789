"""Whatever is sent to the token service and the API as a credential: an answer, never a crash."""

import base64
import json
from typing import Any

import pytest
from django.test import Client
from hypothesis import HealthCheck, given
from hypothesis import settings as bounded
from hypothesis import strategies as st

from agents.models import AgentIdentity, AgentKey
from audit.models import Event
from tests.agents.runtimes import ASSERTION_TYPE, Runtime, encoded

pytestmark = pytest.mark.django_db
FORMS = ("/oauth/token", "/oauth/revoke", "/oauth/introspect")
BODIES = ("/oauth/enrol", "/oauth/keys")
_quick = bounded(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)
parts = st.one_of(
    st.binary(max_size=60).map(encoded),
    values.map(lambda value: encoded(json.dumps(value).encode())),
    st.text(max_size=30),
)
tokens = st.one_of(
    st.text(max_size=80),
    st.builds(lambda *three: ".".join(three), parts, parts, parts),
)


def nothing_happened() -> None:
    assert not AgentKey.objects.exists()
    assert not Event.objects.filter(type__startswith="credential").exists()


@given(token=tokens)
@_quick
def test_assertions(identity: AgentIdentity, token: str) -> None:
    for path in FORMS:
        form = {
            "grant_type": "client_credentials",
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": token,
            "token": token,
        }
        assert Client().post(path, form).status_code in {400, 401}
    nothing_happened()


@given(body=values)
@_quick
def test_keys(identity: AgentIdentity, body: Any) -> None:
    for path in BODIES:
        for sent in (body, {"code": body, "jwk": body, "proof": body, "client_assertion": body}):
            answer = Client().post(path, json.dumps(sent), content_type="application/json")
            assert 400 <= answer.status_code < 500
    nothing_happened()


@given(token=tokens)
@_quick
def test_bearers(identity: AgentIdentity, token: str) -> None:
    printable = token.encode("ascii", "ignore").decode().replace("\r", "").replace("\n", "")
    for scheme in ("Bearer", "DPoP"):
        headers = {"Authorization": f"{scheme} {printable}", "DPoP": printable}
        assert Client().get("/api/v1/tools", headers=headers).status_code == 401


@pytest.mark.parametrize("text", ["\\ud800", "\\u0000", "x" * 400])
@pytest.mark.parametrize("claim", ["iss", "sub"])
def test_names_that_no_database_takes(identity: AgentIdentity, claim: str, text: str) -> None:
    claims = {"iss": "https://ci.example", "sub": "job", claim: text}
    body = json.dumps(claims).replace("\\\\u", "\\u")
    forged = f"{encoded(b'{}')}.{encoded(body.encode())}.{encoded(b'x' * 64)}"
    for path in FORMS:
        form = {
            "grant_type": "client_credentials",
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": forged,
        }
        assert Client().post(path, form).status_code == 401


DEEP = "[" * 100_000 + "]" * 100_000
WIDE = {"keys": [{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}] * 10_000}


@pytest.mark.parametrize(
    "header",
    [
        encoded(b'{"alg":"ES256","kid":"' + b"k" * 1_000_000 + b'"}'),
        encoded(DEEP.encode()),
        encoded(b'{"alg":"ES256","crit":["x"]}'),
        encoded(b'{"alg":"ES256","alg":"none","kid":"x"}'),
        encoded(b"\xff\xfe"),
        "===",
        base64.b64encode(b"{}").decode(),
        "",
    ],
)
def test_headers_beyond_reason(identity: AgentIdentity, header: str) -> None:
    forged = f"{header}.{encoded(b'{}')}.{encoded(b'x' * 64)}"
    runtime = Runtime(identity)
    assert runtime.ask(forged).status_code in {400, 401}
    answer = Client().get("/api/v1/tools", headers={"Authorization": f"Bearer {forged}"})
    assert answer.status_code == 401
    nothing_happened()


@pytest.mark.parametrize("jwk", [json.loads("[" * 500 + "]" * 500), WIDE, "x" * 15_000, 10**400])
def test_keys_beyond_reason(identity: AgentIdentity, jwk: Any) -> None:
    runtime = Runtime(identity)
    answer = runtime.send_enrolment(
        json.dumps({"code": runtime.code(), "jwk": jwk, "proof": runtime.signed()})
    )
    assert 400 <= answer.status_code < 500
    nothing_happened()
