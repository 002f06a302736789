"""Parsing request bodies within limits."""

from collections.abc import Mapping
from typing import IO, Any

from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser

from common.input_checks import ensure_no_secret
from common.json_text import parsed
from common.problems import BodyTooLarge

MAX_BODY_BYTES = 256_000


class BoundedJSONParser(BaseParser):
    """JSON up to MAX_BODY_BYTES without credentials in it; the one parser of the API.

    A view that knows by a schema what a value is looks for credentials itself (`checks_secrets`).
    """

    media_type = "application/json"

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        body = stream.read(MAX_BODY_BYTES + 1)
        if len(body) > MAX_BODY_BYTES:
            raise BodyTooLarge
        try:
            value = parsed(body)
        except (ValueError, RecursionError) as error:
            message = f"The body is not JSON as it is taken in here. {_said(error)}".strip()
            raise ParseError(message) from error
        view = (parser_context or {}).get("view")
        if not getattr(view, "checks_secrets", False):
            ensure_no_secret(value)
        return value


def _said(error: Exception) -> str:
    """Our own sentence; what a parser says may quote the body."""
    is_ours = type(error) is ValueError and "JSON" not in str(error)
    return str(error) if is_ours and not isinstance(error, UnicodeDecodeError) else ""
