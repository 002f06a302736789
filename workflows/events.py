from audit.event_types import declare

VERSION_DRAFTED = declare(
    "workflow.version.drafted", "Workflow version drafted", "number", "digest"
)
VERSION_PUBLISHED = declare(
    "workflow.version.published", "Workflow version published", "number", "digest", "share"
)
VERSION_REJECTED = declare("workflow.version.rejected", "Workflow version rejected", "number")
VERSION_RETIRED = declare(
    "workflow.version.retired", "Workflow version retired", "number", "reason"
)
WORKFLOW_PAUSED = declare("workflow.paused", "Workflow paused", "reason")
WORKFLOW_UNPAUSED = declare("workflow.unpaused", "Workflow resumed", "reason")
ROLLOUT_CHANGED = declare("workflow.rollout.changed", "Share of a rollout changed", "share")
ROLLOUT_COMPLETED = declare("workflow.rollout.completed", "Version promoted to 100 %", "number")
ROLLOUT_ROLLED_BACK = declare(
    "workflow.rollout.rolled_back", "Version rolled back", "number", "reason"
)
RUN_STARTED = declare(
    "workflow.run.started",
    "Workflow run started",
    "workflow",
    "version",
    "digest",
    "inputs",
    "sensitive",
    "parent",
)
RUN_ENDED = declare(
    "workflow.run.ended", "Workflow run ended", "status", "steps", "errors", "output", "sensitive"
)
RUN_HALTED = declare("workflow.run.halted", "Workflow run halted", "reason")
RUN_COMPENSATING = declare(
    "workflow.run.compensating", "Compensation of a workflow run started", "reason"
)
RUN_STUCK = declare(
    "workflow.run.compensation_failed",
    "Compensation of a workflow run failed",
    "step",
    words=("step",),
)
RUN_ORDERED = declare(
    "workflow.run.operator_command", "Operator command for a workflow run", "order", "reason"
)
STEP_FINISHED = declare(
    "workflow.step.finished", "Step ended", "path", "status", "error", "output_digest"
)
STEP_WAITING = declare("workflow.step.waiting", "Step waiting", "path", "waiting_for", "until")
SIGNAL_RECEIVED = declare(
    "workflow.signal.received", "Signal received", "name", "payload", "sensitive"
)
SIGNAL_CONSUMED = declare("workflow.signal.consumed", "Signal consumed", "name", "path")
HANDED_OVER = declare(
    "workflow.run.handed_off", "Work handed off to another agent", "to", "run", "depth"
)
SCHEDULE_SAVED = declare("workflow.schedule.saved", "Schedule saved", "slug")
SCHEDULE_PAUSED = declare("workflow.schedule.paused", "Schedule paused", "reason")
SCHEDULE_UNPAUSED = declare("workflow.schedule.unpaused", "Schedule resumed", "reason")
SCHEDULE_FIRED = declare("workflow.schedule.fired", "Schedule fired", "slug", "fire_time", "status")
