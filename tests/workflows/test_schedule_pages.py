"""The pages of schedules: added, changed, paused."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from common.actors import SYSTEM
from tests.factories import Governed
from tests.workflows import workflow_helpers
from tests.workflows.admin_client import REASON, Browser, recorded, said
from tests.workflows.assertions import nothing_changed
from tests.workflows.test_schedules import BODY
from workflows.models import Schedule
from workflows.services import schedules
from workflows.services.schedules import Times

pytestmark = pytest.mark.django_db


# -- schedules -----------------------------------------------------------------------------------


def times(governed: Governed, **given: Any) -> dict[str, Any]:
    """The fields of a schedule's form."""
    return {
        "slug": "nightly",
        "workflow": workflow_helpers.workflow().pk,
        "identity": governed.identity.pk,
        "cron": "30 3 * * *",
        "timezone": "Europe/Paris",
        "inputs": '{"amount": 2}',
        "catch_up": "latest",
        "overlap": "skip",
        **given,
    }


@pytest.fixture
def nightly(governed: Governed) -> Schedule:
    """A schedule for every night."""
    workflow_helpers.publish(BODY)
    return schedules.save_schedule(
        "nightly",
        actor=SYSTEM,
        workflow=workflow_helpers.workflow(),
        identity=governed.identity,
        times=Times("0 3 * * *", "Europe/Paris"),
        inputs={"amount": 2},
    )


def test_a_schedule_is_added(governed: Governed, tina: Browser) -> None:
    workflow_helpers.publish(BODY)
    tina.does("workflows_schedule_write", **times(governed))
    schedule = Schedule.objects.get()
    assert (schedule.slug, schedule.cron, schedule.inputs) == (
        "nightly",
        "30 3 * * *",
        {"amount": 2},
    )
    assert schedule.next_fire_at is not None
    assert recorded("workflow.schedule.saved") == ("tina", {"slug": "nightly"})
    html = tina.shows("workflows_schedule_change", schedule.pk)
    assert html.count("<li>") >= 5  # the next times
    schedules.fire_due(now=timezone.now() + timedelta(days=1))
    assert said("started", tina.shows("workflows_schedule_change", schedule.pk))


WRONG_TIMES: list[tuple[dict[str, Any], str]] = [
    ({"cron": "30 3 * *"}, "A cron expression has 5 fields"),
    ({"cron": "61 3 * * *"}, "This is not a cron expression"),
    ({"cron": "0 0 30 2 *"}, "This is not a cron expression"),
    ({"cron": "@daily"}, "A cron expression has 5 fields"),
    ({"cron": ""}, "This field is required."),
    ({"timezone": "Europe/Atlantis"}, "There is no such time zone."),
    ({"timezone": "../../etc/passwd"}, "There is no such time zone."),
    ({"slug": "every night"}, "Enter a valid"),
    ({"workflow": 0}, "Select a valid choice."),
    ({"identity": 0}, "Select a valid choice."),
    ({"catch_up": "some"}, "Select a valid choice."),
    ({"overlap": "often"}, "Select a valid choice."),
    ({"inputs": "{"}, "This is not JSON."),
    ({"inputs": '{"amount": "x"}'}, "amount: breaks the rule"),
]


def test_a_schedule_that_says_nothing_is_not_added(governed: Governed, tina: Browser) -> None:
    workflow_helpers.publish(BODY)
    with nothing_changed():
        for wrong, why in WRONG_TIMES:
            html = tina.is_refused("workflows_schedule_write", **times(governed, **wrong))
            assert said(why, html), wrong


def test_a_schedule_is_changed(nightly: Schedule, governed: Governed, tina: Browser) -> None:
    html = tina.shows("workflows_schedule_edit", nightly.pk)
    assert said('"amount": 2', html)
    assert 'value="0 3 * * *"' in html
    fields = times(governed, cron="0 6 * * mon-fri", overlap="allow")
    tina.does("workflows_schedule_edit", nightly.pk, **fields)
    changed = Schedule.objects.get()
    assert (changed.cron, changed.overlap) == ("0 6 * * mon-fri", "allow")
    with nothing_changed():
        fields = times(governed, cron="never")
        tina.is_refused("workflows_schedule_edit", nightly.pk, **fields)


def test_changing_a_schedule_makes_no_other(
    nightly: Schedule, governed: Governed, tina: Browser
) -> None:
    fields = times(governed, slug="other")
    tina.client.post(f"/admin/workflows/schedule/{nightly.pk}/edit/", fields)
    assert Schedule.objects.get().pk == nightly.pk


def test_adding_a_schedule_changes_no_other(
    nightly: Schedule, governed: Governed, tina: Browser
) -> None:
    with nothing_changed():
        tina.is_refused("workflows_schedule_write", **times(governed, cron="* * * * *"))


def test_a_schedule_is_paused_and_runs_again(nightly: Schedule, tina: Browser) -> None:
    html = tina.does("workflows_schedule_pause", nightly.pk, **REASON)
    assert said("Paused.", html)
    assert Schedule.objects.get().paused
    assert recorded("workflow.schedule.paused") == ("tina", REASON)
    assert schedules.fire_due(now=timezone.now() + timedelta(days=2)) == 0
    with nothing_changed():
        tina.is_refused("workflows_schedule_unpause", nightly.pk, reason="")
    tina.does("workflows_schedule_unpause", nightly.pk, **REASON)
    assert not Schedule.objects.get().paused
    assert recorded("workflow.schedule.unpaused") == ("tina", REASON)


def test_who_may_only_look_changes_no_schedule(
    nightly: Schedule, governed: Governed, vera: Browser, wanda: Browser, oscar: Browser
) -> None:
    fields = times(governed, **REASON)
    with nothing_changed():
        for browser in (vera, wanda, oscar):
            assert browser.is_kept_out("workflows_schedule_write", **fields)
            for page in ("edit", "pause", "unpause"):
                assert browser.is_kept_out(f"workflows_schedule_{page}", nightly.pk, **fields)
