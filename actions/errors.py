from common.errors import GovernanceError, InvalidInput


class RunNotOpen(GovernanceError):
    code = "run_not_open"
    sentence = "The run is closed or halted."


class IdempotencyKeyReused(GovernanceError):
    code = "idempotency_key_reused"
    sentence = "This idempotency key was used for another call."


class IdempotencyKeyRequired(InvalidInput):
    code = "idempotency_key_required"
    sentence = "Send an Idempotency-Key header of 1 to 100 printable characters."


class DecisionConflict(GovernanceError):
    """The governed state moved at every try. Nothing was decided."""

    code = "decision_conflict"
    sentence = "The governed state is changing right now: try again."


class CallInFlight(GovernanceError):
    """The records that decide this call are being changed. Nothing was decided."""

    code = "call_in_flight"
    sentence = (
        "Another call that changes what this one depends on is being carried out. Try again, with "
        "the same key, when it is done."
    )


class OutcomeAlreadyKnown(GovernanceError):
    code = "outcome_already_known"
    sentence = "What this call had done is known: there is nothing to settle."


class RunAlreadyOpen(GovernanceError):
    code = "run_already_open"
    sentence = "The run is open already."


class HaltWatcherStale(GovernanceError):
    """A call sent now could not be cancelled by a halt, so none is sent."""

    code = "halt_watcher_stale"
    sentence = "The watcher of halts is behind, so nothing is carried out. Try again."
