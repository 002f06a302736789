"""What policies contribute to the page of an agent: what it was granted."""

from typing import Any

from agents.models import Agent
from common.admin.sections import Section, contribute
from policies.models import Elevation, Role
from policies.services import grants


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


contribute("agents.agent", Section("policies/rights.html", "policies.view_role", _rights))
