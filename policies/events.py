from audit.event_types import declare

POLICY_SAVED = declare("policy.saved", "A policy was written", "digest")
POLICY_SWITCHED_OFF = declare("policy.switched_off", "A policy was switched off", "reason")
POLICY_SWITCHED_ON = declare("policy.switched_on", "A policy was switched on", "reason")
RELEASE_DRAFTED = declare("policy.release_drafted", "A release was drafted", "number", "digest")
RELEASE_PUBLISHED = declare(
    "policy.published", "A release went live", "number", "digest", "replaces"
)
RELEASE_REJECTED = declare("policy.release_rejected", "A release was not approved", "number")
RELEASE_DISCARDED = declare(
    "policy.release_discarded", "A draft of a release was discarded", "number", "reason"
)
ACCESS_GRANTED = declare("access.granted", "A role was granted access", "role", "on", "access")
ACCESS_REVOKED = declare("access.revoked", "A grant was withdrawn", "role", "on", "access")
ACCESS_MARKED = declare(
    "access.marked",
    "Whether a grant counts only by elevation",
    "role",
    "on",
    "access",
    "by_elevation",
    "reason",
)
ELEVATION_ASKED = declare(
    "elevation.asked", "An agent asked for more rights", "tools", "minutes", "approval", "tier"
)
ELEVATION_GIVEN = declare("elevation.given", "An elevation is in force", "tools", "ends_at")
ELEVATION_REFUSED = declare("elevation.refused", "An elevation was not given", "reason")
ELEVATION_ENDED = declare("elevation.ended", "An elevation ended", "reason")
MEMBER_ADDED = declare("role.member_added", "An identity joined a role", "role", "identity")
MEMBER_REMOVED = declare("role.member_removed", "An identity left a role", "role", "identity")
