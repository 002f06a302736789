from audit.vocabulary import declare

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
APPROVAL_VOTED = declare("approval.voted", "A person voted", "answer", "reason", "tier", "factor")
APPROVAL_APPROVED = declare("approval.approved", "People approved", "tier", "votes")
APPROVAL_REJECTED = declare("approval.rejected", "People rejected", "tier", "votes")
APPROVAL_EXPIRED = declare("approval.expired", "Nobody decided in time", "tier")
APPROVAL_ESCALATED = declare(
    "approval.escalated", "The question went to a higher tier", "from_tier", "to_tier"
)
APPROVAL_WITHDRAWN = declare("approval.withdrawn", "The question was withdrawn", "reason")
APPROVAL_SPENT = declare("approval.spent", "The approval was used", "action")
TIER_FACTOR = declare(
    "tier.factor", "Whether a tier asks for a second factor", "required", "reason"
)
