"""What the cases share."""

from typing import Any
from uuid import uuid4

import pytest

from common.actors import SYSTEM
from tests import factories
from tests.conftest import Api
from tests.factories import Governed
from tools.services.registration import define_tool

RUN = {"initiator_kind": "user", "initiator": "somebody", "purpose": "testing"}
PERMIT = '@id("permit-toolbox")\npermit(principal in Role::"keepers", action, resource);'


def obj(**props: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": props,
        "required": sorted(props),
        "additionalProperties": False,
    }


def tool(
    governed: Governed,
    name: str,
    schema: dict[str, Any],
    rules: dict[str, str] | None = None,
    **more: Any,
) -> None:
    define_tool(
        governed.system,
        name,
        actor=SYSTEM,
        title=name,
        access=more.pop("access", "write"),
        idempotent=more.pop("idempotent", True),
        input_schema=schema,
        **more,
    )
    factories.publish(permit_toolbox=PERMIT, **(rules or {}))


def opened(api: Api, **more: Any) -> str:
    return str(api.post("runs", {**RUN, **more}).json()["id"])


def act(api: Api, name: str, args: dict[str, Any], run: str | None = None, **more: Any) -> Any:
    return api.post(
        "actions",
        {"run": run or opened(api), "tool": f"toolbox.{name}", "arguments": args, **more},
        key=str(uuid4()),
    )


def says(
    monkeypatch: pytest.MonkeyPatch, governed: Governed, answer: dict[str, Any], calls: list[Any]
) -> None:
    """Every tool of the toolbox but its source answers this."""

    def system(self: Any, name: str, args: dict[str, Any], call: Any) -> dict[str, Any]:
        if name == "read_account":
            return {"frozen": False}
        calls.append((name, dict(args)))
        return answer

    monkeypatch.setattr(type(governed.toolbox), "__call__", system)
