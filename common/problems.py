"""Errors of the REST API: RFC 9457 problem details with a stable `code`."""

import logging
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import DatabaseError
from django.http import Http404, JsonResponse
from rest_framework import exceptions, serializers, status
from rest_framework.response import Response

from common.errors import GovernanceError, InvalidInput
from common.rate_limits import CacheAway
from common.request_context import current_request_id

log = logging.getLogger(__name__)

CONTENT_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 2
COUNTER_AWAY = "Requests cannot be counted right now, so none is served. Try again."

# One table from code to status; what is not in it is a conflict with the state of things.
STATUS_OF_CODE = {
    "not_found": 404,
    "unknown_tool": 404,
    "unknown_workflow": 404,
    "not_allowed_to_start": 403,
    "invalid_token": 401,
    "not_an_approver": 403,
    "own_request": 403,
    "approval_for_own_agent": 403,
    "too_many_requests": 429,
    "decision_conflict": 503,
    "call_in_flight": 503,
    "halt_watcher_stale": 503,
}
_CODES = {
    exceptions.NotAuthenticated: "not_authenticated",
    exceptions.AuthenticationFailed: "not_authenticated",
    exceptions.PermissionDenied: "permission_denied",
    exceptions.ParseError: "invalid_json",
    exceptions.ValidationError: "invalid_input",
    exceptions.MethodNotAllowed: "method_not_allowed",
    exceptions.NotAcceptable: "not_acceptable",
    exceptions.UnsupportedMediaType: "unsupported_media_type",
    exceptions.Throttled: "too_many_requests",
}


class ProblemSerializer(serializers.Serializer[Any]):
    """RFC 9457. `code` is stable; the rest is for people."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField()
    code = serializers.CharField()
    request_id = serializers.CharField()


# What every operation may answer, for the API's description.
PROBLEMS: dict[Any, Any] = {
    (status, CONTENT_TYPE): ProblemSerializer
    for status in (400, 401, 403, 404, 409, 413, 415, 429, 500, 503)
}


class BodyTooLarge(GovernanceError):
    code = "body_too_large"
    sentence = "The request body is too large."


STATUS_OF_CODE[BodyTooLarge.code] = 413


def problem(code: str, message: str, *, http_status: int, **details: Any) -> Response:
    return Response(
        {
            "type": f"urn:chancery:problem:{code}",
            "title": code.replace("_", " ").capitalize(),
            "status": http_status,
            "detail": message,
            "code": code,
            "request_id": current_request_id(),
            **details,
        },
        status=http_status,
        content_type=CONTENT_TYPE,
    )


def as_page_free_problem(code: str, message: str, *, http_status: int) -> JsonResponse:
    """A problem for requests that no view of the API has taken, such as for an unknown address."""
    body = {
        "type": f"urn:chancery:problem:{code}",
        "title": code.replace("_", " ").capitalize(),
        "status": http_status,
        "detail": message,
        "code": code,
        "request_id": current_request_id(),
    }
    response = JsonResponse(body, status=http_status, content_type=CONTENT_TYPE)
    if http_status == status.HTTP_503_SERVICE_UNAVAILABLE:
        response["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response


def as_problem(error: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's exception handler."""
    if isinstance(error, GovernanceError):
        return _governance_problem(error)
    if isinstance(error, Http404):
        return problem("not_found", "There is no such thing.", http_status=404)
    if isinstance(error, PermissionDenied):
        return problem("permission_denied", "This is not yours to do.", http_status=403)
    if isinstance(error, CacheAway | DatabaseError):
        return _away_problem(error)
    return _api_problem(error) if isinstance(error, exceptions.APIException) else None


def _away_problem(error: CacheAway | DatabaseError) -> Response:
    if isinstance(error, CacheAway):
        return _retry(problem("counter_away", COUNTER_AWAY, http_status=503))
    # The class alone: a database's message may quote values.
    log.error("not recorded: %s", type(error).__name__)
    return _retry(
        problem(
            "not_recorded",
            "It could not be recorded. If this was an action, ask for it again with the same "
            "key before doing anything else.",
            http_status=503,
        )
    )


def _retry(response: Response) -> Response:
    response["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response


def _governance_problem(error: GovernanceError) -> Response:
    default = status.HTTP_400_BAD_REQUEST if isinstance(error, InvalidInput) else 409
    http_status = STATUS_OF_CODE.get(error.code, default)
    response = problem(error.code, str(error), http_status=http_status, **error.details)
    if http_status == status.HTTP_503_SERVICE_UNAVAILABLE:
        _retry(response)
    if http_status == status.HTTP_401_UNAUTHORIZED:
        response["WWW-Authenticate"] = f'Bearer error="{error.code}"'
    return response


def _api_problem(error: exceptions.APIException) -> Response:
    code = next((c for kind, c in _CODES.items() if isinstance(error, kind)), "request_refused")
    if isinstance(error, exceptions.ValidationError):
        return problem(
            code, "Some fields are not valid.", http_status=error.status_code, errors=error.detail
        )
    response = problem(code, str(error.detail), http_status=error.status_code)
    challenge = getattr(error, "auth_header", None)
    if challenge:
        response["WWW-Authenticate"] = challenge
    return response
