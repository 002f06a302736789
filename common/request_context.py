"""The identifier of the request or task being served, for tying records together."""

import ipaddress
import re
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

from django.conf import settings

_request_id: ContextVar[str] = ContextVar("request_id", default="")


def current_request_id() -> str:
    return _request_id.get()


def set_request_id(value: str) -> None:
    _request_id.set(value)


def client_address(request: Any) -> str:
    """Return the address of the client without a port; empty if it is unknown.

    Behind proxies of our own it is what the first of them saw: the entry of X-Forwarded-For that is
    as far from the end as there are proxies (`settings.PROXIES`). What stands before it are the
    sender's own words.
    """
    if not settings.BEHIND_PROXY:
        return plain_address(str(request.META.get("REMOTE_ADDR", "")))
    entries = str(request.META.get("HTTP_X_FORWARDED_FOR", "")).split(",")
    wanted = max(int(settings.PROXIES), 1)
    return plain_address(entries[-wanted]) if len(entries) >= wanted else ""


_WITH_PORT = re.compile(r"\[([0-9a-fA-F:.%]+)\](?::\d{1,5})?|([0-9.]+):\d{1,5}")


@lru_cache(maxsize=4096)  # every request asks for its sender, some twice
def plain_address(text: str) -> str:
    """The address of `address`, `address:port`, `[address]:port` or `"..."` (RFC 7239), in its one
    spelling; empty for anything else.
    """
    given = text.strip().strip('"')
    match = _WITH_PORT.fullmatch(given)
    if match is not None:
        given = match[1] or match[2]
    try:
        found = ipaddress.ip_address(given)
    except ValueError:
        return ""
    mapped = getattr(found, "ipv4_mapped", None)
    return str(mapped or found)
