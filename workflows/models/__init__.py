from workflows.models.definitions import Rollout, Workflow, WorkflowVersion
from workflows.models.runs import Signal, StepRun, WakeUp, WorkflowRun
from workflows.models.schedules import Schedule, ScheduleFire

__all__ = [
    "Rollout",
    "Schedule",
    "ScheduleFire",
    "Signal",
    "StepRun",
    "WakeUp",
    "Workflow",
    "WorkflowRun",
    "WorkflowVersion",
]
