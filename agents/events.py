from audit.event_types import declare

AGENT_REGISTERED = declare("agent.registered", "An agent was registered", "owner", "sponsor")
AGENT_ACTIVATED = declare("agent.activated", "An agent was activated", "reason")
AGENT_SUSPENDED = declare("agent.suspended", "An agent was suspended", "reason")
AGENT_RETIRED = declare("agent.retired", "An agent was retired", "reason")
IDENTITY_CREATED = declare("identity.created", "An agent got an identity", "environment")
IDENTITY_SUSPENDED = declare("identity.suspended", "An identity was suspended", "reason")
LIMIT_REACHED = declare(
    "identity.limit_reached", "A limit of requests a minute was reached", "limit", "per_minute"
)
IDENTITY_RESUMED = declare("identity.resumed", "An identity was resumed", "reason")
ENROLMENT_CODE_ISSUED = declare(
    "enrolment.code_issued", "An enrolment code was issued", "expires_at"
)
CREDENTIAL_ENROLLED = declare("credential.enrolled", "A key was enrolled", "thumbprint")
CREDENTIAL_REVOKED = declare("credential.revoked", "A key was revoked", "thumbprint", "reason")
CREDENTIAL_ROTATED = declare(
    "credential.rotated", "A key was replaced by a newer one", "thumbprint", "replaced"
)
SUPERSEDED_KEY_USED = declare(
    "credential.superseded_key_used",
    "A superseded key was used: its identity is locked",
    "thumbprint",
)
TOKEN_REVOKED = declare("credential.token_revoked", "A token was revoked", "jti")
FEDERATED_CREDENTIAL_ADDED = declare(
    "credential.federated", "An issuer was trusted for an identity", "issuer", "subject_name"
)
FEDERATED_KEYS_REPLACED = declare(
    "credential.federated_keys_replaced",
    "The keys of a trusted issuer were replaced",
    "issuer",
    "subject_name",
    "kid",
)
FEDERATED_CREDENTIAL_WITHDRAWN = declare(
    "credential.federated_withdrawn",
    "An issuer is trusted no more",
    "issuer",
    "subject_name",
    "reason",
)
DELEGATION_ALLOWED = declare(
    "delegation.allowed",
    "An agent may act for another",
    "acting",
    "scope",
    "max_depth",
    "reason",
)
DELEGATION_ENDED = declare(
    "delegation.ended", "An agent acts for another no more", "acting", "reason"
)
IDENTITY_BOUND = declare(
    "identity.dpop_required", "Whether an identity's tokens must be bound to a key", "required"
)
SIGNING_KEY_PREPARED = declare("signing_key.prepared", "The next signing key was published", "kid")
SIGNING_KEY_ACTIVATED = declare(
    "signing_key.activated", "A signing key was taken into use", "kid", "retired", "reason"
)
SIGNING_KEY_RESEALED = declare(
    "signing_key.resealed", "A signing key was sealed with the ring's present key", "key"
)
SIGNING_KEY_REVOKED = declare("signing_key.revoked", "A signing key was revoked", "kid", "reason")
CREDENTIAL_ISSUED = declare(
    "credential.issued",
    "A token was issued",
    "jti",
    "scope",
    "expires_at",
    "chain",
    "bound",
    "epoch",
    "delegation",
)
SIGNING_KEY_CREATED = declare("signing_key.created", "A signing key was made", "environment")
IDENTITY_HELD_BACK = declare(
    "identity.activation_requested",
    "People are asked whether an identity may act",
    "approval",
    "reason",
)
IDENTITY_ACTIVATED = declare("identity.activated", "People let an identity act")
SPONSOR_REQUESTED = declare("agent.sponsor_requested", "A sponsor is looked for", "approval")
SPONSOR_CHANGED = declare(
    "agent.sponsor_changed", "Another person answers for an agent", "sponsor", "former", "reason"
)
AGENT_CERTIFIED = declare("agent.certified", "An agent was confirmed", "until", "reason")
AGENT_REMINDED = declare("agent.reminded", "People were told that an agent is due", "until")
FINDING_MADE = declare("finding.made", "Unusual use was noticed", "finding", "rule", "response")
FINDING_ESCALATED = declare(
    "finding.escalated", "Unusual use was not explained in time", "finding", "response"
)
FINDING_RESOLVED = declare("finding.resolved", "Unusual use was explained", "finding", "reason")
USE_DECLARED = declare(
    "identity.use_declared", "How an identity is used was declared", "replicas", "hours", "reason"
)
PERSON_DELEGATED = declare(
    "person.delegated", "A person lets an agent act for them", "delegation", "scope", "ends_at"
)
PERSON_DELEGATION_ENDED = declare(
    "person.delegation_ended", "An agent acts for a person no more", "delegation", "reason"
)
HALT_PLACED = declare("halt.placed", "A halt was placed", "kind", "target", "reason")
HALT_LIFT_ASKED = declare(
    "halt.lift_requested", "A second person is asked to lift a halt", "approval", "reason"
)
HALT_LIFTED = declare("halt.lifted", "A halt was lifted", "kind", "target", "reason")
