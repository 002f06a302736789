"""Lengths of time as people write them: 90s, 15m, 2h, 7d."""

import re
from datetime import timedelta

PATTERN = r"^[1-9][0-9]{0,5}(ms|s|m|h|d)$"
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_WRITTEN = re.compile(PATTERN)


def duration(text: str) -> timedelta:
    """Raises ValueError for text that is not of PATTERN."""
    if not _WRITTEN.fullmatch(text):
        message = f"{text} is no length of time"
        raise ValueError(message)
    unit = "ms" if text.endswith("ms") else text[-1]
    return timedelta(seconds=int(text.removesuffix(unit)) * _UNITS[unit])
