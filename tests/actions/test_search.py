"""Lists find what people type: names, titles, short names of tools, values of arguments."""

from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.utils import timezone

from accounts.models import User
from approvals.models import ApprovalRequest, Tier
from audit import search
from audit.models import Event
from audit.services import search_index
from tests.audit.sealed_log import sealed_all
from tests.factories import Governed

pytestmark = pytest.mark.django_db
ACTIONS, RUNS = "/admin/actions/action/", "/admin/actions/run/"
INBOX = "/admin/approvals/approvalrequest/"


@pytest.fixture
def work(governed: Governed) -> Governed:
    run = governed.run()
    governed.propose(run, "toolbox.pay", {"account": "a", "amount": 1, "note": "for MSJ4OA"})
    governed.propose(run, "toolbox.pay", {"account": "a", "amount": 500, "note": "for NQNU5R"})
    governed.propose(governed.run(), "toolbox.mail", {"to": "somebody"})
    sealed_all()
    search_index.index()
    return governed


def found(client: Client, address: str, text: str) -> int:
    page: Any = client.get(address, {"q": text})
    assert page.status_code == 200
    return len(page.context_data["cl"].result_list)


@pytest.mark.parametrize(
    ("address", "text", "number"),
    [
        (ACTIONS, "toolbox.pay", 2),
        (ACTIONS, "pay", 2),
        (ACTIONS, "tilda", 3),
        (ACTIONS, "tilda.prod", 3),
        (ACTIONS, "MSJ4OA", 1),
        (ACTIONS, "msj4oa", 1),
        (ACTIONS, "nothing-of-it", 0),
        (RUNS, "Tilda", 2),
        (RUNS, "NQNU5R", 1),
        (RUNS, "nothing-of-it", 0),
        (INBOX, "tilda", 1),
        (INBOX, "toolbox.pay", 1),
        (INBOX, "NQNU5R", 1),
        (INBOX, "MSJ4OA", 0),
    ],
)
def test_what_people_type_is_found(
    work: Governed, admin_client: Client, address: str, text: str, number: int
) -> None:
    assert found(admin_client, address, text) == number


@pytest.mark.parametrize("address", [ACTIONS, RUNS, INBOX, "/admin/workflows/workflowrun/"])
def test_finding_nothing_says_where_it_was_looked_for(
    work: Governed, admin_client: Client, address: str
) -> None:
    page = admin_client.get(address, {"q": "<b>nothing</b>"}).content.decode()
    assert "Nothing fits “&lt;b&gt;nothing&lt;/b&gt;”" in page
    assert "Looked for: " in page


@pytest.fixture
def reader(client: Client) -> Client:
    """Somebody who may open the lists, and not see the values of events."""
    person = User.objects.create_user("reader", password="x", is_staff=True)
    models = ("action", "run", "approvalrequest", "workflowrun")
    rights = [f"view_{model}" for model in models]
    person.user_permissions.set(Permission.objects.filter(codename__in=rights))
    client.force_login(person)
    return client


@pytest.mark.parametrize(
    ("address", "text"),
    [(ACTIONS, "MSJ4OA"), (RUNS, "NQNU5R"), ("/admin/workflows/workflowrun/", "MSJ4OA")],
)
def test_words_of_values_find_nothing_without_the_right_to_see_them(
    work: Governed, reader: Client, address: str, text: str
) -> None:
    assert found(reader, address, text) == 0
    assert not Event.objects.filter(type="audit.searched").exists()


def test_a_waiting_request_is_found_by_what_it_shows_by_whoever_decides_it(
    work: Governed, reader: Client
) -> None:
    assert found(reader, INBOX, "NQNU5R") == 0
    person = User.objects.get(username="reader")
    person.groups.set(Tier.objects.get(slug="supervisor").groups.all())
    assert found(reader, INBOX, "NQNU5R") == 1
    ApprovalRequest.objects.update(status=ApprovalRequest.Status.EXPIRED, decided_at=timezone.now())
    assert found(reader, INBOX, "NQNU5R") == 0
    assert found(reader, INBOX, "pay") == 1


@pytest.mark.parametrize("address", [ACTIONS, RUNS, INBOX, "/admin/workflows/workflowrun/"])
def test_who_looks_for_words_of_values_is_recorded(
    work: Governed, admin_client: Client, admin_user: User, address: str
) -> None:
    found(admin_client, address, "MSJ4OA")
    [event] = Event.objects.filter(type="audit.searched").with_values()
    assert event.actor_id == str(admin_user.pk)
    assert event.details["sought"] == {"text": "MSJ4OA"}


def test_looking_for_words_hides_nothing_that_has_them(
    work: Governed, admin_client: Client, admin_user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "MAX_EVENTS", 10)
    for _ in range(12):
        found(admin_client, RUNS, "MSJ4OA")
    sealed_all()
    search_index.index()
    assert found(admin_client, ACTIONS, "MSJ4OA") == 1


@pytest.mark.parametrize("address", [ACTIONS, RUNS, INBOX, "/admin/workflows/workflowrun/"])
def test_a_long_text_is_searched_for_by_its_first_words(
    work: Governed, admin_client: Client, address: str
) -> None:
    assert found(admin_client, address, " ".join(f"word{n}" for n in range(2000))) == 0
