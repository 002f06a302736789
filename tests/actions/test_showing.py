"""Pages show values that are personal or sensitive to those who need them, and to nobody else."""

import copy
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.utils import timezone

from accounts.models import User
from actions.models import Action
from agents.services.sponsors import change_sponsor
from approvals.models import ApprovalRequest
from common.actors import SYSTEM
from tests import factories
from tests import toolbox as box
from tests.factories import Governed
from tools.connectors.base import Refused
from tools.services.registration import define_tool

pytestmark = pytest.mark.django_db
SECRETLY = "a note about her health"
REQUEST = "/admin/approvals/approvalrequest/{}/change/"
ACTION = "/admin/actions/action/{}/change/"


@pytest.fixture
def asked(governed: Governed) -> ApprovalRequest:
    """A payment with a sensitive note, and a fact that is made of it, which waits for people."""
    tool = copy.deepcopy(box.TOOLS["pay"])
    tool["input_schema"]["properties"]["note"]["x-data-class"] = "sensitive"
    fact = {"name": "of_note", "title": "Of the note", "expression": "string(args.note) + '!'"}
    tool["facts"] = [*tool.get("facts", ()), fact]
    define_tool(governed.system, "pay", actor=SYSTEM, **tool)
    factories.publish()
    arguments = {"account": "the account", "amount": 500, "note": SECRETLY}
    governed.toolbox.accounts["the account"] = {"frozen": False}
    governed.propose(governed.run(), "toolbox.pay", arguments)
    return ApprovalRequest.objects.get()


def page(person: User, path: str, key: Any) -> str:
    client = Client()
    client.force_login(person)
    answer = client.get(path.format(key))
    assert answer.status_code == 200
    return answer.content.decode()


def reader(*rights: str) -> User:
    person = User.objects.create_user("reader", is_staff=True)
    names = ("view_action", "view_approvalrequest", "view_run", *rights)
    person.user_permissions.set(Permission.objects.filter(codename__in=names))
    return person


def test_who_only_reads_sees_the_class_instead(asked: ApprovalRequest) -> None:
    person, action = reader(), Action.objects.get()
    for shown in (page(person, REQUEST, asked.pk), page(person, ACTION, action.pk)):
        assert SECRETLY not in shown
        assert "[sensitive]" in shown
        assert "the account" in shown


def test_who_may_see_sensitive_values_sees_them(asked: ApprovalRequest) -> None:
    person, action = reader("see_sensitive"), Action.objects.get()
    for shown in (page(person, REQUEST, asked.pk), page(person, ACTION, action.pk)):
        assert SECRETLY in shown
        assert "[sensitive]" not in shown


def test_who_decides_sees_them_while_it_waits(asked: ApprovalRequest, rosa: User) -> None:
    rights = ("view_approvalrequest", "view_action")
    rosa.user_permissions.set(Permission.objects.filter(codename__in=rights))
    assert SECRETLY in page(rosa, REQUEST, asked.pk)
    assert SECRETLY not in page(rosa, ACTION, Action.objects.get().pk)
    ApprovalRequest.objects.update(status=ApprovalRequest.Status.EXPIRED, decided_at=timezone.now())
    assert SECRETLY not in page(rosa, REQUEST, asked.pk)


def test_the_agents_owner_does_not(asked: ApprovalRequest, governed: Governed) -> None:
    owner = governed.identity.agent.owner
    owner.is_superuser = False
    owner.is_staff = True
    owner.save()
    rights = ("view_approvalrequest", "view_action")
    owner.user_permissions.set(Permission.objects.filter(codename__in=rights))
    owner.groups.clear()
    assert SECRETLY not in page(User.objects.get(pk=owner.pk), REQUEST, asked.pk)


def test_without_classes_a_snapshot_says_nothing_of_them(governed: Governed) -> None:
    governed.pay(governed.run(), 500)
    assert "apart" not in ApprovalRequest.objects.get().snapshot


def test_by_a_changed_definition_nobody_knows_what_was_sensitive(
    asked: ApprovalRequest, governed: Governed
) -> None:
    define_tool(governed.system, "pay", actor=SYSTEM, **box.TOOLS["pay"])
    person, action = reader(), Action.objects.get()
    shown = page(person, ACTION, action.pk)
    assert SECRETLY not in shown
    assert "the tool&#x27;s definition has changed since" in shown
    assert SECRETLY not in page(person, REQUEST, asked.pk)


def test_what_a_system_quotes_of_it_in_its_no_is_hidden(governed: Governed) -> None:
    tool = copy.deepcopy(box.TOOLS["pay"])
    tool["input_schema"]["properties"]["note"]["x-data-class"] = "personal"
    define_tool(governed.system, "pay", actor=SYSTEM, **tool)
    factories.publish()
    body = f'{{"error": "no note like {SECRETLY} here"}}'.encode()
    governed.toolbox.fail_with = [Refused("It said no.", body=body)]
    arguments = {"account": "a", "amount": 1, "note": SECRETLY}
    action = governed.propose(governed.run(), "toolbox.pay", arguments).action
    assert action.status == "failed"
    assert "no note like" in action.error
    assert SECRETLY not in action.error


def test_a_class_that_is_taken_away_shows_nothing_older(governed: Governed) -> None:
    tool = copy.deepcopy(box.TOOLS["mail"])
    note = {"type": "string", "x-data-class": "sensitive"}
    tool["output_schema"] = {"type": "object", "properties": {"note": note}}
    define_tool(governed.system, "mail", actor=SYSTEM, **tool)
    factories.publish()
    governed.toolbox.answer = {"note": SECRETLY}
    governed.propose(governed.run(), "toolbox.mail", {"to": "x"})
    action, person = Action.objects.get(), reader()
    assert "[sensitive]" in page(person, ACTION, action.pk)
    del note["x-data-class"]
    define_tool(governed.system, "mail", actor=SYSTEM, **tool)
    shown = page(person, ACTION, action.pk)
    assert SECRETLY not in shown
    assert "definition has changed" in shown


def test_the_list_for_approvers_shows_what_the_page_shows(
    asked: ApprovalRequest, governed: Governed, rosa: User
) -> None:
    client = Client()
    client.force_login(rosa)
    listed = client.get("/api/v1/approvals")
    assert SECRETLY in listed.content.decode()
    change_sponsor(governed.identity.agent_id, actor=SYSTEM, sponsor=rosa, reason="A new one.")
    assert client.get("/api/v1/approvals").json() == []
