"""The identifier of the request or task being served, for tying records together."""

from contextvars import ContextVar
from typing import Any

from django.conf import settings

_request_id: ContextVar[str] = ContextVar("request_id", default="")


def current_request_id() -> str:
    return _request_id.get()


def set_request_id(value: str) -> None:
    _request_id.set(value)


def client_address(request: Any) -> str:
    """Where a request comes from. Behind a proxy it is what the proxy says that it saw: the last
    entry, since those before are the sender's own words.
    """
    if settings.BEHIND_PROXY:
        return str(request.META.get("HTTP_X_FORWARDED_FOR", "")).rpartition(",")[2].strip()
    return str(request.META.get("REMOTE_ADDR", ""))
