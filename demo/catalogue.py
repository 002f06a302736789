"""The airline's tools as the portal knows them: access, claims, and the facts that its written
policy (airline/data/policy.md) turns on. Facts come from the airline's own read tools.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

from tools.classes import IDENTIFIES, KEYWORD

_DATA = Path(__file__).resolve().parent / "airline" / "data"

CONFIRMED = {
    "name": "user_confirmed",
    "title": "The customer said yes to this",
    "type": "bool",
    "default": False,
}

_NOW = {"name": "clock", "tool": "get_current_time", "arguments": {}}
_RESERVATION = {
    "name": "reservation",
    "tool": "get_reservation_details",
    "arguments": {"reservation_id": "args.reservation_id"},
}
_OWNER = {
    "name": "user",
    "tool": "get_user_details",
    "arguments": {"user_id": "reservation.user_id"},
}
_BOOKER = {"name": "user", "tool": "get_user_details", "arguments": {"user_id": "args.user_id"}}
_BOOKED = {
    "name": "booked",
    "tool": "get_flight_statuses",
    "arguments": {
        "flights": "reservation.flights.map(f, {'flight_number': f.flight_number, 'date': f.date})"
    },
}
_ASKED = {
    "name": "asked",
    "tool": "get_flight_statuses",
    "arguments": {
        "flights": "args.flights.map(f, {'flight_number': f.flight_number, 'date': f.date})"
    },
}
_ALL = {
    "name": "reservations",
    "tool": "list_user_reservations",
    "arguments": {"user_id": "args.user_id"},
}

_FLOWN = "booked.exists(f, f.status in ['landed', 'flying'])"
# Free bags per passenger: basic economy, economy, business for regular, silver and gold members.
_ALLOWANCE = (
    "{'regular': {'basic_economy': 0, 'economy': 1, 'business': 2}, "
    "'silver': {'basic_economy': 1, 'economy': 2, 'business': 3}, "
    "'gold': {'basic_economy': 2, 'economy': 3, 'business': 3}}"
)


def _fact(name: str, title: str, expression: str, **more: str) -> dict[str, str]:
    return {"name": name, "title": title, "expression": expression, **more}


_CANCEL = {
    "sources": [_NOW, _RESERVATION, _BOOKED],
    "facts": [
        _fact("segment_flown", "Part of the trip has been flown", _FLOWN),
        _fact(
            "booked_within_24_hours",
            "Booked within the last 24 hours",
            "timestamp(clock.now + 'Z') - timestamp(reservation.created_at + 'Z') "
            "<= duration('24h')",
        ),
        _fact(
            "airline_cancelled",
            "The airline cancelled a flight of it",
            "booked.exists(f, f.status == 'cancelled')",
        ),
        _fact("cabin", "Cabin", "string(reservation.cabin)", data_class="internal"),
        _fact("insured", "Travel insurance was bought", "reservation.insurance == 'yes'"),
        _fact(
            "cancellable_as_it_is",
            "May be cancelled without a reason",
            "facts.booked_within_24_hours || facts.airline_cancelled || facts.cabin == 'business'",
        ),
        _fact(
            "reason_to_be_attested",
            "A person must attest the insured reason",
            "facts.insured && !facts.cancellable_as_it_is",
        ),
    ],
}

_CHANGE_FLIGHTS = {
    "sources": [_RESERVATION, _BOOKED, _ASKED],
    "facts": [
        _fact(
            "flights_changed",
            "Other flights than those booked",
            "size(args.flights) != size(reservation.flights) || !args.flights.all(a, "
            "reservation.flights.exists(f, f.flight_number == a.flight_number "
            "&& f.date == a.date)) || !reservation.flights.all(f, args.flights.exists(a, "
            "a.flight_number == f.flight_number && a.date == f.date))",
        ),
        _fact("cabin_changed", "Another cabin", "args.cabin != reservation.cabin"),
        _fact(
            "basic_economy",
            "The booking is basic economy",
            "reservation.cabin == 'basic_economy'",
        ),
        _fact("segment_flown", "Part of the trip has been flown", _FLOWN),
        _fact(
            "origin_changed",
            "Another origin",
            "size(asked) == 0 || asked[0].origin != reservation.origin",
        ),
        _fact(
            "destination_changed",
            "Another destination",
            "size(asked) == 0 || (reservation.flight_type == 'round_trip' "
            "? !asked.exists(f, f.destination == reservation.destination) "
            ": asked[size(asked) - 1].destination != reservation.destination)",
        ),
        _fact(
            "trip_type_changed",
            "A round trip would become one way, or the reverse",
            "size(asked) == 0 || (reservation.flight_type == 'round_trip') != "
            "(asked[size(asked) - 1].destination == reservation.origin)",
        ),
        _fact(
            "flight_unavailable",
            "A new flight that cannot be booked",
            "asked.exists(f, f.status != 'available' && !reservation.flights.exists(b, "
            "b.flight_number == f.flight_number && b.date == f.date))",
        ),
        _fact(
            "attestation_needed",
            "A person must decide on the cabin of a trip begun",
            "facts.cabin_changed && facts.segment_flown",
        ),
    ],
}

_CHANGE_BAGS = {
    "sources": [_RESERVATION, _OWNER],
    "facts": [
        _fact(
            "bags_removed",
            "Fewer bags than booked",
            "args.total_baggages < reservation.total_baggages",
        ),
        _fact(
            "bags_undercharged",
            "Fewer bags charged than the allowance leaves",
            f"args.nonfree_baggages < args.total_baggages - {_ALLOWANCE}"
            "[user.membership][reservation.cabin] * size(reservation.passengers)",
        ),
    ],
}

_INCOMPLETE = (
    "args.passengers.exists(p, p.first_name == '' || p.last_name == '' "
    "|| !p.dob.matches('^[0-9]{4}-[0-9]{2}-[0-9]{2}$'))"
)

_CHANGE_PASSENGERS = {
    "sources": [_RESERVATION],
    "facts": [
        _fact("passengers_incomplete", "A passenger without name or date of birth", _INCOMPLETE),
        _fact(
            "number_changed",
            "Another number of passengers",
            "size(args.passengers) != size(reservation.passengers)",
        ),
    ],
}


def _paid_by(kind: str) -> str:
    return (
        "size(args.payment_methods.filter(p, p.payment_id in user.payment_methods && "
        f"user.payment_methods[p.payment_id].source == '{kind}'))"
    )


_BOOK = {
    "sources": [_BOOKER, _ASKED],
    "facts": [
        _fact(
            "flight_unavailable",
            "A flight that cannot be booked",
            "size(asked) == 0 || !asked.all(f, f.status == 'available')",
        ),
        _fact("passengers", "Passengers", "size(args.passengers)"),
        _fact(
            "passengers_incomplete",
            "A passenger without name or date of birth, or none",
            f"size(args.passengers) == 0 || {_INCOMPLETE}",
        ),
        _fact(
            "bags_below_zero",
            "A number of bags below zero",
            "args.total_baggages < 0 || args.nonfree_baggages < 0",
        ),
        _fact("certificates", "Travel certificates used", _paid_by("certificate")),
        _fact("credit_cards", "Credit cards used", _paid_by("credit_card")),
        _fact("gift_cards", "Gift cards used", _paid_by("gift_card")),
        _fact(
            "payment_not_in_profile",
            "Paid by something not in the customer's profile",
            "!args.payment_methods.all(p, p.payment_id in user.payment_methods)",
        ),
        _fact(
            "negative_payment",
            "A payment below zero",
            "args.payment_methods.exists(p, double(p.amount) < 0.0)",
        ),
        _fact(
            "bags_undercharged",
            "Fewer bags charged than the allowance leaves",
            f"args.nonfree_baggages < args.total_baggages - {_ALLOWANCE}"
            "[user.membership][args.cabin] * size(args.passengers)",
        ),
    ],
    "amount": "sum(args.payment_methods.map(p, double(p.amount)))",
}

_CERTIFICATE = {
    "sources": [_BOOKER, _ALL],
    "facts": [
        _fact(
            "may_be_compensated",
            "Silver or gold member, or insured, or in business",
            "user.membership in ['silver', 'gold'] || reservations.exists(r, "
            "r.insurance == 'yes' || r.cabin == 'business')",
        ),
        _fact(
            "amount_fits_a_reservation",
            "100 or 50 per passenger of a reservation of the customer",
            "reservations.exists(r, double(args.amount) == 100.0 * double(size(r.passengers)) "
            "|| double(args.amount) == 50.0 * double(size(r.passengers)))",
        ),
        _fact(
            "due_on_a_reservation",
            "One reservation gives both the entitlement and the amount",
            "reservations.exists(r, (user.membership in ['silver', 'gold'] || r.insurance == 'yes' "
            "|| r.cabin == 'business') && double(args.amount) in "
            "[100.0 * double(size(r.passengers)), 50.0 * double(size(r.passengers))])",
        ),
        _fact(
            "incident_on_record",
            "A cancelled or delayed flight is on record",
            "reservations.exists(r, 'cancelled' in r.flight_statuses "
            "|| 'delayed' in r.flight_statuses)",
        ),
    ],
    "amount": "args.amount",
}

_WRITES: dict[str, tuple[str, dict[str, Any]]] = {
    "book_reservation": ("Book a reservation", _BOOK),
    "cancel_reservation": ("Cancel a reservation", _CANCEL),
    "update_reservation_flights": ("Change the flights of a reservation", _CHANGE_FLIGHTS),
    "update_reservation_baggages": ("Change the bags of a reservation", _CHANGE_BAGS),
    "update_reservation_passengers": ("Change the passengers", _CHANGE_PASSENGERS),
    "send_certificate": ("Send a travel certificate", _CERTIFICATE),
}
_READS = {
    "get_reservation_details": ("Read a reservation", ["pii"]),
    "get_user_details": ("Read a customer's profile", ["pii"]),
    "list_all_airports": ("List the airports", []),
    "search_direct_flight": ("Search direct flights", []),
    "search_onestop_flight": ("Search flights with one stop", []),
    "calculate": ("Calculate", []),
    "think": ("Think", []),
    "transfer_to_human_agents": ("Hand over to a person", []),
}
_FACTS_ONLY = {
    "get_flight_statuses": "Read the status of flights",
    "list_user_reservations": "Read all reservations of a customer",
    "get_current_time": "Read the airline's clock",
}


@cache
def _schemas() -> dict[str, dict[str, Any]]:
    files = (_DATA / "tools.json", _DATA / "fact_tools.json")
    tools = [tool for file in files for tool in json.loads(file.read_text())]
    return {tool["name"]: tool for tool in tools}


def definitions() -> list[tuple[str, dict[str, Any]]]:
    """(name, attributes) of every tool, sources before the tools that use them."""
    found: list[tuple[str, dict[str, Any]]] = []
    for name, title in _FACTS_ONLY.items():
        found.append((name, _read(name, title) | {"serves_facts_only": True}))
    for name, (title, labels) in _READS.items():
        found.append((name, _read(name, title) | {"labels": labels}))
    for name, (title, facts) in _WRITES.items():
        found.append((name, _attributes(name, title) | facts | _write()))
    return found


# What the log is told of the arguments: which identify something, and which are about a person.
_IDENTIFIES = {"reservation_id": "reservation", "user_id": "customer", "payment_id": "payment"}
_ABOUT_PEOPLE = {"passengers"}
_PERSONAL = {"get_user_details"}


def _classified(schema: dict[str, Any]) -> dict[str, Any]:
    properties = {
        name: rule
        | ({IDENTIFIES: _IDENTIFIES[name]} if name in _IDENTIFIES else {})
        | ({KEYWORD: "personal"} if name in _ABOUT_PEOPLE else {})
        for name, rule in schema["properties"].items()
    }
    return {**schema, "properties": properties}


def _attributes(name: str, title: str) -> dict[str, Any]:
    schema = _schemas()[name]
    return {
        "title": title,
        "description": schema["description"],
        "input_schema": _classified(schema["parameters"]),
        "output_schema": {"type": "object", KEYWORD: "personal"} if name in _PERSONAL else None,
        "timeout_seconds": 10,
    }


def _read(name: str, title: str) -> dict[str, Any]:
    return _attributes(name, title) | {"access": "read", "idempotent": True}


def _write() -> dict[str, Any]:
    return {"access": "write", "idempotent": True, "claims": [CONFIRMED]}


_TEXT = {"type": "string", "maxLength": 200}
_SUM = {"type": "number"}


def _taking(required: list[str], **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _giving(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


ACCOUNTING: tuple[tuple[str, dict[str, Any]], ...] = (
    (
        "find",
        {
            "title": "Find a posting by its key",
            "access": "read",
            "idempotent": True,
            "serves_facts_only": True,
            "input_schema": _taking(["key"], key=_TEXT),
        },
    ),
    (
        "list_certificates",
        {
            "title": "List goodwill certificates",
            "access": "read",
            "idempotent": True,
            "input_schema": _taking(["before"], before=_TEXT),
            "output_schema": _giving(certificates={"type": "array"}),
        },
    ),
    (
        "refund",
        {
            "title": "Book a refund",
            "access": "write",
            "idempotent": True,
            "input_schema": _taking(
                ["reservation", "customer", "amount"],
                reservation=_TEXT,
                customer=_TEXT,
                amount=_SUM,
            ),
            "output_schema": _giving(refund=_TEXT, status=_TEXT, amount=_SUM),
            "amount": "args.amount",
        },
    ),
    (
        "void_refund",
        {
            "title": "Void a refund",
            "access": "write",
            "idempotent": True,
            "input_schema": _taking(["refund"], refund=_TEXT),
        },
    ),
    (
        "certify",
        {
            "title": "Certify a goodwill certificate",
            "access": "write",
            "idempotent": True,
            "input_schema": _taking(["certificate", "on"], certificate=_TEXT, on=_TEXT),
        },
    ),
    (
        "post_entry",
        {
            "title": "Post a note to the books",
            "access": "write",
            "idempotent": False,
            "probe": "find",
            "input_schema": _taking(["text"], text=_TEXT),
        },
    ),
    (
        "send_letter",
        {
            "title": "Send a letter",
            "access": "execute",
            "idempotent": False,
            "input_schema": _taking(["to"], to=_TEXT),
        },
    ),
)
