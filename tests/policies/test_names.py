"""A rule that names what does not exist would never apply: it is refused, with its line."""

import pytest
from django.test import Client

from accounts.models import User
from common.actors import SYSTEM
from common.errors import GovernanceError
from policies.models import Policy, PolicyRelease
from policies.services import grants, releases
from tests.factories import Governed

pytestmark = pytest.mark.django_db
RULE = '@id("{id}")\n@reason("No.")\nforbid(principal{who}, action, resource)\nwhen {{ {when} }};'


def rule(*, who: str = "", when: str = "true", notes: str = "") -> str:
    return notes + RULE.format(id="named", who=who, when=when)


UNKNOWN = (
    (rule(who=' == Agent::"tilde"'), 'There is no agent "tilde"', 3),
    (rule(who=' in Role::"keeperz"'), 'There is no role "keeperz"', 3),
    (rule(when='principal in Role::"keeperz"'), 'There is no role "keeperz"', 4),
    (
        rule(when='context.run.labels.contains("piii")'),
        'There is no label "piii"',
        4,
    ),
    (
        rule(when='!(context.run.labels.containsAny(["piii"]))'),
        'There is no label "piii"',
        4,
    ),
)


@pytest.mark.parametrize(("text", "message", "line"), UNKNOWN, ids=[one[1] for one in UNKNOWN])
def test_unknown_names_are_refused_with_their_line(
    governed: Governed, text: str, message: str, line: int
) -> None:
    with pytest.raises(GovernanceError, match=message) as refused:
        releases.save_policy("named", text, actor=SYSTEM)
    assert f"line {line}" in str(refused.value).lower() or any(
        problem.line == line for problem in getattr(refused.value, "problems", ())
    )
    assert not Policy.objects.filter(slug="named").exists()


def test_labels_that_runs_are_opened_with_are_declared(governed: Governed) -> None:
    text = rule(when='context.run.labels.contains("vip")', notes='@run_labels("vip")\n')
    releases.save_policy("named", text, actor=SYSTEM)
    assert Policy.objects.filter(slug="named").exists()


def test_a_name_that_went_away_stops_the_release(governed: Governed) -> None:
    role = grants.create_role("movers", actor=SYSTEM, title="Movers")
    releases.save_policy("named", rule(who=' in Role::"movers"'), actor=SYSTEM)
    release = releases.draft_release(actor=SYSTEM, note="It names movers.")
    role.delete()
    live = PolicyRelease.objects.live().first()
    with pytest.raises(GovernanceError, match="movers"):
        releases.publish(release.pk, actor=SYSTEM)
    assert PolicyRelease.objects.live().first() == live


def test_the_page_of_a_thing_says_which_rules_name_it(
    governed: Governed, admin_user: User, client: Client
) -> None:
    releases.save_policy("named", rule(who=' in Role::"keepers"'), actor=SYSTEM)
    assert "named" in releases.rules_naming("role", "keepers")
    client.force_login(admin_user)
    page = client.get(f"/admin/policies/role/{governed.role.pk}/change/").content.decode()
    assert "Rules that name this" in page
    assert "named" in page
