"""Read tools that serve facts, for whoever judges a call before the airline gets it."""

import datetime as dt

from demo.airline.records import Arguments, found_user
from demo.airline.store import Row, Sandbox

UNKNOWN = "unknown"


def get_flight_statuses(sandbox: Sandbox, arguments: Arguments) -> list[Row]:
    return [
        flight_status(sandbox, flight["flight_number"], flight["date"])
        for flight in arguments["flights"]
    ]


def list_user_reservations(sandbox: Sandbox, arguments: Arguments) -> list[Row]:
    user = found_user(sandbox, arguments["user_id"])
    found = (sandbox.find("reservations", each) for each in user["reservations"])
    return [_with_statuses(sandbox, reservation) for reservation in found if reservation]


def get_current_time(sandbox: Sandbox, _arguments: Arguments) -> dict[str, str]:
    return {"now": sandbox.now}


def flight_status(sandbox: Sandbox, flight_number: str, date: str) -> Row:
    """Return the status of a flight on a day; null and unknown where the airline has none."""
    flight = sandbox.find("flights", flight_number) or {}
    day = flight.get("dates", {}).get(date)
    known = day is not None
    return {
        "flight_number": flight_number,
        "date": date,
        "known": known,
        "origin": flight.get("origin"),
        "destination": flight.get("destination"),
        "status": day["status"] if known else UNKNOWN,
        "departure": _departure(flight, date),
        "prices": day.get("prices", {}) if known else {},
        "available_seats": day.get("available_seats", {}) if known else {},
    }


def _departure(flight: Row, date: str) -> str | None:
    if not flight:
        return None
    try:
        day = dt.date.fromisoformat(date)
    except ValueError:
        return None
    return f"{day.isoformat()}T{flight['scheduled_departure_time_est']}"


def _with_statuses(sandbox: Sandbox, reservation: Row) -> Row:
    statuses = [
        flight_status(sandbox, flight["flight_number"], flight["date"])["status"]
        for flight in reservation["flights"]
    ]
    return reservation | {"flight_statuses": statuses}
