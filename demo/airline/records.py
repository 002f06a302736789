"""Rows of the airline's data, found or refused."""

from collections.abc import Mapping
from typing import Any

from demo.airline.refusals import AirlineRefusal
from demo.airline.store import Row, Sandbox

Arguments = Mapping[str, Any]

AVAILABLE = "available"


def found_user(sandbox: Sandbox, user_id: str) -> Row:
    return _found(sandbox.find("users", user_id), "user not found")


def found_reservation(sandbox: Sandbox, reservation_id: str) -> Row:
    return _found(sandbox.find("reservations", reservation_id), "reservation not found")


def found_payment_method(user: Row, payment_id: str) -> Row:
    return _found(user["payment_methods"].get(payment_id), "payment method not found")


def departing(sandbox: Sandbox, flight_number: str, date: str) -> tuple[Row, Row]:
    """A flight and its day, if it can be booked on that day."""
    flight = _found(sandbox.find("flights", flight_number), f"flight {flight_number} not found")
    day: Row = flight["dates"].get(date, {})
    if day.get("status") != AVAILABLE:
        message = f"flight {flight_number} not available on date {date}"
        raise AirlineRefusal(message)
    return flight, day


def _found(row: Row | None, refusal: str) -> Row:
    if row is None:
        raise AirlineRefusal(refusal)
    return row
