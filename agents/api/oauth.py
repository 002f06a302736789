"""The token service's endpoints. Errors are those of RFC 6749 section 5.2."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import cache_control
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST

from agents.directory import directory
from agents.errors import (
    InvalidClient,
    InvalidEnrolment,
    InvalidKey,
    InvalidScope,
    InvalidTokenRequest,
    KeyAlreadyUsed,
    UnsupportedGrantType,
)
from agents.services import credentials
from agents.tokens import SCOPE_ALL, audience
from common.errors import GovernanceError, InvalidInput
from common.json_requests import declared_length, json_object
from common.rates import TooManyRequests, ensure_within

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
MAX_BODY_BYTES = 16_000

_STATUS: dict[type[GovernanceError], int] = {
    InvalidClient: 401,
    InvalidEnrolment: 403,
    InvalidKey: 400,
    KeyAlreadyUsed: 409,
    InvalidScope: 400,
    InvalidTokenRequest: 400,
    UnsupportedGrantType: 400,
    InvalidInput: 400,
    TooManyRequests: 429,
}


def _refusal(error: GovernanceError) -> JsonResponse:
    code = "invalid_request" if type(error) is InvalidInput else error.code
    status = next(_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS)
    response = JsonResponse({"error": code, "error_description": str(error)}, status=status)
    return _never_stored(response)


def _never_stored(response: JsonResponse) -> JsonResponse:
    response["Cache-Control"] = "no-store"
    return response


@csrf_exempt
@require_POST
def token(request: HttpRequest) -> JsonResponse:
    try:
        ensure_within(f"token:{_address(request)}", per_minute=settings.TOKEN_REQUESTS_PER_MINUTE)
        issued = credentials.issue_token(**_token_request(request))
    except tuple(_STATUS) as error:
        return _refusal(error)
    return _never_stored(
        JsonResponse(
            {
                "access_token": issued.token,
                "token_type": "Bearer",
                "expires_in": issued.expires_in,
                "scope": issued.scope,
            }
        )
    )


def _token_request(request: HttpRequest) -> dict[str, str]:
    if declared_length(request) > MAX_BODY_BYTES:
        raise InvalidTokenRequest
    form = request.POST
    if any(len(form.getlist(name)) > 1 for name in form):
        message = "A parameter is given twice."
        raise InvalidTokenRequest(message)
    if form.get("grant_type") != "client_credentials":
        raise UnsupportedGrantType
    if form.get("client_assertion_type") != ASSERTION_TYPE:
        raise InvalidClient
    return {"assertion": form.get("client_assertion", ""), "scope": form.get("scope", "")}


@csrf_exempt
@require_POST
def enrol(request: HttpRequest) -> JsonResponse:
    """`{code, jwk, proof}`: a one-time code, a public key, and a JWT signed by that key."""
    try:
        ensure_within(f"enrol:{_address(request)}", per_minute=settings.TOKEN_REQUESTS_PER_MINUTE)
        body = json_object(request, max_bytes=MAX_BODY_BYTES)
        key = credentials.enrol(
            code=str(body.get("code", "")), jwk=body.get("jwk"), proof=str(body.get("proof", ""))
        )
    except tuple(_STATUS) as error:
        return _refusal(error)
    identity = key.identity
    return _never_stored(
        JsonResponse(
            {
                "client_id": identity.client_id,
                "environment": identity.environment_id,
                "kid": key.thumbprint,
                "issuer": settings.ISSUER,
                "token_endpoint": f"{settings.ISSUER}/oauth/token",
                "audience": audience(identity.environment_id),
            },
            status=201,
        )
    )


@require_GET
@cache_control(public=True, max_age=300)
def jwks(request: HttpRequest) -> JsonResponse:
    known = directory.fresh().verification_keys
    return JsonResponse(
        {
            "keys": [
                {**row.key.as_dict(private=False), "kid": kid, "use": "sig", "alg": "ES256"}
                for kid, row in sorted(known.items())
            ]
        }
    )


@require_GET
@cache_control(public=True, max_age=300)
def metadata(request: HttpRequest) -> JsonResponse:
    """RFC 8414."""
    issuer = settings.ISSUER
    document: dict[str, Any] = {
        "issuer": issuer,
        # No flow here uses it; clients' models require it to be present.
        "authorization_endpoint": f"{issuer}/oauth/authorize",
        "token_endpoint": f"{issuer}/oauth/token",
        "jwks_uri": f"{issuer}/oauth/jwks.json",
        "grant_types_supported": ["client_credentials"],
        "response_types_supported": [],
        "scopes_supported": [SCOPE_ALL],
        "token_endpoint_auth_methods_supported": ["private_key_jwt"],
        "token_endpoint_auth_signing_alg_values_supported": ["ES256", "Ed25519", "EdDSA"],
    }
    return JsonResponse(document)


def _address(request: HttpRequest) -> str:
    return str(request.META.get("REMOTE_ADDR", ""))
