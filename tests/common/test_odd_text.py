"""Text that reads otherwise than it is, is marked (UTS #39, UAX #9)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.templatetags.blocks import badge, value, visible
from common.unusual_text import is_odd, parts


@pytest.mark.parametrize(
    "text",
    [
        "pay \u202e001\u202c",  # a changed direction of reading
        "ab\u200bcd",  # no width
        "\u0430dmin",  # a Cyrillic letter among Latin ones
        "line\u2028end",
        "\ufeffbom",
        "a\u00a0b",
        "tag\U000e0041",
    ],
)
def test_odd_text_is_marked(text: str) -> None:
    assert is_odd({"deep": [text]})
    assert 'class="odd"' in visible(text)


@pytest.mark.parametrize(
    "text", ["Zürich", "Привет мир", "北京 100", "naïve café", "a\nb", "x < y & z", "5 €", "👍"]
)
def test_plain_text_of_any_script_is_not(text: str) -> None:
    assert not is_odd(text)


@given(st.text().filter(lambda text: "U+" not in text))
def test_nothing_of_the_text_is_lost(text: str) -> None:
    said = (
        chr(int(part.text.removeprefix("U+"), 16)) if part.text.startswith("U+") else part.text
        for part in parts(text)
    )
    assert "".join(said) == text


def test_nothing_is_markup() -> None:
    assert "<b>" not in visible("<b>\u200b")


def test_markup_of_our_own_stays_markup() -> None:
    assert visible(badge("draft")) == badge("draft")
    assert "badge" in value({"status": badge("draft")})
    assert "&lt;span" not in value({"status": badge("draft")})
