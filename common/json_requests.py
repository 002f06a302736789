"""Reading small JSON bodies in plain Django views."""

import json
from typing import Any

from django.http import HttpRequest

from common.errors import InvalidInput


def json_object(request: HttpRequest, *, max_bytes: int) -> dict[str, Any]:
    """The body as an object. Raises InvalidInput for anything else or beyond `max_bytes`."""
    if int(request.headers.get("Content-Length") or 0) > max_bytes:
        raise InvalidInput
    body = request.read(max_bytes + 1)
    if len(body) > max_bytes:
        raise InvalidInput
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidInput from error
    if not isinstance(value, dict):
        raise InvalidInput
    return value
