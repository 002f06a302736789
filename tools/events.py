from audit.vocabulary import declare

TOOL_REGISTERED = declare("tool.registered", "A tool was registered", "digest")
TOOL_DEFINITION_CHANGED = declare(
    "tool.definition_changed", "A tool's definition was changed", "digest", "previous"
)
TOOL_WITHDRAWN = declare("tool.withdrawn", "A tool was withdrawn", "reason")
TOOL_REINSTATED = declare("tool.reinstated", "A tool was reinstated", "reason")
