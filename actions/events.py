from audit.event_types import declare

RUN_STARTED = declare(
    "run.started",
    "Run started",
    "initiator_kind",
    "initiator",
    "purpose",
    "reference",
    "labels",
    "environment",
    "agent",
    "chain",
    "delegation",
)
RUN_CLOSED = declare("run.closed", "Run closed", "outcome", "actions", "events", words=("outcome",))
RUN_HALTED = declare("run.halted", "Run halted", "rules")
DECISION_MADE = declare(
    "decision.made",
    "Action decided",
    "tool",
    "outcome",
    "tier",
    "rules",
    "release",
    "args_digest",
    "origin",
    "arguments",
    "facts",
    "claims",
    "reasons",
    "sensitive",
    "again",
    "approval",
    "chain",
    "step",
    "elevation",
    "delegation",
)
CALL_REQUESTED = declare("tool.call.requested", "Tool call sent", "tool", "attempt", "args_digest")
CALL_COMPLETED = declare(
    "tool.call.completed",
    "Tool call succeeded",
    "tool",
    "attempt",
    "args_digest",
    "result",
    "sensitive",
    "labels",
    "classes",
    "access",
    "things",
    "error",
)
CALL_FAILED = declare("tool.call.failed", "Tool call failed", "tool", "attempt", "error", "again")
CALL_UNRESOLVED = declare(
    "tool.call.unresolved", "Tool call with unknown outcome", "tool", "attempt", "error"
)
CALL_ANSWERED_LATE = declare(
    "tool.call.answered_late",
    "Late answer to a tool call recorded and not applied",
    "tool",
    "attempt",
    "outcome",
    "result_digest",
)
CALL_PROBED = declare("tool.call.probed", "Outcome of a tool call probed", "tool", "probe", "found")
CALL_RESOLVED = declare(
    "tool.call.resolved",
    "Outcome of a tool call recorded by an operator",
    "tool",
    "answer",
    "reason",
    "result",
    "sensitive",
)
RUN_REOPENED = declare("run.reopened", "Run reopened by an operator", "reason")
