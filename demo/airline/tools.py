"""The airline's tools by name: what its service agents call, and the facts it serves."""

import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

from demo.airline.bookings import (
    book_reservation,
    cancel_reservation,
    send_certificate,
    update_reservation_baggages,
    update_reservation_flights,
    update_reservation_passengers,
)
from demo.airline.calculator import calculation
from demo.airline.facts import get_current_time, get_flight_statuses, list_user_reservations
from demo.airline.flight_search import search_direct_flight, search_onestop_flight
from demo.airline.records import Arguments, found_reservation, found_user
from demo.airline.store import Answer, Row, Sandbox

Tool = Callable[[Sandbox, Arguments], Answer]

AIRPORTS = Path(__file__).parent / "data" / "airports.json"


def get_user_details(sandbox: Sandbox, arguments: Arguments) -> Row:
    return found_user(sandbox, arguments["user_id"])


def get_reservation_details(sandbox: Sandbox, arguments: Arguments) -> Row:
    return found_reservation(sandbox, arguments["reservation_id"])


def list_all_airports(_sandbox: Sandbox, _arguments: Arguments) -> Mapping[str, str]:
    return _airports()


def calculate(_sandbox: Sandbox, arguments: Arguments) -> str:
    return str(calculation(arguments["expression"]))


def think(_sandbox: Sandbox, _arguments: Arguments) -> str:
    return ""


def transfer_to_human_agents(_sandbox: Sandbox, _arguments: Arguments) -> str:
    return "Transfer successful"


@cache
def _airports() -> Mapping[str, str]:
    airports: Mapping[str, str] = json.loads(AIRPORTS.read_text(encoding="utf-8"))
    return airports


def _by_name(*tools: Tool) -> Mapping[str, Tool]:
    return {tool.__name__: tool for tool in tools}


READS = _by_name(
    calculate,
    get_reservation_details,
    get_user_details,
    list_all_airports,
    search_direct_flight,
    search_onestop_flight,
    think,
    transfer_to_human_agents,
)
WRITES = _by_name(
    book_reservation,
    cancel_reservation,
    send_certificate,
    update_reservation_baggages,
    update_reservation_flights,
    update_reservation_passengers,
)
FACTS = _by_name(get_current_time, get_flight_statuses, list_user_reservations)
