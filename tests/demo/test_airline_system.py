import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import demo.airline
from demo.airline.calculator import calculation
from demo.airline.store import Sandbox, Store, Write, base_world
from demo.airline.system import (
    FACT_TOOLS,
    READ_TOOLS,
    WRITE_TOOLS,
    Airline,
    AirlineRefusal,
    ArgumentsRefused,
    IdempotencyConflict,
    NoSuchTool,
)

RECORDED = Path(demo.airline.__file__).parent / "data"
RECORDED_CALLS = 572
SENT = 24
# The recording cuts long answers off here; what is left of them is compared character by character.
LONGEST_RECORDED = 4000

USER = "mia_li_3668"
RESERVATION = "NO6JO3"
CANCEL = {"reservation_id": RESERVATION}
BOOKING = {
    "user_id": USER,
    "origin": "JFK",
    "destination": "SEA",
    "flight_type": "one_way",
    "cabin": "economy",
    "flights": [
        {"flight_number": "HAT136", "date": "2024-05-20"},
        {"flight_number": "HAT039", "date": "2024-05-20"},
    ],
    "passengers": [{"first_name": "Mia", "last_name": "Li", "dob": "1990-04-05"}],
    "payment_methods": [
        {"payment_id": "certificate_7504069", "amount": 250},
        {"payment_id": "credit_card_4421486", "amount": 55},
    ],
    "total_baggages": 3,
    "nonfree_baggages": 1,
    "insurance": "no",
}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "airline.sqlite3")


@pytest.fixture
def airline(store: Store) -> Airline:
    return Airline(store)


def recorded_runs() -> list[dict[str, Any]]:
    with (RECORDED / "trace.jsonl").open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def answer_as_recorded(airline: Airline, run: str, call: dict[str, Any]) -> str:
    try:
        answer = airline.call(
            call["tool"],
            call["arguments"],
            sandbox=run,
            idempotency_key=f"{run}/{call['seq']}",
        )
    except AirlineRefusal as refusal:
        return f"Error: {refusal}"
    return answer if isinstance(answer, str) else json.dumps(answer)


def is_equal(answer: str, recorded: str) -> bool:
    if len(recorded) == LONGEST_RECORDED:
        return answer[:LONGEST_RECORDED] == recorded
    try:
        return bool(json.loads(answer) == json.loads(recorded))
    except json.JSONDecodeError:
        return answer == recorded


def test_every_recorded_call_gets_its_recorded_answer(airline: Airline) -> None:
    calls = [(run["run"], call) for run in recorded_runs() for call in run["calls"]]
    different = [
        (run, call["seq"])
        for run, call in calls
        if not is_equal(answer_as_recorded(airline, run, call), call["result"])
    ]
    assert len(calls) == RECORDED_CALLS
    assert different == []


def test_exactly_the_writes_recorded_as_executed_take_effect(
    airline: Airline, store: Store
) -> None:
    for run in recorded_runs():
        for call in run["calls"]:
            answer_as_recorded(airline, run["run"], call)
        carried_out = [
            (call["tool"], call["arguments"])
            for call in run["calls"]
            if call["executed"] and call["tool"] in WRITE_TOOLS
        ]
        assert [each[:2] for each in store.executions(run["run"])] == carried_out


def test_the_tools_are_the_published_ones_and_the_facts() -> None:
    published = {
        tool["name"] for tool in json.loads((RECORDED / "tools.json").read_text(encoding="utf-8"))
    }
    assert published == READ_TOOLS | WRITE_TOOLS
    assert not published & FACT_TOOLS


def test_a_tool_the_airline_does_not_have_is_unknown(airline: Airline) -> None:
    with pytest.raises(NoSuchTool):
        airline.call("delete_everything", {}, sandbox="a", idempotency_key=None)


@pytest.mark.parametrize("tool", ["cancel_reservation", "book_reservation"])
def test_the_same_key_twice_has_one_effect(airline: Airline, store: Store, tool: str) -> None:
    arguments = CANCEL if tool == "cancel_reservation" else BOOKING
    first = airline.call(tool, arguments, sandbox="a", idempotency_key="k")
    after_first = store.snapshot("a")
    second = airline.call(tool, arguments, sandbox="a", idempotency_key="k")
    assert second == first
    assert store.snapshot("a") == after_first
    assert store.executions("a") == [(tool, arguments, "k")]


