from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from common.actors import Actor, acting
from common.ids import uuid7
from common.request_context import set_request_id


class RequestIdMiddleware:
    """Give every request an identifier of our own; a caller's is never trusted."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        request_id = str(uuid7())
        set_request_id(request_id)
        try:
            response = self.get_response(request)
        finally:
            set_request_id("")
        response["X-Request-Id"] = request_id
        return response


class ActingUserMiddleware:
    """Name the signed-in person in the change log for writes that no command makes.

    Only Django's own forms for people and groups write without a command.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        # An agent's request has no session cookie; do not touch the session for it.
        if "sessionid" not in request.COOKIES or not request.user.is_authenticated:
            return self.get_response(request)
        with acting(Actor.from_user(request.user)):
            return self.get_response(request)
