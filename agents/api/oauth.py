"""The token service's endpoints. Errors are those of RFC 6749 section 5.2."""

from typing import Any

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse, QueryDict
from django.views.decorators.cache import cache_control
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST

from accounts.models import Environment
from agents.directory import directory
from agents.errors import (
    InvalidClient,
    InvalidDpopProof,
    InvalidEnrolment,
    InvalidGrant,
    InvalidKey,
    InvalidScope,
    InvalidTarget,
    InvalidTokenRequest,
    KeyAlreadyUsed,
    UnsupportedGrantType,
)
from agents.models import AgentKey
from agents.services import enrolment, token_service
from agents.services.token_service import TokenRequest
from agents.tokens import SCOPE_ALL, audience
from common.errors import GovernanceError, InvalidInput
from common.json_requests import declared_length, json_object
from common.rate_limits import TooManyRequests, enforce_limit
from common.request_context import client_address

TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105 - a grant's name
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - a type's name
# A code that a person has given to an agent: this server's own type (RFC 8693 section 3).
PERSON_CODE = "urn:chancery:params:oauth:token-type:person-delegation"
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ALGORITHMS = ["ES256", "Ed25519", "EdDSA"]
MAX_BODY_BYTES = 16_000

_STATUS: dict[type[GovernanceError], int] = {
    InvalidClient: 401,
    InvalidEnrolment: 403,
    InvalidKey: 400,
    KeyAlreadyUsed: 409,
    InvalidScope: 400,
    InvalidDpopProof: 400,
    InvalidGrant: 400,
    InvalidTarget: 400,
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
        form = _form(request)
        if form.get("grant_type") == TOKEN_EXCHANGE:
            _ensure_access_tokens(form)
            issued = token_service.exchange_token(_asked(request, form))
        elif form.get("grant_type") == "client_credentials":
            issued = token_service.issue_token(_asked(request, form))
        else:
            raise UnsupportedGrantType
    except tuple(_STATUS) as error:
        return _refusal(error)
    answer = {
        "access_token": issued.token,
        "token_type": issued.token_type,
        "expires_in": issued.expires_in,
        "scope": issued.scope,
    }
    if form.get("grant_type") == TOKEN_EXCHANGE:
        answer["issued_token_type"] = ACCESS_TOKEN
    return _never_stored(JsonResponse(answer))


def _ensure_access_tokens(form: QueryDict) -> None:
    """Access tokens of this server are exchanged, and persons' codes, for access tokens."""
    is_known = form.get("subject_token_type") in {ACCESS_TOKEN, PERSON_CODE}
    wants_token = form.get("requested_token_type", ACCESS_TOKEN) == ACCESS_TOKEN
    if not is_known or not wants_token or "actor_token" in form:
        message = "Exchange an access token of this server for another; the client is the actor."
        raise InvalidTokenRequest(message)


def _asked(request: HttpRequest, form: QueryDict) -> TokenRequest:
    return TokenRequest(
        assertion=_assertion(form),
        scope=form.get("scope", ""),
        resource=form.get("resource", ""),
        dpop=_one_header(request, "DPoP"),
        subject_token=form.get("subject_token", ""),
        subject_is_person=form.get("subject_token_type") == PERSON_CODE,
    )


def _assertion(form: QueryDict) -> str:
    if form.get("client_assertion_type") != ASSERTION_TYPE:
        raise InvalidClient
    return str(form.get("client_assertion", ""))


def _one_header(request: HttpRequest, name: str) -> str:
    """A header's value; several arrive joined by commas, which a JWT has none of."""
    value = str(request.headers.get(name, ""))
    if "," in value:
        raise InvalidDpopProof
    return value


def _form(request: HttpRequest) -> QueryDict:
    """The request's form, counted against its sender's limit. Raises TooManyRequests,
    InvalidTokenRequest.
    """
    _count(request, "token")
    if declared_length(request) > MAX_BODY_BYTES:
        raise InvalidTokenRequest
    form = request.POST
    if any(len(form.getlist(name)) > 1 for name in form):
        message = "A parameter is given twice."
        raise InvalidTokenRequest(message)
    return form


def _count(request: HttpRequest, what: str) -> None:
    """Raises TooManyRequests beyond the limit of one address."""
    enforce_limit(f"{what}:{client_address(request)}", per_minute=settings.TOKEN_LIMIT_PER_ADDRESS)


@csrf_exempt
@require_POST
def revoke(request: HttpRequest) -> HttpResponse:
    """RFC 7009: the answer is the same for a token that was not valid anyway."""
    try:
        form = _form(request)
        token_service.revoke_token(assertion=_assertion(form), token=form.get("token", ""))
    except tuple(_STATUS) as error:
        return _refusal(error)
    return _never_stored(JsonResponse({}))


@csrf_exempt
@require_POST
def introspect(request: HttpRequest) -> JsonResponse:
    """RFC 7662."""
    try:
        form = _form(request)
        said = token_service.introspect(assertion=_assertion(form), token=form.get("token", ""))
    except tuple(_STATUS) as error:
        return _refusal(error)
    return _never_stored(JsonResponse(said))


@csrf_exempt
@require_POST
def enrol(request: HttpRequest) -> JsonResponse:
    """`{code, jwk, proof}`: a one-time code, a public key, and a JWT signed by that key."""
    try:
        enforce_limit(
            f"enrol:{client_address(request)}", per_minute=settings.TOKEN_LIMIT_PER_ADDRESS
        )
        body = json_object(request, max_bytes=MAX_BODY_BYTES)
        key = enrolment.enrol(
            code=str(body.get("code", "")), jwk=body.get("jwk"), proof=str(body.get("proof", ""))
        )
    except tuple(_STATUS) as error:
        return _refusal(error)
    return _taken(key)


@csrf_exempt
@require_POST
def replace(request: HttpRequest) -> JsonResponse:
    """`{jwk, proof, client_assertion}`: a new public key, a JWT signed by it, and an assertion by
    the old key that names the new one (`new_key`, its thumbprint).
    """
    try:
        enforce_limit(
            f"token:{client_address(request)}", per_minute=settings.TOKEN_LIMIT_PER_ADDRESS
        )
        body = json_object(request, max_bytes=MAX_BODY_BYTES)
        key = enrolment.replace_key(
            assertion=str(body.get("client_assertion", "")),
            jwk=body.get("jwk"),
            proof=str(body.get("proof", "")),
        )
    except tuple(_STATUS) as error:
        return _refusal(error)
    return _taken(key)


def _taken(key: AgentKey) -> JsonResponse:
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
    known = directory.current().verification_keys
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
        "revocation_endpoint": f"{issuer}/oauth/revoke",
        "introspection_endpoint": f"{issuer}/oauth/introspect",
        "grant_types_supported": ["client_credentials", TOKEN_EXCHANGE],
        "response_types_supported": [],
        "scopes_supported": [SCOPE_ALL],
        "token_endpoint_auth_methods_supported": ["private_key_jwt"],
        "token_endpoint_auth_signing_alg_values_supported": ALGORITHMS,
        "revocation_endpoint_auth_methods_supported": ["private_key_jwt"],
        "introspection_endpoint_auth_methods_supported": ["private_key_jwt"],
        "dpop_signing_alg_values_supported": ALGORITHMS,
    }
    return JsonResponse(document)


@require_GET
@cache_control(public=True, max_age=300)
def resource_metadata(request: HttpRequest, environment: str) -> JsonResponse:
    """RFC 9728: which server gives tokens for the API in one environment.

    `scopes_supported` is left out: clients would ask for all of them.
    """
    if not Environment.objects.filter(pk=environment).exists():
        raise Http404
    return JsonResponse(
        {
            "resource": audience(environment),
            "authorization_servers": [settings.ISSUER],
            "bearer_methods_supported": ["header"],
            "dpop_signing_alg_values_supported": ALGORITHMS,
        }
    )
