"""While a halt is in force, pages do not call active, or offer for approval, what it covers."""

from typing import Any

import pytest
from django.test import Client

from agents.models import Agent, AgentIdentity, Halt
from agents.services.halts import lift_halt, place_halt
from common.actors import SYSTEM
from common.templatetags.blocks import badge
from tests.factories import Governed

pytestmark = pytest.mark.django_db
HALTED = badge("halted", "halted")
BLOCKED = badge("halted", "blocked")
KINDS = [
    (Halt.Kind.GLOBAL, ""),
    (Halt.Kind.AGENT, "tilda"),
    (Halt.Kind.ENVIRONMENT, "prod"),
    (Halt.Kind.SYSTEM, "toolbox"),
    (Halt.Kind.TOOL, "toolbox.pay"),
]


def text(client: Client, address: str) -> str:
    page: Any = client.get(address)
    assert page.status_code == 200
    return str(page.content.decode())


@pytest.mark.parametrize(("kind", "target"), KINDS)
def test_a_request_of_what_is_halted_says_so(
    governed: Governed, admin_client: Client, kind: Halt.Kind, target: str
) -> None:
    waiting = governed.pay(governed.run(), 500).action
    own = f"/admin/approvals/approvalrequest/{waiting.approval_id}/change/"
    inbox = "/admin/approvals/approvalrequest/?status__exact=pending"
    assert "This cannot take effect now" not in text(admin_client, own)
    halt = place_halt(kind, target=target, actor=SYSTEM, reason="It went wild.")
    assert "It went wild." in text(admin_client, own)
    assert BLOCKED in text(admin_client, inbox)
    if kind != Halt.Kind.GLOBAL:
        lift_halt(halt.pk, actor=SYSTEM, reason="It is well again.")
        assert "It went wild." not in text(admin_client, own)


def test_a_halt_of_something_else_stands_in_nobodys_way(
    governed: Governed, admin_client: Client
) -> None:
    waiting = governed.pay(governed.run(), 500).action
    place_halt(Halt.Kind.TOOL, target="toolbox.mail", actor=SYSTEM, reason="It went wild.")
    own = f"/admin/approvals/approvalrequest/{waiting.approval_id}/change/"
    assert "This cannot take effect now" not in text(admin_client, own)


def test_a_halted_agent_is_not_called_active(governed: Governed, admin_client: Client) -> None:
    agent, identity = Agent.objects.get(slug="tilda"), AgentIdentity.objects.get()
    addresses = [
        "/admin/agents/agent/",
        f"/admin/agents/agent/{agent.pk}/change/",
        f"/admin/agents/agentidentity/{identity.pk}/change/",
        "/admin/",
    ]
    before = [text(admin_client, one) for one in addresses]
    place_halt(Halt.Kind.AGENT, target="tilda", actor=SYSTEM, reason="It went wild.")
    for address, former in zip(addresses, before, strict=True):
        now = text(admin_client, address)
        assert "halted" in now.lower().replace("halted agents", "")
        assert now.lower().count("halted") > former.lower().count("halted"), address
