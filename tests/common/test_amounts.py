"""Amounts are written in full: nothing is rounded away."""

from decimal import Decimal

import pytest

from common.amounts import amount_text


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("500", "500.0000"),
        ("12.5", "12.5000"),
        ("0.00004", "0.00004"),
        ("0.0000000001", "0.0000000001"),
        ("0E-10", "0.0000"),
        ("999999999999.1234567890", "999999999999.123456789"),
    ],
)
def test_amounts_are_written_in_full(amount: str, text: str) -> None:
    assert amount_text(Decimal(amount)) == text
