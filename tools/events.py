from audit.vocabulary import declare

TOOL_REGISTERED = declare("tool.registered", "A tool was registered", "digest")
TOOL_DEFINITION_CHANGED = declare(
    "tool.definition_changed", "A tool's definition was changed", "digest", "previous"
)
TOOL_WITHDRAWN = declare("tool.withdrawn", "A tool was withdrawn", "reason")
TOOL_REINSTATED = declare("tool.reinstated", "A tool was reinstated", "reason")
BREAKER_OPENED = declare(
    "breaker.opened", "Calls to an endpoint wait", "system", "environment", "failures", "until"
)
BREAKER_CLOSED = declare(
    "breaker.closed", "Calls to an endpoint go through again", "system", "environment"
)
