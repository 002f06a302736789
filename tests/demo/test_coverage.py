"""The table of the airline's policy names what there is, and all of it."""

import re
from pathlib import Path
from typing import Any

from common.cel import compiled
from demo.catalogue import definitions

DEMO = Path(__file__).resolve().parents[2] / "demo"
NAMED = set(re.findall(r"`([a-z0-9_-]+)`", (DEMO / "coverage.md").read_text()))
RULES = {path.stem for path in (DEMO / "policies").glob("*.cedar")}
FACTS = {fact["name"] for _, tool in definitions() for fact in tool.get("facts", ())}


def test_every_rule_is_in_the_table() -> None:
    assert RULES <= NAMED


def test_every_fact_that_a_rule_looks_at_is_in_the_table() -> None:
    texts = "".join(path.read_text() for path in (DEMO / "policies").glob("*.cedar"))
    looked_at = set(re.findall(r"context\.facts\.(\w+)", texts))
    assert looked_at <= FACTS
    assert looked_at - {"reason_to_be_attested"} <= NAMED


def test_what_the_table_names_as_a_rule_is_one() -> None:
    with_a_dash = {name for name in NAMED if "-" in name} - {"cancel-and-refund"}
    assert with_a_dash <= RULES
    assert (DEMO / "workflows" / "cancel-and-refund.yaml").is_file()


def fact(tool: str, name: str, **values: Any) -> Any:
    """What a fact of a tool comes to."""
    [text] = [
        one["expression"] for one in dict(definitions())[tool]["facts"] if one["name"] == name
    ]
    return compiled(text, (*values, "facts")).evaluate({**values, "facts": {}})


def leg(number: str, **more: str) -> dict[str, str]:
    return {"flight_number": number, "date": "2024-05-20", "status": "available", **more}


def test_bags_below_zero_do_not_lower_the_price() -> None:
    bags = {"total_baggages": 0, "nonfree_baggages": -3}
    assert fact("book_reservation", "bags_below_zero", args=bags) is True
    bags = {"total_baggages": 3, "nonfree_baggages": 0}
    assert fact("book_reservation", "bags_below_zero", args=bags) is False


def test_a_flight_given_twice_hides_no_change() -> None:
    booked = {"flights": [leg("A"), leg("B")]}
    for given, is_changed in (("AB", False), ("BA", False), ("AA", True), ("AC", True)):
        args = {"flights": [leg(one) for one in given]}
        found = fact("update_reservation_flights", "flights_changed", args=args, reservation=booked)
        assert found is is_changed


def test_a_one_way_trip_ends_where_it_did() -> None:
    booked = {"destination": "LAS", "flight_type": "one_way"}
    there, beyond = leg("A", destination="LAS"), leg("B", destination="SFO")
    tool, name = "update_reservation_flights", "destination_changed"
    assert fact(tool, name, asked=[there], reservation=booked) is False
    assert fact(tool, name, asked=[there, beyond], reservation=booked) is True


def test_entitlement_and_amount_are_of_one_reservation() -> None:
    insured = {"insurance": "yes", "cabin": "economy", "passengers": [1]}
    large = {"insurance": "no", "cabin": "economy", "passengers": [1, 2, 3, 4, 5]}
    for amount, is_due in ((100, True), (500, False)):
        found = fact(
            "send_certificate",
            "due_on_a_reservation",
            args={"amount": amount},
            user={"membership": "regular"},
            reservations=[insured, large],
        )
        assert found is is_due


def test_passengers_have_names_and_there_is_one() -> None:
    whole = {"first_name": "Ann", "last_name": "Li", "dob": "1990-01-02"}
    for passengers, is_incomplete in (([], True), ([whole], False), ([{**whole, "dob": ""}], True)):
        args = {"passengers": passengers}
        assert fact("book_reservation", "passengers_incomplete", args=args) is is_incomplete
