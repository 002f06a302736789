from common.errors import GovernanceError, InvalidInput


class InvalidWorkflow(InvalidInput):
    """`problems` holds every problem found, each with its line and a sentence."""

    code = "invalid_workflow_definition"
    sentence = "The workflow's definition is not valid."


class InvalidWorkflowInputs(InvalidInput):
    code = "invalid_workflow_inputs"
    sentence = "The inputs do not fit the workflow's schema."


class InvalidSchedule(InvalidInput):
    code = "invalid_schedule"
    sentence = "The schedule is not valid."


class UnknownWorkflow(GovernanceError):
    code = "unknown_workflow"
    sentence = "There is no such workflow."


class NothingPublished(GovernanceError):
    code = "workflow_not_published"
    sentence = "No version of this workflow has been published."


class WorkflowPaused(GovernanceError):
    code = "workflow_paused"
    sentence = "This workflow is paused: no new run is started."


class NotAllowedToStart(GovernanceError):
    code = "not_allowed_to_start"
    sentence = "No role of this agent may start this workflow."


class HandoffRefused(GovernanceError):
    code = "handoff_refused"
    sentence = "The work cannot be handed over to this agent."


class VersionNotADraft(GovernanceError):
    code = "workflow_version_not_a_draft"
    sentence = "Only a draft can be changed or published."


class VersionOutOfDate(GovernanceError):
    code = "workflow_version_out_of_date"
    sentence = "A tool has changed since this version was drafted: save it again."


class VersionInUse(GovernanceError):
    code = "workflow_version_in_use"
    sentence = "Runs of this version are not finished, or it is the one that new runs start on."


class RolloutUnderWay(GovernanceError):
    code = "rollout_under_way"
    sentence = "Another version is being rolled out: finish that or roll it back first."


class NoRolloutUnderWay(GovernanceError):
    code = "no_rollout_under_way"
    sentence = "No rollout is under way."


class InvalidRunState(GovernanceError):
    code = "invalid_workflow_run_state"
    sentence = "The run's state does not allow this."


class SignalReused(GovernanceError):
    code = "signal_id_reused"
    sentence = "This signal identifier was used for another signal."


class TooManySignals(GovernanceError):
    code = "too_many_signals"
    sentence = (
        "Too many signals wait in this run, or they are too large together: each is matched "
        "whenever the run moves. Send this one when the run has taken others up."
    )


class RunKeyReused(GovernanceError):
    code = "idempotency_key_reused"
    sentence = "This idempotency key was used for other inputs."
