from common.errors import GovernanceError, InvalidInput


class RequestAlreadyDecided(GovernanceError):
    code = "approval_already_decided"
    sentence = "This request has already been decided."


class RequestExpired(GovernanceError):
    code = "approval_expired"
    sentence = "The time to decide this request has run out."


class OwnRequest(GovernanceError):
    code = "own_request"
    sentence = "Nobody decides their own request."


class OwnAgent(GovernanceError):
    code = "approval_for_own_agent"
    sentence = "This tier does not let an agent's owner or sponsor sign for it."


class NotAnApprover(GovernanceError):
    code = "not_an_approver"
    sentence = "You are not in a group that decides requests of this tier."


class AlreadyVoted(GovernanceError):
    code = "already_voted"
    sentence = "You have already voted on this request."


class UnknownAnswer(InvalidInput):
    code = "unknown_answer"
    sentence = "The answer is approve or reject."


class ApprovalNotGiven(GovernanceError):
    code = "approval_not_given"
    sentence = "This request was not approved."


class ApprovalAlreadySpent(GovernanceError):
    code = "approval_already_spent"
    sentence = "This approval has already been used."


class UnknownTier(GovernanceError):
    code = "unknown_tier"
    sentence = "There is no such tier."


class StepUpRequired(GovernanceError):
    code = "step_up_required"
    sentence = "This needs your second factor, shown in the last five minutes."


class AlreadyRequested(GovernanceError):
    """An approval request about the same thing is pending."""

    code = "already_requested"
    sentence = "People are being asked about this already."
