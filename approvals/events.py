from audit.event_types import declare

APPROVAL_REQUESTED = declare(
    "approval.requested",
    "People were asked",
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
    "approval.voted", "A person voted", "approval", "answer", "reason", "tier", "factor"
)
VOTE_STRUCK = declare(
    "approval.vote_struck",
    "A vote no longer counts, because its voter may no longer decide",
    "approval",
    "voter",
    "error",
)
APPROVAL_UNDECIDABLE = declare(
    "approval.undecidable", "Too few people are left to decide a request", "approval", "tier"
)
APPROVAL_APPROVED = declare("approval.approved", "People approved", "approval", "tier", "votes")
APPROVAL_REJECTED = declare("approval.rejected", "People rejected", "approval", "tier", "votes")
APPROVAL_EXPIRED = declare("approval.expired", "Nobody decided in time", "approval", "tier")
APPROVAL_ESCALATED = declare(
    "approval.escalated",
    "The question went to a higher tier",
    "approval",
    "from_tier",
    "to_tier",
)
APPROVAL_WITHDRAWN = declare(
    "approval.withdrawn", "The question was withdrawn", "approval", "reason"
)
APPROVAL_SPENT = declare("approval.spent", "The approval was used", "approval", "action")
TIER_STEP_UP_CHANGED = declare(
    "tier.step_up_changed", "Whether a tier asks for a second factor", "required", "reason"
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
