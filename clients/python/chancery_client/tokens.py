"""Access tokens, got with the key and renewed in time (RFC 7523, RFC 9449)."""

import base64
import hashlib
import time
from collections.abc import Generator
from threading import Lock
from uuid import uuid4

import httpx
from joserfc import jwt
from joserfc.jwk import ECKey

from chancery_client.errors import PortalRefused
from chancery_client.keys import Identity

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105 - a grant's name
PERSON_CODE = "urn:chancery:params:oauth:token-type:person-delegation"
ASSERTION_SECONDS = 60
# Renewed when so much of a token's life is over; it still serves while the next one is on its way.
RENEW_AT = 2 / 3


def assertion(key: ECKey, subject: str, audience: str, **claims: str) -> str:
    """A statement, signed by the key, that its holder is `subject`; good for a minute and once."""
    now = int(time.time())
    everything = {
        "iss": subject,
        "sub": subject,
        "aud": audience,
        "iat": now,
        "exp": now + ASSERTION_SECONDS,
        "jti": str(uuid4()),
        **claims,
    }
    return jwt.encode({"alg": "ES256", "kid": key.thumbprint()}, everything, key)


def proof(key: ECKey, request: httpx.Request, token: str = "") -> str:
    """Return a proof that the sender of this one request holds the key (RFC 9449)."""
    url = request.url.copy_with(query=None, fragment=None)
    claims = {
        "htm": request.method,
        "htu": str(url),
        "iat": int(time.time()),
        "jti": str(uuid4()),
    }
    if token:
        digest = hashlib.sha256(token.encode()).digest()
        claims["ath"] = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    header = {"alg": "ES256", "typ": "dpop+jwt", "jwk": key.as_dict(private=False)}
    return jwt.encode(header, claims, key)


class TokenAuth(httpx.Auth):
    """Puts a token on each request. No request waits for another one's: while one renews, the
    others go on with the token that they have. Safe for threads and for tasks.
    """

    requires_response_body = True

    def __init__(
        self,
        url: str,
        identity: Identity,
        *,
        scope: str = "",
        dpop: bool = False,
        person_code: str = "",
    ) -> None:
        self._url = url
        self._identity = identity
        self._scope = scope
        self._dpop = dpop
        self._person_code = person_code
        self._token = ""
        self._renew_at = self._over_at = 0.0
        self._renewing = Lock()

    @property
    def token(self) -> str:
        """The token that is in use; empty before the first request."""
        return self._token

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        now = time.monotonic()
        if now >= self._renew_at and (
            now >= self._over_at or self._renewing.acquire(blocking=False)
        ):
            yield from self._renewed(is_mine=now < self._over_at)
        self._sign(request)
        response = yield request
        if response.status_code == httpx.codes.UNAUTHORIZED:
            # Killed before its time, as by a halt that is over: once more with a new one.
            yield from self._renewed(is_mine=False)
            self._sign(request)
            yield request

    def _renewed(self, *, is_mine: bool) -> Generator[httpx.Request, httpx.Response, None]:
        try:
            asked = self._request()
            self._take((yield asked))
        finally:
            if is_mine:
                self._renewing.release()

    def _request(self) -> httpx.Request:
        identity = self._identity
        form = {
            "grant_type": "client_credentials",
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": assertion(identity.key, identity.client_id, identity.issuer),
        }
        if self._scope:
            form["scope"] = self._scope
        if self._person_code:
            form |= {
                "grant_type": TOKEN_EXCHANGE,
                "subject_token": self._person_code,
                "subject_token_type": PERSON_CODE,
            }
        request = httpx.Request("POST", f"{self._url}/oauth/token", data=form)
        if self._dpop:
            request.headers["DPoP"] = proof(identity.key, request)
        return request

    def _take(self, response: httpx.Response) -> None:
        if response.status_code != httpx.codes.OK:
            raise refusal(response)
        body = response.json()
        now = time.monotonic()
        self._token = body["access_token"]
        self._renew_at = now + body["expires_in"] * RENEW_AT
        self._over_at = now + body["expires_in"]

    def _sign(self, request: httpx.Request) -> None:
        if self._dpop:
            request.headers["Authorization"] = f"DPoP {self._token}"
            request.headers["DPoP"] = proof(self._identity.key, request, self._token)
        else:
            request.headers["Authorization"] = f"Bearer {self._token}"


def refusal(response: httpx.Response) -> PortalRefused:
    """The portal's refusal: a problem (RFC 9457) of the API, or an OAuth error (RFC 6749)."""
    try:
        body = response.json()
    except ValueError:
        body = {}
    code = body.get("code") or body.get("error") or "unexpected_answer"
    detail = body.get("detail") or body.get("error_description") or response.reason_phrase
    return PortalRefused(response.status_code, str(code), str(detail))
