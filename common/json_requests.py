"""Reading small JSON bodies in plain Django views."""

from typing import Any

from django.http import HttpRequest

from common.errors import InvalidInput
from common.json_text import parsed


def declared_length(request: HttpRequest) -> int:
    """Raises InvalidInput if the header is no number."""
    text = request.headers.get("Content-Length") or "0"
    if not text.isascii() or not text.isdigit():
        raise InvalidInput
    return int(text[:20])


def json_object(request: HttpRequest, *, max_bytes: int) -> dict[str, Any]:
    """The body as an object. Raises InvalidInput for anything else or beyond `max_bytes`."""
    if declared_length(request) > max_bytes:
        raise InvalidInput
    body = request.read(max_bytes + 1)
    if len(body) > max_bytes:
        raise InvalidInput
    try:
        value = parsed(body, any_text=True)
    except (ValueError, RecursionError) as error:
        raise InvalidInput from error
    if not isinstance(value, dict):
        raise InvalidInput
    return value
