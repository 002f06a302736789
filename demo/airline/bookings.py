"""The airline's writes. They check hardly any rule of its written policy."""

from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any

from demo.airline.payments import Amount, pay_booking, settle_change
from demo.airline.records import Arguments, departing, found_reservation, found_user
from demo.airline.refusals import AirlineRefusal
from demo.airline.store import Row, Sandbox

INSURANCE_PER_PASSENGER = 30
PRICE_PER_BAG = 50
FIRST_CERTIFICATE = 3221322

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_FIRST_RESERVATION = "HATHAT"


def book_reservation(sandbox: Sandbox, arguments: Arguments) -> Row:
    user_id = arguments["user_id"]
    user = found_user(sandbox, user_id)
    reservation_id = next(each for each in _reservation_ids() if _is_free(sandbox, each))
    passengers = len(arguments["passengers"])
    flights = [
        _seated(sandbox, flight, (arguments["cabin"], passengers))
        for flight in arguments["flights"]
    ]
    pay_booking(user, arguments["payment_methods"], _booking_price(arguments, flights))
    reservation = {
        "reservation_id": reservation_id,
        **_given(arguments, "user_id", "origin", "destination", "flight_type", "cabin"),
        "flights": flights,
        "passengers": arguments["passengers"],
        "payment_history": arguments["payment_methods"],
        "created_at": sandbox.now,
        **_given(arguments, "total_baggages", "nonfree_baggages", "insurance"),
    }
    user["reservations"].append(reservation_id)
    sandbox.put("users", user_id, user)
    sandbox.put("reservations", reservation_id, reservation)
    return reservation


def cancel_reservation(sandbox: Sandbox, arguments: Arguments) -> Row:
    reservation = found_reservation(sandbox, arguments["reservation_id"])
    reservation["payment_history"] += [
        {"payment_id": payment["payment_id"], "amount": -payment["amount"]}
        for payment in reservation["payment_history"]
    ]
    reservation["status"] = "cancelled"
    sandbox.put("reservations", reservation["reservation_id"], reservation)
    return reservation


def update_reservation_flights(sandbox: Sandbox, arguments: Arguments) -> Row:
    """Changes flights, cabin or both.

    A kept flight keeps the price it was booked at and is not checked again, unless the cabin
    changes.
    """
    reservation = found_reservation(sandbox, arguments["reservation_id"])
    cabin, passengers = arguments["cabin"], len(reservation["passengers"])
    kept = {_leg(flight): flight for flight in reservation["flights"]}
    if cabin != reservation["cabin"]:
        kept = {}
    flights = [
        kept.get(_leg(flight)) or _seated(sandbox, flight, (cabin, passengers))
        for flight in arguments["flights"]
    ]
    difference = (_price(flights) - _price(reservation["flights"])) * passengers
    settle_change(sandbox, reservation, (arguments["payment_id"], difference))
    reservation["flights"] = flights
    sandbox.put("reservations", reservation["reservation_id"], reservation | {"cabin": cabin})
    # The airline answers with the cabin before the change; a later read shows the new one.
    return reservation


def update_reservation_baggages(sandbox: Sandbox, arguments: Arguments) -> Row:
    reservation = found_reservation(sandbox, arguments["reservation_id"])
    added = max(0, arguments["nonfree_baggages"] - reservation["nonfree_baggages"])
    settle_change(sandbox, reservation, (arguments["payment_id"], PRICE_PER_BAG * added))
    reservation |= _given(arguments, "total_baggages", "nonfree_baggages")
    sandbox.put("reservations", reservation["reservation_id"], reservation)
    return reservation


def update_reservation_passengers(sandbox: Sandbox, arguments: Arguments) -> Row:
    reservation = found_reservation(sandbox, arguments["reservation_id"])
    if len(arguments["passengers"]) != len(reservation["passengers"]):
        message = "number of passengers does not match"
        raise AirlineRefusal(message)
    reservation["passengers"] = arguments["passengers"]
    sandbox.put("reservations", reservation["reservation_id"], reservation)
    return reservation


def send_certificate(sandbox: Sandbox, arguments: Arguments) -> str:
    user_id, amount = arguments["user_id"], arguments["amount"]
    user = found_user(sandbox, user_id)
    methods = user["payment_methods"]
    certificate = next(
        each
        for each in (f"certificate_{number}" for number in count(FIRST_CERTIFICATE))
        if each not in methods
    )
    methods[certificate] = {"source": "certificate", "amount": amount, "id": certificate}
    sandbox.put("users", user_id, user)
    return f"Certificate {certificate} added to user {user_id} with amount {amount}."


def _seated(sandbox: Sandbox, flight: Row, seats: tuple[str, int]) -> Row:
    """The flight with its price, if so many seats are free in the cabin."""
    cabin, passengers = seats
    flight_number, date = _leg(flight)
    route, day = departing(sandbox, flight_number, date)
    if day["available_seats"][cabin] < passengers:
        message = f"not enough seats on flight {flight_number}"
        raise AirlineRefusal(message)
    return {
        "flight_number": flight_number,
        "date": date,
        "price": day["prices"][cabin],
        "origin": route["origin"],
        "destination": route["destination"],
    }


def _booking_price(arguments: Arguments, flights: list[Row]) -> Amount:
    per_passenger = _price(flights)
    if arguments["insurance"] == "yes":
        per_passenger += INSURANCE_PER_PASSENGER
    bags: int = PRICE_PER_BAG * arguments["nonfree_baggages"]
    return per_passenger * len(arguments["passengers"]) + bags


def _price(flights: list[Row]) -> int:
    return sum(flight["price"] for flight in flights)


def _leg(flight: Mapping[str, Any]) -> tuple[str, str]:
    return flight["flight_number"], flight["date"]


def _given(arguments: Arguments, *names: str) -> Row:
    return {name: arguments[name] for name in names}


def _is_free(sandbox: Sandbox, reservation_id: str) -> bool:
    return sandbox.find("reservations", reservation_id) is None


def _reservation_ids() -> Iterator[str]:
    """HATHAT, HATHAU, ... HATHAZ, HATHBA, and so on."""
    first = 0
    for letter in _FIRST_RESERVATION:
        first = first * len(_LETTERS) + _LETTERS.index(letter)
    for number in count(first):
        letters, rest = "", number
        while rest:
            rest, position = divmod(rest, len(_LETTERS))
            letters = _LETTERS[position] + letters
        yield letters
