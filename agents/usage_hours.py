"""Declared hours of use: `mon-fri 8-18`, in UTC."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from common.errors import InvalidInput

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_FORM = re.compile(
    r"(mon|tue|wed|thu|fri|sat|sun)-(mon|tue|wed|thu|fri|sat|sun) (\d{1,2})-(\d{1,2})"
)


@dataclass(frozen=True, slots=True)
class Hours:
    """From one weekday to another, and from one full hour to another. Nights may cross midnight."""

    first_day: int
    last_day: int
    begins: int
    ends: int

    @classmethod
    def parsed(cls, text: str) -> "Hours":
        """Raises InvalidInput."""
        found = _FORM.fullmatch(text)
        if found is not None:
            first, last, begins, ends = found.groups()
            hours = cls(_DAYS.index(first), _DAYS.index(last), int(begins), int(ends))
            if hours.begins <= 23 and 0 < hours.ends <= 24 and hours.begins != hours.ends:
                return hours
        message = "Hours are written like mon-fri 8-18, in UTC."
        raise InvalidInput(message)

    def cover(self, moment: datetime) -> bool:
        """A night belongs to the day on which it began."""
        at = moment.astimezone(UTC)
        day, hour = at.weekday(), at.hour
        if self.begins < self.ends:
            return self._has(day) and self.begins <= hour < self.ends
        if hour >= self.begins:
            return self._has(day)
        return self._has((day - 1) % 7) and hour < self.ends

    def _has(self, day: int) -> bool:
        if self.first_day <= self.last_day:
            return self.first_day <= day <= self.last_day
        return day >= self.first_day or day <= self.last_day
