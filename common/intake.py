"""What may come in: anything but credentials."""

from typing import Any

from common.errors import InvalidInput, ReasonRequired
from common.redaction import findings, redacted


class SecretFound(InvalidInput):
    """Nothing of the request was kept; `where` (RFC 6901), `kind` and `fingerprint` say what was
    in it.
    """

    code = "secret_in_request"
    sentence = (
        "The request holds a credential, so nothing of it was kept. Credentials belong to the "
        "endpoint of a system: the portal puts them into its calls."
    )


def ensure_no_secret(value: Any) -> None:
    """Raises SecretFound for the first secret in it."""
    for found in findings(value):
        raise SecretFound(where=found.where, kind=found.kind, fingerprint=found.fingerprint)


def required_reason(reason: str) -> str:
    """The reason without surrounding space, and with a mark in place of each credential.

    Raises ReasonRequired when nothing is left of it.
    """
    stripped = reason.strip()
    if not stripped:
        raise ReasonRequired
    return str(redacted(stripped))