@pytest.mark.parametrize(
    ("tool", "arguments", "sandbox"),
    [
        ("cancel_reservation", {"reservation_id": "AIXC49"}, "a"),
        ("send_certificate", {"user_id": USER, "amount": 50}, "a"),
        ("cancel_reservation", CANCEL, "b"),
    ],
)
def test_a_used_key_is_refused_to_another_call(
    airline: Airline, store: Store, tool: str, arguments: dict[str, Any], sandbox: str
) -> None:
    airline.call("cancel_reservation", CANCEL, sandbox="a", idempotency_key="k")
    before = (store.snapshot("a"), store.snapshot("b"))
    with pytest.raises(IdempotencyConflict):
        airline.call(tool, arguments, sandbox=sandbox, idempotency_key="k")
    assert (store.snapshot("a"), store.snapshot("b")) == before


def test_without_a_key_every_call_has_its_effect(airline: Airline, store: Store) -> None:
    gift = {"user_id": USER, "amount": 50}
    for _ in range(2):
        airline.call("send_certificate", gift, sandbox="a", idempotency_key=None)
    assert store.executions("a") == [("send_certificate", gift, None)] * 2
    methods = store.snapshot("a")["users"][USER]["payment_methods"]
    assert {"certificate_3221322", "certificate_3221323"} <= set(methods)


def test_a_refused_call_leaves_its_key_unused(airline: Airline) -> None:
    refused = BOOKING | {"insurance": "yes"}
    with pytest.raises(AirlineRefusal):
        airline.call("book_reservation", refused, sandbox="a", idempotency_key="k")
    booked = airline.call("book_reservation", BOOKING, sandbox="a", idempotency_key="k")
    assert booked["reservation_id"] == "HATHAT"


def test_two_sandboxes_do_not_see_each_other(airline: Airline, store: Store) -> None:
    airline.call("cancel_reservation", CANCEL, sandbox="a", idempotency_key="k")
    here = airline.call("get_reservation_details", CANCEL, sandbox="a", idempotency_key=None)
    there = airline.call("get_reservation_details", CANCEL, sandbox="b", idempotency_key=None)
    assert here["status"] == "cancelled"
    assert there == base_world()["reservations"][RESERVATION]
    assert store.snapshot("b") == {}
    assert store.executions("b") == []


def test_the_shared_base_world_is_out_of_a_callers_reach(airline: Airline) -> None:
    search = {"origin": "JFK", "destination": "SEA", "date": "2024-05-20"}
    before = json.dumps(base_world())
    for offer in airline.call("search_direct_flight", search, sandbox="a", idempotency_key=None):
        offer["prices"]["economy"] = 1
    airline.call("book_reservation", BOOKING, sandbox="a", idempotency_key=None)
    assert json.dumps(base_world()) == before


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"user_id": "nobody"}, "user not found"),
        ({"insurance": "yes"}, "does not add up, total price is 335, but paid 305"),
        ({"cabin": "first"}, "cabin must be one of"),
        ({"total_baggages": True}, "total_baggages must be of type integer"),
        ({"flights": [{"flight_number": "HAT136"}]}, "flights item must have date"),
        ({"flights": [{"flight_number": "X", "date": "2024-05-20"}]}, "flight X not found"),
        ({"payment_methods": [{"payment_id": "x", "amount": 305}]}, "payment method not found"),
        (
            {"payment_methods": [{"payment_id": "certificate_7504069", "amount": 305}]},
            "not enough balance in payment method certificate_7504069",
        ),
        (
            {"payment_methods": [{"payment_id": "certificate_7504069", "amount": 152.5}] * 2},
            "not enough balance in payment method certificate_7504069",
        ),
        (
            {"payment_methods": [{"payment_id": "credit_card_4421486", "amount": float("nan")}]},
            "amount must be of type number",
        ),
    ],
)
def test_a_refused_call_changes_nothing(
    airline: Airline, store: Store, changes: dict[str, Any], refusal: str
) -> None:
    airline.call("cancel_reservation", CANCEL, sandbox="a", idempotency_key="k")
    before = (store.snapshot("a"), store.executions("a"))
    with pytest.raises(AirlineRefusal, match=refusal):
        airline.call("book_reservation", BOOKING | changes, sandbox="a", idempotency_key="b")
    assert (store.snapshot("a"), store.executions("a")) == before


def test_a_tool_that_fails_halfway_changes_nothing(store: Store) -> None:
    def fail_halfway(sandbox: Sandbox) -> None:
        sandbox.put("users", USER, {})
        raise ArgumentsRefused

    with pytest.raises(ArgumentsRefused):
        store.write(Write("a", "cancel_reservation", CANCEL, "k"), fail_halfway)
    assert store.snapshot("a") == {}
    assert store.executions("a") == []


def test_text_the_database_cannot_store_is_refused(airline: Airline) -> None:
    with pytest.raises(ArgumentsRefused):
        airline.call("get_user_details", {"user_id": "\ud800"}, sandbox="a", idempotency_key=None)


