"""Identifiers that sort by time."""

import os
import time
from datetime import datetime
from uuid import UUID


def uuid7() -> UUID:
    """A UUID version 7 (RFC 9562 section 5.7): 48 bits of Unix milliseconds, 74 random bits.

    Primary keys made here grow with time, so a list ordered by key is ordered by age and a
    page can be continued from the last key seen.
    """
    milliseconds = time.time_ns() // 1_000_000
    noise = int.from_bytes(os.urandom(10), "big")
    value = (milliseconds & (2**48 - 1)) << 80
    value |= 0x7 << 76
    value |= ((noise >> 62) & 0xFFF) << 64
    value |= 0b10 << 62
    value |= noise & (2**62 - 1)
    return UUID(int=value)


def first_key_at(moment: datetime) -> UUID:
    """The smallest uuid7 of that millisecond: where a list of keys by time begins."""
    milliseconds = max(int(moment.timestamp() * 1000), 0)
    return UUID(int=(milliseconds << 80) | (0x7 << 76) | (0b10 << 62))


def is_identifier(text: str) -> bool:
    """Whether the text is a UUID as we write them."""
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False
