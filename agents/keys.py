"""Keys: which public keys are accepted, and the portal's own signing keys."""

import json
from typing import Any

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey

from agents.errors import InvalidKey
from common.sealing import seal, unseal

AgentPublicKey = ECKey | OKPKey

_Kind = type[ECKey] | type[OKPKey]
_ACCEPTED: dict[tuple[str, str], tuple[str, _Kind]] = {
    ("EC", "P-256"): ("ES256", ECKey),
    ("OKP", "Ed25519"): ("Ed25519", OKPKey),
}
_PUBLIC_MEMBERS = {"kty", "crv", "x", "y"}
MAX_JWK_BYTES = 2_000


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


def new_signing_key(environment: str) -> tuple[str, dict[str, Any], bytes]:
    """(kid, public JWK, sealed private part) of a fresh P-256 key."""
    key = ECKey.generate_key("P-256", private=True)
    kid = f"{environment}-{key.thumbprint()[:16]}"
    public = {**key.as_dict(private=False), "kid": kid, "use": "sig", "alg": "ES256"}
    private = json.dumps(key.as_dict(private=True)).encode()
    return kid, public, seal(private, bound_to=f"signing-key:{environment}:{kid}")


def opened_signing_key(environment: str, kid: str, sealed: bytes) -> ECKey:
    """Raises CannotUnseal if the sealing key is not the one it was sealed with."""
    private = unseal(sealed, bound_to=f"signing-key:{environment}:{kid}")
    return ECKey.import_key(json.loads(private))
