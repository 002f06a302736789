"""DPoP (RFC 9449): a token that only the holder of a key can use, proven with every request."""

import base64
import hashlib
import re
import time
from typing import Any
from urllib.parse import urlsplit

from joserfc import jwt
from joserfc.errors import JoseError

from agents import keys
from agents.errors import InvalidDpopProof, InvalidKey
from agents.tokens import jwt_header, numeric_date

WINDOW_SECONDS = 60
MAX_PROOF_BYTES = 4_000
MAX_JTI_LENGTH = 200
MAX_URL_LENGTH = 2_000


def thumbprint_of(
    proof: str, *, method: str, url: str, access_token: str = ""
) -> tuple[str, str, int]:
    """The thumbprint (RFC 7638) of the key that signed the proof, the proof's `jti`, and when it
    is over. Whoever relies on it has to remember that this `jti` was used.

    Raises InvalidDpopProof for everything that is wrong with it: type, algorithm, a private or
    unacceptable key, signature, method, address, age, and the hash of another access token.
    """
    if len(proof) > MAX_PROOF_BYTES:
        raise InvalidDpopProof
    try:
        header = jwt_header(proof)
        if header.get("typ") != "dpop+jwt" or "d" in dict(header.get("jwk") or {}):
            raise InvalidDpopProof
        algorithm, key = keys.accepted_public_key(header.get("jwk"))
        accepted = [algorithm, "EdDSA"] if algorithm == "Ed25519" else [algorithm]
        claims = dict(jwt.decode(proof, key, algorithms=accepted).claims)
    except (InvalidKey, JoseError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise InvalidDpopProof from error
    if claims.get("htm") != method or _plain_url(claims.get("htu")) != _plain_url(url):
        raise InvalidDpopProof
    if access_token and claims.get("ath") != _hash_of(access_token):
        raise InvalidDpopProof
    return str(key.thumbprint()), _jti(claims), _issued(claims) + WINDOW_SECONDS


def _jti(claims: dict[str, Any]) -> str:
    jti = claims.get("jti")
    if not isinstance(jti, str) or not 0 < len(jti) <= MAX_JTI_LENGTH:
        raise InvalidDpopProof
    return jti


def _issued(claims: dict[str, Any]) -> int:
    issued = numeric_date(claims.get("iat"))
    if issued is None or abs(time.time() - issued) > WINDOW_SECONDS:
        raise InvalidDpopProof
    return int(issued)


_DEFAULT_PORTS = {"http": 80, "https": 443}
_UNRESERVED = re.compile(r"%([0-9A-Fa-f]{2})")


def _plain_url(value: Any) -> str:
    """An address as RFC 9449 section 4.3 compares it: without query and fragment, normalised by
    syntax and scheme (RFC 3986 sections 6.2.2 and 6.2.3). Raises InvalidDpopProof.
    """
    if not isinstance(value, str) or len(value) > MAX_URL_LENGTH:
        raise InvalidDpopProof
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError as error:
        raise InvalidDpopProof from error
    scheme, host = parts.scheme.lower(), (parts.hostname or "").lower()
    if scheme not in _DEFAULT_PORTS or not host or parts.username is not None:
        raise InvalidDpopProof
    shown = f"[{host}]" if ":" in host else host
    where = "" if port in {None, _DEFAULT_PORTS[scheme]} else f":{port}"
    return f"{scheme}://{shown}{where}{_UNRESERVED.sub(_plain_octet, parts.path) or '/'}"


def _plain_octet(match: re.Match[str]) -> str:
    letter = chr(int(match[1], 16))
    is_unreserved = letter.isascii() and (letter.isalnum() or letter in "-._~")
    return letter if is_unreserved else match[0].upper()


def _hash_of(access_token: str) -> str:
    found = hashlib.sha256(access_token.encode()).digest()
    return base64.urlsafe_b64encode(found).rstrip(b"=").decode()
