"""Hiding values that nobody should read back."""


def hidden(value: str) -> str:
    """The mask of the change log: says that there was a value, and nothing about it."""
    return "(hidden)" if value else ""
