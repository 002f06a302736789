from collections import Counter
from collections.abc import Iterable

from demo.airline.records import found_payment_method, found_user
from demo.airline.refusals import AirlineRefusal
from demo.airline.store import Row, Sandbox

Amount = int | float

CENTS = 2


def pay_booking(user: Row, payments: Iterable[Row], total: Amount) -> None:
    """Takes the payments from the user's cards and certificates, all or none.

    A certificate is used up by its first use, whatever remains of it.
    """
    amounts: Counter[str] = Counter()
    for payment in payments:
        amounts[payment["payment_id"]] += payment["amount"]
    for payment_id, amount in amounts.items():
        _require_balance(found_payment_method(user, payment_id), amount)
    paid = round(sum(amounts.values()), CENTS)
    if paid != total:
        message = f"payment amount does not add up, total price is {total}, but paid {paid}"
        raise AirlineRefusal(message)
    for payment_id, amount in amounts.items():
        _take(user, payment_id, amount)


def settle_change(sandbox: Sandbox, reservation: Row, charge: tuple[str, Amount]) -> None:
    """Charges a changed reservation, or refunds it if the amount is negative.

    A refund is written down but arrives days later, so it leaves the gift card's balance alone.
    """
    payment_id, amount = charge
    user_id = reservation["user_id"]
    user = found_user(sandbox, user_id)
    method = found_payment_method(user, payment_id)
    if method["source"] == "certificate":
        message = "certificate cannot be used to update reservation"
        raise AirlineRefusal(message)
    if method["source"] == "gift_card" and method["amount"] < amount:
        message = "gift card balance is not enough"
        raise AirlineRefusal(message)
    if amount > 0:
        _take(user, payment_id, amount)
        sandbox.put("users", user_id, user)
    if amount != 0:
        reservation["payment_history"].append({"payment_id": payment_id, "amount": amount})


def _require_balance(method: Row, amount: Amount) -> None:
    if method.get("amount", amount) < amount:
        message = f"not enough balance in payment method {method['id']}"
        raise AirlineRefusal(message)


def _take(user: Row, payment_id: str, amount: Amount) -> None:
    methods = user["payment_methods"]
    match methods[payment_id]["source"]:
        case "gift_card":
            methods[payment_id]["amount"] = round(methods[payment_id]["amount"] - amount, CENTS)
        case "certificate":
            del methods[payment_id]
