"""Amounts of money as text."""

from decimal import Decimal

USUAL_DIGITS = 4


def amount_text(amount: Decimal) -> str:
    """The amount in full: four digits after the point, and more only where they are not zero."""
    whole, _, fraction = f"{amount:.10f}".partition(".")
    return f"{whole}.{fraction.rstrip('0').ljust(USUAL_DIGITS, '0')}"
