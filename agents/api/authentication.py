from typing import Any

from django.conf import settings
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from agents.directory import directory
from agents.errors import InvalidDpopProof, InvalidToken
from agents.models import Finding
from agents.services.findings import Anomaly, report
from agents.services.limits import ensure_caller_within
from agents.services.token_service import end_token, shown_key
from agents.token_origin import conflicting_network, network_of
from agents.tokens import Caller, verify
from common.actors import SYSTEM
from common.known_tokens import remember_token
from common.request_context import client_address


class AgentPrincipal:
    """An agent's identity in the place of DRF's user; it is no row of the user table."""

    is_authenticated = True

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        self.pk = caller.identity.client_id


class AgentAuthentication(BaseAuthentication):
    """`Authorization: Bearer`, or `DPoP` with its proof (RFC 9449), exactly once, in the header.

    State is read afresh, but for views that set `checks_caller_again`: their deciding transaction
    does, so what this process holds serves, without a query.
    """

    def authenticate(self, request: Request) -> tuple[AgentPrincipal, Caller]:
        header = request.META.get("HTTP_AUTHORIZATION", "")
        scheme, _, token = header.partition(" ")
        # Two headers arrive joined by a comma; a token has none.
        if scheme.lower() not in {"bearer", "dpop"} or not token or "," in token:
            raise InvalidToken
        view, token = request.parser_context.get("view"), token.strip()
        caller = _verified(token, later=getattr(view, "checks_caller_again", False))
        _ensure_held(caller, request, token, scheme=scheme.lower())
        _look_at_network(caller, request)
        remember_token(token, caller.identity.client_id)
        ensure_caller_within(caller)
        return AgentPrincipal(caller), caller

    def authenticate_header(self, request: Request) -> str:
        return f'Bearer realm="{settings.ISSUER}", DPoP algs="ES256 Ed25519 EdDSA"'


def _ensure_held(caller: Caller, request: Request, token: str, *, scheme: str) -> None:
    """A token that is bound to a key is of use only with a proof by that key, and one that is not
    bound is no better for having one. Raises InvalidToken.
    """
    if scheme != ("dpop" if caller.key else "bearer"):
        raise InvalidToken
    if not caller.key:
        return
    url = f"{settings.ISSUER}{request.path}"
    proof = str(request.headers.get("DPoP", ""))
    try:
        shown = shown_key(proof, method=str(request.method), url=url, access_token=token)
    except InvalidDpopProof as error:
        raise InvalidToken from error
    if shown != caller.key:
        raise InvalidToken


def _look_at_network(caller: Caller, request: Request) -> None:
    """A token that comes from a second network was copied: it is dead, and it is reported.

    Raises InvalidToken.
    """
    address = client_address(request)
    first = conflicting_network(caller, address)
    if first:
        evidence = {"token": caller.jti, "networks": [first, network_of(address)]}
        report(Anomaly(caller.identity.pk, Finding.Rule.TWO_NETWORKS, caller.jti, evidence))
        end_token(caller, actor=SYSTEM)
        raise InvalidToken


def _verified(token: str, *, later: bool) -> Caller:
    if later:
        try:
            return verify(token, directory.cached())
        except InvalidToken:
            # It may belong to an identity or a key that is newer than this process has seen.
            return verify(token, directory.current())
    return verify(token, directory.current())


class IsAgent(BasePermission):
    def has_permission(self, request: Request, view: Any) -> bool:
        return isinstance(request.user, AgentPrincipal)


class AgentScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # its base class
    target_class = "agents.api.authentication.AgentAuthentication"
    name = "agentToken"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return {"type": "http", "scheme": "bearer", "bearerFormat": "at+jwt"}
