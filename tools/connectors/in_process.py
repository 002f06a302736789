"""Systems that live in the portal's own process, such as the demo's airline."""

from collections.abc import Callable, Mapping
from typing import Any

from tools.connectors.base import Call, EndpointSpec, NotSent, ToolResult
from tools.definitions import ToolSpec

# (tool name, arguments, call) -> result; raises the errors of tools.connectors.base.
Handler = Callable[[str, Mapping[str, Any], Call], Any]

_handlers: dict[str, Handler] = {}


def register(system: str, handler: Handler) -> None:
    """Say what answers for a system; done once, in an AppConfig's `ready()`."""
    if system in _handlers:
        message = f"{system} already has a handler"
        raise ValueError(message)
    _handlers[system] = handler


def unregister(system: str) -> None:
    del _handlers[system]


class InProcessConnector:
    def call(
        self, endpoint: EndpointSpec, tool: ToolSpec, arguments: Mapping[str, Any], *, call: Call
    ) -> ToolResult:
        handler = _handlers.get(tool.system)
        if handler is None:
            message = f"Nothing answers for {tool.system} in this process."
            raise NotSent(message)
        return ToolResult(handler(tool.name, arguments, call))
