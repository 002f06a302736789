from audit.vocabulary import declare

POLICY_SAVED = declare("policy.saved", "A policy was written", "digest")
POLICY_SWITCHED_OFF = declare("policy.switched_off", "A policy was switched off", "reason")
POLICY_SWITCHED_ON = declare("policy.switched_on", "A policy was switched on", "reason")
RELEASE_DRAFTED = declare("policy.release_drafted", "A release was drafted", "number", "digest")
RELEASE_PUBLISHED = declare(
    "policy.published", "A release went live", "number", "digest", "replaces"
)
RELEASE_REJECTED = declare("policy.release_rejected", "A release was not approved", "number")
ACCESS_GRANTED = declare("access.granted", "A role was granted access", "role", "on", "access")
ACCESS_REVOKED = declare("access.revoked", "A grant was withdrawn", "role", "on", "access")
MEMBER_ADDED = declare("role.member_added", "An identity joined a role", "role", "identity")
MEMBER_REMOVED = declare("role.member_removed", "An identity left a role", "role", "identity")
