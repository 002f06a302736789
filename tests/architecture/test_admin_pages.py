"""Rules for all admin pages at once, over the admin registry."""

from typing import Any

import pytest
from django.contrib import admin
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import NoReverseMatch, reverse

from accounts.models import User
from actions.models import Action
from common.admin.keyset import KeysetChangeList
from common.admin.pages import GovernedAdmin, KeysetAdmin
from tests.factories import Governed
from tests.workflows import sample_data

pytestmark = pytest.mark.django_db

MODELS = list(admin.site._registry)
GOVERNED = [m for m in MODELS if isinstance(admin.site._registry[m], GovernedAdmin)]
PAGES = [
    (model, page)
    for model in GOVERNED
    for page in vars(type(admin.site._registry[model])).get("pages", ())
]
# What grows with use: never counted, never sorted.
ENDLESS = {
    "Event",
    "LogEntry",
    "Action",
    "Run",
    "ApprovalRequest",
    "AgentKey",
    "WorkflowRun",
    "ScheduleFire",
    "Elevation",
    "Finding",
    "PersonDelegation",
}
GROWING = [model for model in MODELS if model.__name__ in ENDLESS]


def names(models: list[Any]) -> list[str]:
    return [model._meta.label for model in models]


def list_url(model: Any) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")


def busy(governed: Governed, times: int) -> None:
    """Runs with every kind of outcome."""
    for _ in range(times):
        sample_data.workflows_at_work(governed)
        run = governed.run()
        for amount in (1, 500, 5000):
            governed.pay(run, amount)
        governed.propose(run, "toolbox.read_account", {"id": "a"})
        governed.propose(run, "toolbox.mail", {"to": "x"})
        governed.propose(run, "toolbox.wipe", {"id": "a"})


@pytest.fixture
def office(admin_user: User) -> Client:
    client = Client()
    client.force_login(admin_user)
    return client


def queries(client: Client, url: str) -> list[str]:
    with CaptureQueriesContext(connection) as captured:
        response = client.get(url, follow=True)
    assert response.status_code == 200, url
    return [row["sql"] for row in captured.captured_queries]


@pytest.mark.parametrize("model", MODELS, ids=names(MODELS))
def test_a_list_page_costs_the_same_however_many_rows(
    governed: Governed, office: Client, model: Any
) -> None:
    busy(governed, 1)
    url = list_url(model)
    queries(office, url)
    few = queries(office, url)
    busy(governed, 4)
    many = queries(office, url)
    assert len(many) == len(few), "\n".join(many)


@pytest.mark.parametrize("model", GROWING, ids=names(GROWING))
def test_what_grows_is_never_counted(governed: Governed, office: Client, model: Any) -> None:
    assert isinstance(admin.site._registry[model], KeysetAdmin)
    counted = [sql for sql in queries(office, list_url(model)) if "COUNT(" in sql.upper()]
    assert counted == []


def test_an_endless_list_is_continued_from_the_last_key(
    governed: Governed, office: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy(governed, 3)
    registered = admin.site._registry[Action]
    monkeypatch.setattr(registered, "list_per_page", 5)
    expected = [str(pk) for pk in Action.objects.values_list("pk", flat=True)]
    seen: list[str] = []
    url = list_url(Action)
    while url:
        page = office.get(url)
        changes = page.context["cl"]
        assert isinstance(changes, KeysetChangeList)
        seen += [str(row.pk) for row in changes.result_list]
        url = list_url(Action) + changes.older if changes.older else ""
    assert seen == expected


@pytest.mark.parametrize(
    ("model", "page"), PAGES, ids=[f"{model._meta.label}.{page.name}" for model, page in PAGES]
)
def test_a_page_is_closed_to_staff_without_rights(sam: User, model: Any, page: Any) -> None:
    client = Client()
    client.force_login(sam)
    stem = f"admin:{model._meta.app_label}_{model._meta.model_name}_{page.name}"
    url = reverse(stem, args=[] if page.on_list else ["1"])
    assert client.get(url).status_code == 403
    assert client.post(url, {"reason": "x"}).status_code == 403


@pytest.mark.parametrize("model", GOVERNED, ids=names(GOVERNED))
def test_governed_records_have_no_forms_of_django(office: Client, model: Any) -> None:
    stem = f"admin:{model._meta.app_label}_{model._meta.model_name}"
    assert office.get(reverse(f"{stem}_add")).status_code == 403
    registered = admin.site._registry[model]
    assert registered.actions is None
    try:
        deletion = reverse(f"{stem}_delete", args=["1"])
    except NoReverseMatch:
        return
    assert office.post(deletion, {"post": "yes"}).status_code in {302, 403, 404}


def test_bulk_deletion_is_off() -> None:
    assert "delete_selected" not in [name for name, _ in admin.site.actions]


def test_a_superuser_cannot_delete_people(office: Client, rosa: User) -> None:
    assert (
        office.post(f"/admin/accounts/user/{rosa.pk}/delete/", {"post": "yes"}).status_code == 403
    )
    assert User.objects.filter(pk=rosa.pk).exists()
