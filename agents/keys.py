"""Keys: which public keys are accepted, and the portal's own signing keys."""

import json
from base64 import urlsafe_b64decode
from typing import Any

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey

from agents.errors import InvalidKey
from common.encryption import decrypt, encrypt

AgentPublicKey = ECKey | OKPKey

_Kind = type[ECKey] | type[OKPKey]
_ACCEPTED: dict[tuple[str, str], tuple[str, _Kind]] = {
    ("EC", "P-256"): ("ES256", ECKey),
    ("OKP", "Ed25519"): ("Ed25519", OKPKey),
}
_PUBLIC_MEMBERS = {"kty", "crv", "x", "y"}
MAX_JWK_BYTES = 2_000
MAX_PINNED_KEYS = 20
MIN_RSA_BITS = 2_048
# How other issuers may sign. Theirs is often RSA, ours never is.
FEDERATED_ALGORITHMS = ["ES256", "Ed25519", "EdDSA", "RS256", "PS256"]


def accepted_public_key(jwk: Any) -> tuple[str, AgentPublicKey]:
    """The algorithm and key of a public JWK (RFC 7517).

    Raises InvalidKey for other key types, for malformed keys and for a private key: whoever
    sends one has shown it to us, so it must not be used.
    """
    if not isinstance(jwk, dict) or len(json.dumps(jwk, default=str)) > MAX_JWK_BYTES:
        raise InvalidKey
    if "d" in jwk:
        message = "This is a private key. Keep it and send the public part only."
        raise InvalidKey(message)
    accepted = _ACCEPTED.get((str(jwk.get("kty")), str(jwk.get("crv"))))
    if accepted is None:
        raise InvalidKey
    algorithm, kind = accepted
    try:
        given = kind.import_key({k: v for k, v in jwk.items() if k in _PUBLIC_MEMBERS})
        # Written again from the point itself: a JWK can spell one key in several ways, and the
        # thumbprint, which must be unique over all agents, is taken over the spelling.
        key = kind.import_key(kind.import_key(given.as_pem(private=False)).as_dict(private=False))
    except (JoseError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InvalidKey from error
    return algorithm, key


def accepted_issuer_keys(jwks: Any) -> list[dict[str, Any]]:
    """The public keys of another issuer's JWK Set, as they are pinned. Raises InvalidKey."""
    found = jwks.get("keys") if isinstance(jwks, dict) else None
    if not isinstance(found, list) or not 0 < len(found) <= MAX_PINNED_KEYS:
        message = "This is not a JWK Set with keys in it."
        raise InvalidKey(message)
    return [_issuer_key(jwk) for jwk in found]


def _issuer_key(jwk: Any) -> dict[str, Any]:
    if not isinstance(jwk, dict) or jwk.get("kty") != "RSA":
        _, key = accepted_public_key(jwk)
        return {**key.as_dict(private=False), "kid": str(jwk.get("kid") or key.thumbprint())}
    if len(json.dumps(jwk, default=str)) > MAX_JWK_BYTES or "d" in jwk:
        raise InvalidKey
    try:
        modulus = urlsafe_b64decode(str(jwk["n"]) + "==")
        if int.from_bytes(modulus).bit_length() < MIN_RSA_BITS:
            raise InvalidKey
        given = RSAKey.import_key({name: jwk[name] for name in ("kty", "n", "e")})
    except (JoseError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InvalidKey from error
    return {**given.as_dict(private=False), "kid": str(jwk.get("kid") or given.thumbprint())}


def new_signing_key(environment: str) -> tuple[str, dict[str, Any], bytes]:
    """(kid, public JWK, sealed private part) of a fresh P-256 key."""
    key = ECKey.generate_key("P-256", private=True)
    kid = f"{environment}-{key.thumbprint()[:16]}"
    public = {**key.as_dict(private=False), "kid": kid, "use": "sig", "alg": "ES256"}
    private = json.dumps(key.as_dict(private=True)).encode()
    return kid, public, encrypt(private, bound_to=f"signing-key:{environment}:{kid}")


def resealed(environment: str, kid: str, sealed: bytes) -> bytes:
    """The same private part, sealed with the ring's present key. Raises CannotUnseal."""
    bound_to = f"signing-key:{environment}:{kid}"
    return encrypt(decrypt(sealed, bound_to=bound_to), bound_to=bound_to)


def opened_signing_key(environment: str, kid: str, sealed: bytes) -> ECKey:
    """Raises CannotUnseal if the sealing key is not the one it was sealed with."""
    private = decrypt(sealed, bound_to=f"signing-key:{environment}:{kid}")
    return ECKey.import_key(json.loads(private))
