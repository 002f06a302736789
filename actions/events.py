from audit.event_types import declare

RUN_STARTED = declare(
    "run.started",
    "A run was started",
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
RUN_CLOSED = declare(
    "run.closed", "A run was closed", "outcome", "actions", "events", words=("outcome",)
)
RUN_HALTED = declare("run.halted", "A run was halted", "rules")
DECISION_MADE = declare(
    "decision.made",
    "A decision was made",
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
CALL_REQUESTED = declare(
    "tool.call.requested", "A tool was called", "tool", "attempt", "args_digest"
)
CALL_COMPLETED = declare(
    "tool.call.completed",
    "A tool answered",
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
CALL_FAILED = declare("tool.call.failed", "A tool call failed", "tool", "attempt", "error", "again")
CALL_UNRESOLVED = declare(
    "tool.call.unresolved", "Whether a call took effect is unknown", "tool", "attempt", "error"
)
CALL_ANSWERED_LATE = declare(
    "tool.call.answered_late",
    "A call that had been given up was answered; the answer is kept and not applied",
    "tool",
    "attempt",
    "outcome",
    "result_digest",
)
CALL_PROBED = declare(
    "tool.call.probed", "The tool was asked whether a call took effect", "tool", "probe", "found"
)
CALL_RESOLVED = declare(
    "tool.call.resolved",
    "A person said what an unknown call had done",
    "tool",
    "answer",
    "reason",
    "result",
    "sensitive",
)
RUN_REOPENED = declare("run.reopened", "An ended run was opened again by a person", "reason")