def test_a_booking_uses_its_certificate_up(airline: Airline, store: Store) -> None:
    airline.call("book_reservation", BOOKING, sandbox="a", idempotency_key="k")
    user = store.snapshot("a")["users"][USER]
    assert "certificate_7504069" not in user["payment_methods"]
    assert user["reservations"][-1] == "HATHAT"


def test_eight_threads_with_the_same_key_have_one_effect(airline: Airline, store: Store) -> None:
    def send(_: int) -> Any:
        gift = {"user_id": USER, "amount": 50}
        return airline.call("send_certificate", gift, sandbox="a", idempotency_key="k")

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(send, range(8)))
    assert len(set(answers)) == 1
    assert len(store.executions("a")) == 1
    methods = store.snapshot("a")["users"][USER]["payment_methods"]
    assert set(methods) - set(base_world()["users"][USER]["payment_methods"]) == {
        "certificate_3221322"
    }


def test_eight_threads_with_their_own_keys_lose_no_effect(airline: Airline, store: Store) -> None:
    def send(number: int) -> str:
        gift = {"user_id": USER, "amount": 50}
        return str(airline.call("send_certificate", gift, sandbox="a", idempotency_key=str(number)))

    with ThreadPoolExecutor(8) as threads:
        answers = set(threads.map(send, range(SENT)))
    assert len(answers) == len(store.executions("a")) == SENT


def test_a_second_store_on_the_same_file_sees_what_was_done(tmp_path: Path) -> None:
    first, second = (Airline(Store(tmp_path / "shared.sqlite3")) for _ in range(2))
    done = first.call("cancel_reservation", CANCEL, sandbox="a", idempotency_key="k")
    assert second.call("cancel_reservation", CANCEL, sandbox="a", idempotency_key="k") == done


def test_flight_statuses_say_what_is_known_and_what_is_not(airline: Airline) -> None:
    asked = [
        {"flight_number": "HAT002", "date": "2024-05-16"},
        {"flight_number": "HAT002", "date": "2024-05-15"},
        {"flight_number": "HAT002", "date": "2030-01-01"},
        {"flight_number": "XXX", "date": "soon"},
    ]
    available, delayed, undated, unheard = airline.call(
        "get_flight_statuses", {"flights": asked}, sandbox="a", idempotency_key=None
    )
    assert available == {
        "flight_number": "HAT002",
        "date": "2024-05-16",
        "known": True,
        "origin": "LGA",
        "destination": "PHX",
        "status": "available",
        "departure": "2024-05-16T21:00:00",
        "prices": {"basic_economy": 84, "economy": 166, "business": 218},
        "available_seats": {"basic_economy": 17, "economy": 13, "business": 5},
    }
    assert (delayed["status"], delayed["prices"]) == ("delayed", {})
    assert (undated["known"], undated["status"]) == (False, "unknown")
    assert undated["departure"] == "2030-01-01T21:00:00"
    assert (unheard["known"], unheard["status"], unheard["departure"]) == (False, "unknown", None)


def test_a_users_reservations_come_with_their_flight_statuses(airline: Airline) -> None:
    airline.call("book_reservation", BOOKING, sandbox="a", idempotency_key="k")
    reservations = airline.call(
        "list_user_reservations", {"user_id": USER}, sandbox="a", idempotency_key=None
    )
    assert [each["reservation_id"] for each in reservations] == [
        *base_world()["users"][USER]["reservations"],
        "HATHAT",
    ]
    assert reservations[-1]["flight_statuses"] == ["available", "available"]


def test_the_airlines_clock_stands_still(airline: Airline) -> None:
    now = airline.call("get_current_time", {}, sandbox="a", idempotency_key=None)
    assert now == {"now": "2024-05-15T15:00:00"}


@pytest.mark.parametrize(
    ("expression", "value"),
    [("2 + 2", 4.0), ("-(3 - 5) * 1.5 / 2", 1.5), ("10 / 3", 3.33), (" 1 - -1 ", 2.0)],
)
def test_the_calculator_does_arithmetic(expression: str, value: float) -> None:
    assert calculation(expression) == value


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "now",
        "abs(1)",
        "(1)(2)",
        "__import__('os')",
        "9**9**9",
        "9" * 20,
        "9 // 2",
        "1 / 0",
        "(1, 2)",
        "1 +",
        "1" + " + 1" * 100,
        "(" * 250,
        "9" * 15 + " * " + "9" * 15,
        "1 if 2 else 3",
        "1j",
        "1e300",
    ],
)
def test_the_calculator_refuses_what_is_not_plain_arithmetic(expression: str) -> None:
    with pytest.raises(AirlineRefusal):
        calculation(expression)
