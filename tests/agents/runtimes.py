"""An agent's runtime as the token service meets it: it holds a key and signs assertions."""

import base64
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any
from uuid import uuid4

from django.conf import settings
from django.db import connection
from django.test.client import Client, ClientHandler
from joserfc import jwt
from joserfc.jwk import ECKey, OKPKey

from agents.models import AgentIdentity
from agents.services import enrolment
from common.actors import SYSTEM

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
LEFT_OUT: Any = object()
PrivateKey = ECKey | OKPKey

# Loading the middleware takes longer than a request: all runtimes share what is loaded.
_handler = ClientHandler(enforce_csrf_checks=True)


def encoded(value: bytes) -> str:
    """Base64url without padding, as in every part of a JWS."""
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def ec_key(curve: str = "P-256") -> ECKey:
    return ECKey.generate_key(curve, private=True)


def ed_key() -> OKPKey:
    return OKPKey.generate_key("Ed25519", private=True)


class Runtime:
    """`identity`'s runtime. Its methods send what is asked for, right or wrong."""

    def __init__(self, identity: AgentIdentity, key: PrivateKey | None = None) -> None:
        self.identity = identity
        self.client_id = identity.client_id
        self.key: PrivateKey = key or ec_key()
        self.http = Client()
        self.http.handler = _handler

    @property
    def public(self) -> dict[str, Any]:
        return dict(self.key.as_dict(private=False))

    @property
    def kid(self) -> str:
        return str(self.key.thumbprint())

    def claims(self, **changes: Any) -> dict[str, Any]:
        now = int(time.time())
        claims = {
            "iss": self.client_id,
            "sub": self.client_id,
            "aud": settings.ISSUER,
            "iat": now,
            "exp": now + 60,
            "jti": str(uuid4()),
            **changes,
        }
        return {name: value for name, value in claims.items() if value is not LEFT_OUT}

    def signed(
        self,
        *,
        by: PrivateKey | None = None,
        header: Mapping[str, Any] | None = None,
        **claims: Any,
    ) -> str:
        key = by or self.key
        algorithm = "ES256" if isinstance(key, ECKey) else "Ed25519"
        head = {"alg": algorithm, "kid": self.kid, **(header or {})}
        head = {name: value for name, value in head.items() if value is not LEFT_OUT}
        return jwt.encode(head, self.claims(**claims), key, algorithms=[head["alg"]])

    def code(self) -> str:
        return enrolment.issue_enrolment_code(self.identity.pk, actor=SYSTEM)

    def enrol(self, **changes: Any) -> Any:
        """The answer to an enrolment, with a new code unless one is given."""
        body = {"jwk": self.public, "proof": self.signed(), **changes}
        if "code" not in body:
            body["code"] = self.code()
        return self.send_enrolment(json.dumps(body))

    def send_enrolment(self, body: str | bytes) -> Any:
        return self.http.post("/oauth/enrol", data=body, content_type="application/json")

    def ask(self, assertion: str | None = None, **changes: Any) -> Any:
        """The answer to a token request, with a new assertion unless one is given."""
        form = {
            "grant_type": "client_credentials",
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": self.signed() if assertion is None else assertion,
            **changes,
        }
        return self.http.post(
            "/oauth/token", {name: value for name, value in form.items() if value is not LEFT_OUT}
        )

    def client(self, assertion: str | None = None) -> dict[str, str]:
        """What proves the client in a form."""
        return {
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": self.signed() if assertion is None else assertion,
        }

    def send(self, path: str, form: Mapping[str, str]) -> Any:
        """The answer to a form of an authenticated client."""
        return self.http.post(path, {**self.client(), **form})

    def exchange(self, subject_token: str, **changes: Any) -> Any:
        """The answer to asking for a token on behalf of whom the other token is for."""
        return self.ask(
            grant_type=TOKEN_EXCHANGE,
            subject_token=subject_token,
            subject_token_type=ACCESS_TOKEN,
            **changes,
        )

    def replace_key(self, key: PrivateKey, **changes: Any) -> Any:
        """The answer to replacing the key by another; `self.key` stays the old one."""
        new = Runtime(self.identity, key)
        body = {
            "jwk": new.public,
            "proof": new.signed(),
            "client_assertion": self.signed(new_key=new.kid),
            **changes,
        }
        return self.http.post("/oauth/keys", json.dumps(body), content_type="application/json")


def dpop_proof(key: PrivateKey, method: str, path: str, token: str = "", **changes: Any) -> str:
    """A proof of possession (RFC 9449) for one request."""
    claims = {
        "htm": method,
        "htu": f"{settings.ISSUER}{path}",
        "iat": int(time.time()),
        "jti": str(uuid4()),
        **({"ath": encoded(hashlib.sha256(token.encode()).digest())} if token else {}),
        **changes,
    }
    algorithm = "ES256" if isinstance(key, ECKey) else "Ed25519"
    header = {"alg": algorithm, "typ": "dpop+jwt", "jwk": key.as_dict(private=False)}
    return jwt.encode(header, claims, key, algorithms=[algorithm])


def enrolled(identity: AgentIdentity, key: PrivateKey | None = None) -> Runtime:
    runtime = Runtime(identity, key)
    assert runtime.enrol().status_code == 201
    return runtime


def all_at_once(functions: list[Callable[[], Any]]) -> list[Any]:
    """What each function returns or raises, each in a thread of its own, started together."""
    barrier = Barrier(len(functions))

    def one(function: Callable[[], Any]) -> Any:
        barrier.wait(30)
        try:
            return function()
        except Exception as error:  # noqa: BLE001 - the test looks at it
            return error
        finally:
            connection.close()

    with ThreadPoolExecutor(len(functions)) as pool:
        return list(pool.map(one, functions))
