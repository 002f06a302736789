"""Sections that policies add to other pages: an agent's grants, and the rules that name a thing."""

from collections.abc import Callable
from typing import Any

from agents.models import Agent
from common.admin.sections import Section, contribute
from policies.models import Elevation, Policy, Role
from policies.services import grants
from policies.services.releases import rules_naming


def _rights(agent: Agent) -> dict[str, Any]:
    roles = Role.objects.filter(members__agent=agent).distinct()
    return {
        "grants": [
            {"role": role, "row": row, "access": grants.access_of(row)}
            for role in roles.select_related("group")
            for row in grants.of_role(role)
        ],
        "elevations": Elevation.objects.filter(identity__agent=agent).select_related("identity")[
            :10
        ],
    }


def _naming(kind: str, name_of: Callable[[Any], str]) -> Callable[[Any], dict[str, Any]]:
    def read(thing: Any) -> dict[str, Any]:
        slugs = rules_naming(kind, name_of(thing))
        return {"rules": Policy.objects.filter(slug__in=slugs), "kind": kind}

    return read


for _label, _kind, _name_of in (
    ("agents.agent", "agent", lambda agent: agent.slug),
    ("policies.role", "role", lambda role: role.slug),
    ("accounts.environment", "environment", lambda environment: environment.pk),
    ("tools.tool", "action", lambda tool: tool.full_name),
    ("tools.system", "action", lambda system: system.slug),
):
    contribute(
        _label, Section("policies/naming.html", "policies.view_policy", _naming(_kind, _name_of))
    )
contribute("agents.agent", Section("policies/rights.html", "policies.view_role", _rights))
