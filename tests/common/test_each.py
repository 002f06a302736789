"""One bad item never stops the others, and its values are in no log."""

import ast
from pathlib import Path

import pytest

from common.isolation import each

ROOT = Path(__file__).resolve().parents[2]
# Every loop over things that have nothing to do with each other.
LOOPS = (
    "actions/services/recovery.py",
    "actions/services/usage_monitor.py",
    "agents/services/recertification.py",
    "agents/services/issuer_keys.py",
    "agents/services/signing_keys.py",
    "agents/services/sponsors.py",
    "approvals/services.py",
    "audit/services/delivery.py",
    "audit/services/search_index.py",
    "audit/services/retention.py",
    "audit/services/witness_client.py",
    "workflows/management/commands/workflow_worker.py",
    "workflows/services/rollouts.py",
    "workflows/services/schedules.py",
)


def test_the_others_are_done(caplog: pytest.LogCaptureFixture) -> None:
    def work(item: int) -> int:
        if item == 2:
            message = "a secret value"
            raise RuntimeError(message)
        return item * 10

    assert each([1, 2, 3], work, what="number") == [10, 30]
    assert "number 2: RuntimeError" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize("path", LOOPS)
def test_every_loop_of_the_kind_uses_it(path: str) -> None:
    called = {
        node.func.id
        for node in ast.walk(ast.parse((ROOT / path).read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert "each" in called
