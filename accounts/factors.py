"""A second factor that a person has shown."""

from dataclasses import dataclass
from datetime import datetime, timedelta

FRESH_FOR = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Factor:
    """Which one, and when."""

    kind: str
    authenticator: str
    shown_at: datetime

    def __str__(self) -> str:
        return f"{self.kind} {self.authenticator} {self.shown_at:%Y-%m-%dT%H:%M:%SZ}"

    def is_fresh(self, now: datetime) -> bool:
        return timedelta(0) <= now - self.shown_at <= FRESH_FOR
