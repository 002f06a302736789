from typing import Any

import pytest

from accounts.models import Groups
from approvals.models import Tier
from tests.workflows.admin_client import Browser, person


@pytest.fixture
def wanda(db: Any) -> Browser:
    """Wanda writes workflows and starts runs."""
    return Browser(person("wanda", "add_workflowversion", "start_workflowrun"))


@pytest.fixture
def oscar(db: Any) -> Browser:
    """Oscar operates: workflows, and their runs."""
    return Browser(person("oscar", "change_workflow", "operate_workflowrun"))


@pytest.fixture
def tina(db: Any) -> Browser:
    """Tina keeps the schedules."""
    return Browser(person("tina", "add_schedule", "change_schedule"))


@pytest.fixture
def cora(tiers: dict[str, Tier]) -> Browser:
    """Cora, of compliance, approves publications in her inbox."""
    return Browser(person("cora", groups=(Groups.COMPLIANCE,)))


@pytest.fixture
def vera(db: Any) -> Browser:
    """Vera may see everything and do nothing."""
    return Browser(person("vera"))
