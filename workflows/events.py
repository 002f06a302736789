from audit.event_types import declare

VERSION_DRAFTED = declare(
    "workflow.version.drafted", "A workflow version was drafted", "number", "digest"
)
VERSION_PUBLISHED = declare(
    "workflow.version.published", "A workflow version was published", "number", "digest", "share"
)
VERSION_REJECTED = declare("workflow.version.rejected", "A version was not approved", "number")
VERSION_RETIRED = declare("workflow.version.retired", "A version was retired", "number", "reason")
WORKFLOW_PAUSED = declare("workflow.paused", "A workflow was paused", "reason")
WORKFLOW_UNPAUSED = declare("workflow.unpaused", "A workflow starts again", "reason")
ROLLOUT_CHANGED = declare("workflow.rollout.changed", "A rollout's share was changed", "share")
ROLLOUT_COMPLETED = declare("workflow.rollout.completed", "A version took over", "number")
ROLLOUT_ROLLED_BACK = declare(
    "workflow.rollout.rolled_back", "A version was taken back", "number", "reason"
)
RUN_STARTED = declare(
    "workflow.run.started",
    "A workflow was started",
    "workflow",
    "version",
    "digest",
    "inputs",
    "sensitive",
    "parent",
)
RUN_ENDED = declare(
    "workflow.run.ended", "A workflow run ended", "status", "steps", "errors", "output", "sensitive"
)
RUN_HALTED = declare("workflow.run.halted", "A workflow run was halted", "reason")
RUN_COMPENSATING = declare("workflow.run.compensating", "A workflow run is being undone", "reason")
RUN_STUCK = declare(
    "workflow.run.compensation_failed",
    "A workflow run could not be undone",
    "step",
    words=("step",),
)
RUN_ORDERED = declare(
    "workflow.run.operator_command", "A person gave an order for a workflow run", "order", "reason"
)
STEP_FINISHED = declare(
    "workflow.step.finished", "A step came to an end", "path", "status", "error", "output_digest"
)
STEP_WAITING = declare("workflow.step.waiting", "A step waits", "path", "waiting_for", "until")
SIGNAL_RECEIVED = declare(
    "workflow.signal.received", "A signal was received", "name", "payload", "sensitive"
)
SIGNAL_CONSUMED = declare("workflow.signal.consumed", "A signal was taken up", "name", "path")
HANDED_OVER = declare(
    "workflow.run.handed_off", "Work was handed over to another agent", "to", "run", "depth"
)
SCHEDULE_SAVED = declare("workflow.schedule.saved", "A schedule was written", "slug")
SCHEDULE_PAUSED = declare("workflow.schedule.paused", "A schedule was paused", "reason")
SCHEDULE_UNPAUSED = declare("workflow.schedule.unpaused", "A schedule runs again", "reason")
SCHEDULE_FIRED = declare(
    "workflow.schedule.fired", "A schedule's time came", "slug", "fire_time", "status"
)
