"""Calls that share a value of an argument take turns: the next waits, and then is refused."""

from dataclasses import replace

import pytest
from django.utils import timezone

from actions.errors import CallInFlight
from actions.models import Attempt
from actions.services import freshness
from policies.snapshot import snapshot
from tests.factories import Governed

pytestmark = pytest.mark.django_db
ASKED = {"account": "a", "amount": 1}


def turn(governed: Governed, account: str, begun: Attempt) -> freshness.ReadAt | None:
    held = snapshot.current()
    spec = replace(held.catalog.tools["toolbox.pay"], exclusive_by="account", sources=())
    key = freshness.exclusive_key(spec, ASKED, governed.identity.environment_id)
    Attempt.objects.filter(pk=begun.pk).update(
        status=Attempt.Status.STARTED, ended_at=None, exclusive_key=key
    )
    return freshness.wait_for_turn(
        begun.action.run_id,
        spec,
        ASKED | {"account": account},
        environment=governed.identity.environment_id,
        catalog=held.catalog,
        idempotency_key="another",
        patience=0.05,
    )


@pytest.fixture
def begun(governed: Governed) -> Attempt:
    governed.pay(governed.run(), 1)
    found = Attempt.objects.latest("pk")
    found.started_at = timezone.now()
    return found


def test_the_same_value_waits_and_is_refused(governed: Governed, begun: Attempt) -> None:
    with pytest.raises(CallInFlight):
        turn(governed, "a", begun)


def test_another_value_does_not_wait(governed: Governed, begun: Attempt) -> None:
    assert turn(governed, "b", begun) is not None
