from audit.event_types import declare

TOOL_REGISTERED = declare("tool.registered", "A tool was registered", "digest")
TOOL_DEFINITION_CHANGED = declare(
    "tool.definition_changed", "A tool's definition was changed", "digest", "previous"
)
TOOL_WITHDRAWN = declare("tool.withdrawn", "A tool was withdrawn", "reason")
TOOL_REINSTATED = declare("tool.reinstated", "A tool was reinstated", "reason")
SECRET_ADDED = declare("secret.added", "A secret was given to an endpoint", "placement", "origin")
SECRET_ROTATED = declare("secret.rotated", "A secret has a new value", "version", "reason")
SECRET_WITHDRAWN = declare("secret.withdrawn", "A secret was withdrawn", "reason")
SECRET_USED = declare(
    "secret.used", "A secret was opened for a call", "version", "tool", "call", "origin"
)
SECRETS_REWRAPPED = declare(
    "secret.rewrapped", "Data keys were wrapped with the ring's present key", "number", "key"
)
BREAKER_OPENED = declare(
    "breaker.opened", "Calls to an endpoint wait", "system", "environment", "failures", "until"
)
BREAKER_CLOSED = declare(
    "breaker.closed", "Calls to an endpoint go through again", "system", "environment"
)
