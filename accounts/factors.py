"""A second factor that a person has shown, and how its secret is kept."""

import base64
from dataclasses import dataclass
from datetime import datetime, timedelta

from common.encryption import decrypt, encrypt, key_id_of, sealing_key_id

_BOUND_TO = "second-factor"
FRESH_FOR = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Factor:
    """A second factor and the time it was used."""

    kind: str
    authenticator: str
    shown_at: datetime

    def __str__(self) -> str:
        return f"{self.kind} {self.authenticator} {self.shown_at:%Y-%m-%dT%H:%M:%SZ}"

    def is_fresh(self, now: datetime) -> bool:
        return timedelta(0) <= now - self.shown_at <= FRESH_FOR


def sealed_text(text: str) -> str:
    return base64.b64encode(encrypt(text.encode(), bound_to=_BOUND_TO)).decode()


def opened_text(sealed: str) -> str:
    """Raises CannotUnseal, ValueError."""
    return decrypt(base64.b64decode(sealed), bound_to=_BOUND_TO).decode()


def is_of_present_key(sealed: str) -> bool:
    return key_id_of(base64.b64decode(sealed)) == sealing_key_id()
