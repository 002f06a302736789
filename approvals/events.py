from audit.event_types import declare

APPROVAL_REQUESTED = declare(
    "approval.requested",
    "Approval requested",
    "approval",
    "tier",
    "quorum",
    "expires_at",
    "digest",
    "question",
    "shown",
    "sensitive",
)
APPROVAL_VOTED = declare(
    "approval.voted", "Vote cast", "approval", "answer", "reason", "tier", "factor"
)
VOTE_STRUCK = declare(
    "approval.vote_struck",
    "Vote struck: its voter may no longer decide",
    "approval",
    "voter",
    "error",
)
APPROVAL_UNDECIDABLE = declare(
    "approval.undecidable", "Too few people can decide a request", "approval", "tier"
)
APPROVAL_APPROVED = declare("approval.approved", "Request approved", "approval", "tier", "votes")
APPROVAL_REJECTED = declare("approval.rejected", "Request rejected", "approval", "tier", "votes")
APPROVAL_EXPIRED = declare("approval.expired", "Request expired", "approval", "tier")
APPROVAL_ESCALATED = declare(
    "approval.escalated",
    "Request escalated to a higher tier",
    "approval",
    "from_tier",
    "to_tier",
)
APPROVAL_WITHDRAWN = declare("approval.withdrawn", "Request withdrawn", "approval", "reason")
APPROVAL_SPENT = declare("approval.spent", "Approval spent", "approval", "action")
TIER_STEP_UP_CHANGED = declare(
    "tier.step_up_changed", "Step-up requirement of a tier changed", "required", "reason"
)
# Those that say what has become of a request.
OF_STATUS = (
    APPROVAL_APPROVED,
    APPROVAL_REJECTED,
    APPROVAL_EXPIRED,
    APPROVAL_ESCALATED,
    APPROVAL_WITHDRAWN,
    APPROVAL_SPENT,
)
