import datetime as dt
from collections.abc import Iterator

from demo.airline.records import AVAILABLE, Arguments
from demo.airline.store import Row, Sandbox

NEXT_DAY = "+1"

_ENDS = ("origin", "destination")


def search_direct_flight(sandbox: Sandbox, arguments: Arguments) -> list[Row]:
    return list(_offers(sandbox, arguments, arguments["date"]))


def search_onestop_flight(sandbox: Sandbox, arguments: Arguments) -> list[list[Row]]:
    """Pairs of flights where the second leaves no earlier than the first arrives.

    After an arrival on the next day the airline dates the second flight a day later, but shows
    it as it is on the day asked for: status, seats and prices are those of the earlier day.
    """
    date = arguments["date"]
    pairs = []
    for first in _offers(sandbox, {"origin": arguments["origin"]}, date):
        onward = {"origin": first["destination"], "destination": arguments["destination"]}
        arrives, same_day, _ = first["scheduled_arrival_time_est"].partition(NEXT_DAY)
        onward_date = _day_after(date) if same_day else date
        pairs += [
            [first | {"date": date}, second | {"date": onward_date}]
            for second in _offers(sandbox, onward, date)
            if second["scheduled_departure_time_est"] >= arrives
        ]
    return pairs


def _offers(sandbox: Sandbox, wanted: Arguments, date: str) -> Iterator[Row]:
    for flight in sandbox.every("flights").values():
        day = flight["dates"].get(date, {})
        goes_there = all(flight[end] == wanted.get(end, flight[end]) for end in _ENDS)
        if goes_there and day.get("status") == AVAILABLE:
            yield {key: value for key, value in flight.items() if key != "dates"} | day


def _day_after(date: str) -> str:
    return (dt.date.fromisoformat(date) + dt.timedelta(days=1)).isoformat()
