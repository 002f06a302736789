"""An approval opens the gates that people were shown, and no other."""

import pytest

from accounts.models import User
from actions.services import redecision
from common.actors import SYSTEM
from policies.models import Policy
from policies.services import releases
from tests import factories
from tests.actions.test_resuming import approve, stored, waiting
from tests.factories import Governed

pytestmark = pytest.mark.django_db
FROZEN = """@id("frozen-ask") @title("Frozen asks") @tier("supervisor") @reason("Look at it.")
forbid(principal, action == Action::"toolbox.pay", resource) when { context.facts.frozen };"""
USAGE = """@id("usage-ask") @title("Much in all") @tier("supervisor") @reason("Over 600 in a run.")
forbid(principal, action == Action::"toolbox.pay", resource)
when { context.usage.amount.greaterThan(decimal("600.0")) };"""
DENIALS = """@id("denials-ask") @title("Denied often") @tier("supervisor") @reason("Denied before.")
forbid(principal, action == Action::"toolbox.pay", resource) when { context.usage.denials > 0 };"""


def test_a_gate_on_another_fact_asks_anew(governed: Governed, rosa: User) -> None:
    frozen = Policy.objects.get(slug="frozen-accounts")
    releases.switch_policy(frozen.pk, actor=SYSTEM, enabled=False, reason="It asks instead.")
    factories.publish(frozen_ask=FROZEN)
    action = waiting(governed)
    approve(action, rosa)
    governed.toolbox.accounts["a"]["frozen"] = True
    redecision.resume(action.pk)
    assert stored(action).status == "waiting"
    assert {one["rule"] for one in stored(action).reasons} >= {"frozen-ask"}
    approve(action, rosa)
    redecision.resume(action.pk)
    assert stored(action).status == "succeeded"


@pytest.mark.parametrize(("slug", "rule"), [("usage_ask", USAGE), ("denials_ask", DENIALS)])
def test_a_gate_on_what_was_done_meanwhile_asks_anew(
    governed: Governed, rosa: User, slug: str, rule: str
) -> None:
    factories.publish(**{slug: rule})
    run = governed.run()
    action = governed.pay(run, 500).action
    approve(action, rosa)
    if slug == "usage_ask":
        for _ in range(8):
            governed.pay(run, 99)
    else:
        governed.toolbox.accounts["b"] = {"frozen": True}
        governed.propose(run, "toolbox.pay", {"account": "b", "amount": 1})
    redecision.resume(action.pk)
    assert stored(action).status == "waiting"
