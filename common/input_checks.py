"""Checks of input: credentials are refused."""

import unicodedata
from collections.abc import Collection
from typing import Any

from common.errors import InvalidInput, ReasonRequired
from common.redaction import findings, redact


class SecretFound(InvalidInput):
    """Nothing of the request was kept; `where` (RFC 6901), `kind` and `fingerprint` say what was
    in it.
    """

    code = "secret_in_request"
    sentence = (
        "The request holds a credential, so nothing of it was kept. Credentials belong to the "
        "endpoint of a system: the portal puts them into its calls."
    )


def ensure_no_secret(
    value: Any,
    *,
    vouched: frozenset[str] = frozenset(),
    allowed: Collection[str] = (),
) -> None:
    """Raises SecretFound for the first secret in it. `vouched`: numbers that are known to be none;
    `allowed`: places (RFC 6901) where one is expected and taken care of.
    """
    for found in findings(value, vouched=vouched):
        if found.where in allowed:
            continue
        raise SecretFound(where=found.where, kind=found.kind, fingerprint=found.fingerprint)


def clean_reason(reason: str) -> str:
    """The reason without surrounding space, and with a mark in place of each credential.

    Raises ReasonRequired when nothing is left of it.
    """
    stripped = reason.strip()
    if not any(unicodedata.category(letter)[0] in "LNPS" for letter in stripped):
        raise ReasonRequired  # what nobody can read is none
    return str(redact(stripped))
