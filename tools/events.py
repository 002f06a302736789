from audit.event_types import declare

TOOL_REGISTERED = declare("tool.registered", "Tool registered", "digest")
TOOL_DEFINITION_CHANGED = declare(
    "tool.definition_changed", "Definition of a tool changed", "digest", "previous"
)
TOOL_WITHDRAWN = declare("tool.withdrawn", "Tool withdrawn", "reason")
TOOL_REINSTATED = declare("tool.reinstated", "Tool reinstated", "reason")
SECRET_ADDED = declare("secret.added", "Secret of an endpoint added", "placement", "origin")
SECRET_ROTATED = declare("secret.rotated", "Secret rotated", "version", "reason")
SECRET_WITHDRAWN = declare("secret.withdrawn", "Secret withdrawn", "reason")
SECRET_USED = declare("secret.used", "Secret used for a call", "version", "tool", "call", "origin")
SECRETS_REWRAPPED = declare("secret.rewrapped", "Data keys re-encrypted", "number", "key")
BREAKER_OPENED = declare(
    "breaker.opened", "Circuit breaker opened", "system", "environment", "failures", "until"
)
BREAKER_CLOSED = declare("breaker.closed", "Circuit breaker closed", "system", "environment")
