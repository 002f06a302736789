"""Answers where no view answers: unknown addresses, refused requests, internal errors.

The API answers with problems (RFC 9457) everywhere; people get a page that says what happened and
where to go on.
"""

from collections.abc import Callable
from typing import Any

from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.template.loader import render_to_string

from common.problems import COUNTER_AWAY, RETRY_AFTER_SECONDS, as_page_free_problem
from common.rate_limits import CacheAway
from common.request_context import current_request_id

_API = ("/api/", "/oauth/", "/.well-known/")
_SAID = {
    400: ("This request cannot be read", "An address or a field holds what is no text."),
    403: ("This is not yours to see", "Your account does not have the right that this page needs."),
    404: ("There is no such page", "The address is wrong, or what was here is not yours to see."),
    413: ("This is too much", "What was sent is larger than this page takes."),
    500: ("Something went wrong here", "The fault is ours. Nothing was changed by this request."),
    503: ("Not available right now", "The database or the cache does not answer. Try again soon."),
}
_CODES = {
    400: ("bad_request", "The request cannot be read."),
    403: ("permission_denied", "This is not yours to do."),
    404: ("not_found", "There is no such thing."),
    413: ("body_too_large", "The request body is too large."),
    405: ("method_not_allowed", "The address does not take this method."),
    500: ("internal_error", "The fault is ours."),
    503: ("not_available", "The database does not answer. Ask again with the same key."),
}


def answered(request: HttpRequest, status: int, *, reason: str = "") -> HttpResponse:
    """The error as a problem or as a page, by who asks. A page says the reason, if there is one."""
    if _is_api(request):
        code, message = _CODES.get(status, ("request_refused", "The request is refused."))
        return as_page_free_problem(code, message, http_status=status)
    title, text = _SAID[status]
    context = {
        "title": title,
        "text": reason or text,
        "can_be_given": status == 403 and not reason,
        "number": current_request_id(),
    }
    # Where something has failed, nothing is asked of the database for the page about it.
    given = request if status < 500 and hasattr(request, "user") else None
    response = HttpResponse(render_to_string("error.html", context, given), status=status)
    if status == 503:
        response["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response


def _is_api(request: HttpRequest) -> bool:
    return f"{request.path}/".startswith(_API)


def is_for_agents(request: HttpRequest) -> bool:
    """Whether agents ask there, and not people."""
    return _is_api(request) and not request.path.startswith("/api/v1/approvals")


def _is_page(response: HttpResponseBase) -> bool:
    return str(response.get("Content-Type", "text/html")).startswith("text/html")


def bad_request(request: HttpRequest, exception: Any = None) -> HttpResponse:
    return answered(request, 400)


def permission_denied(request: HttpRequest, exception: Any = None) -> HttpResponse:
    return answered(request, 403, reason=str(exception or ""))


def not_found(request: HttpRequest, exception: Any = None) -> HttpResponse:
    return answered(request, 404)


def server_error(request: HttpRequest) -> HttpResponse:
    return answered(request, 500)


class AwayMiddleware:
    """Refuse what no database takes, and say so when the database or the cache is away."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        query = request.META.get("QUERY_STRING", "")
        if "%00" in query or "\x00" in query or "\x00" in request.path:
            return answered(request, 400)
        response = self.get_response(request)
        if response.status_code >= 400 and _is_page(response) and _is_api(request):
            # A view of Django's own has refused, such as for the method.
            problem = answered(request, response.status_code)
            if "Allow" in response:
                problem["Allow"] = response["Allow"]
            return problem
        return response

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        if isinstance(error, CacheAway):
            if _is_api(request):
                return as_page_free_problem("counter_away", COUNTER_AWAY, http_status=503)
            return answered(request, 503)
        if isinstance(error, OperationalError | InterfaceError):
            return answered(request, 503)
        return None
