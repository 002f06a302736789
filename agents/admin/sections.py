"""Sections that agents add to the pages of layers below."""

from typing import Any

from accounts.models import Environment
from agents.models import SigningKey
from common.admin.sections import Section, contribute


def _key_ring(environment: Environment) -> dict[str, Any]:
    return {"keys": SigningKey.objects.filter(environment=environment)[:12]}


contribute(
    "accounts.environment", Section("agents/key_ring.html", "agents.view_signingkey", _key_ring)
)
