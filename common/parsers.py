"""Parsing request bodies within limits."""

import json
from collections.abc import Mapping
from typing import IO, Any

from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser

from common.intake import ensure_no_secret
from common.problems import BodyTooLarge

MAX_BODY_BYTES = 256_000


class BoundedJSONParser(BaseParser):
    """JSON up to MAX_BODY_BYTES without credentials in it; the one parser of the API. Depth is
    checked when a value is made canonical.
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
            value = json.loads(body)
            if b"\\u" in body:
                # An escape can spell half a character, which nothing can write down again.
                json.dumps(value, ensure_ascii=False).encode()
            ensure_no_secret(value)
        except (ValueError, RecursionError) as error:
            message = "The body is not JSON."
            raise ParseError(message) from error
        return value
