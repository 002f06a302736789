from audit.event_types import declare

POLICY_SAVED = declare("policy.saved", "Policy saved", "digest")
POLICY_SWITCHED_OFF = declare("policy.switched_off", "Policy disabled", "reason")
POLICY_SWITCHED_ON = declare("policy.switched_on", "Policy enabled", "reason")
RELEASE_DRAFTED = declare("policy.release_drafted", "Policy release drafted", "number", "digest")
RELEASE_PUBLISHED = declare(
    "policy.published", "Policy release published", "number", "digest", "replaces"
)
RELEASE_REJECTED = declare("policy.release_rejected", "Policy release rejected", "number")
RELEASE_DISCARDED = declare(
    "policy.release_discarded", "Draft of a policy release discarded", "number", "reason"
)
ACCESS_GRANTED = declare("access.granted", "Grant added", "role", "on", "access")
ACCESS_REVOKED = declare("access.revoked", "Grant removed", "role", "on", "access")
ACCESS_MARKED = declare(
    "access.marked",
    "Elevation requirement of a grant changed",
    "role",
    "on",
    "access",
    "by_elevation",
    "reason",
)
ELEVATION_ASKED = declare(
    "elevation.asked", "Elevation requested", "tools", "minutes", "approval", "tier"
)
ELEVATION_GIVEN = declare("elevation.given", "Elevation granted", "tools", "ends_at")
ELEVATION_REFUSED = declare("elevation.refused", "Elevation denied", "reason")
ELEVATION_ENDED = declare("elevation.ended", "Elevation ended", "reason")
MEMBER_ADDED = declare("role.member_added", "Identity added to a role", "role", "identity")
MEMBER_REMOVED = declare("role.member_removed", "Identity removed from a role", "role", "identity")
