from audit.event_types import declare

AGENT_REGISTERED = declare("agent.registered", "Agent registered", "owner", "sponsor")
AGENT_ACTIVATED = declare("agent.activated", "Agent activated", "reason")
AGENT_SUSPENDED = declare("agent.suspended", "Agent suspended", "reason")
AGENT_RETIRED = declare("agent.retired", "Agent retired", "reason")
IDENTITY_CREATED = declare("identity.created", "Agent identity created", "environment")
IDENTITY_SUSPENDED = declare("identity.suspended", "Agent identity suspended", "reason")
LIMIT_REACHED = declare("identity.limit_reached", "Request limit reached", "limit", "per_minute")
IDENTITY_RESUMED = declare("identity.resumed", "Agent identity resumed", "reason")
ENROLMENT_CODE_ISSUED = declare("enrolment.code_issued", "Enrolment code issued", "expires_at")
CREDENTIAL_ENROLLED = declare("credential.enrolled", "Agent key enrolled", "thumbprint")
CREDENTIAL_REVOKED = declare("credential.revoked", "Agent key revoked", "thumbprint", "reason")
CREDENTIAL_ROTATED = declare("credential.rotated", "Agent key rotated", "thumbprint", "replaced")
SUPERSEDED_KEY_USED = declare(
    "credential.superseded_key_used",
    "Superseded key used; identity suspended",
    "thumbprint",
)
TOKEN_REVOKED = declare("credential.token_revoked", "Token revoked", "jti")
FEDERATED_CREDENTIAL_ADDED = declare(
    "credential.federated", "Trusted issuer added", "issuer", "subject_name"
)
FEDERATED_KEYS_REPLACED = declare(
    "credential.federated_keys_replaced",
    "Keys of a trusted issuer replaced",
    "issuer",
    "subject_name",
    "kid",
)
FEDERATED_CREDENTIAL_WITHDRAWN = declare(
    "credential.federated_withdrawn",
    "Trusted issuer removed",
    "issuer",
    "subject_name",
    "reason",
)
DELEGATION_ALLOWED = declare(
    "delegation.allowed",
    "Agent delegation granted",
    "acting",
    "scope",
    "max_depth",
    "reason",
)
DELEGATION_ENDED = declare("delegation.ended", "Agent delegation revoked", "acting", "reason")
IDENTITY_BOUND = declare("identity.dpop_required", "DPoP requirement changed", "required")
SIGNING_KEY_PREPARED = declare("signing_key.prepared", "Next signing key published", "kid")
SIGNING_KEY_ACTIVATED = declare(
    "signing_key.activated", "Signing key activated", "kid", "retired", "reason"
)
SIGNING_KEY_RESEALED = declare("signing_key.resealed", "Signing key re-encrypted", "key")
SIGNING_KEY_REVOKED = declare("signing_key.revoked", "Signing key revoked", "kid", "reason")
CREDENTIAL_ISSUED = declare(
    "credential.issued",
    "Token issued",
    "jti",
    "scope",
    "expires_at",
    "chain",
    "bound",
    "epoch",
    "delegation",
)
SIGNING_KEY_CREATED = declare("signing_key.created", "Signing key created", "environment")
IDENTITY_HELD_BACK = declare(
    "identity.activation_requested",
    "Activation of an identity requested",
    "approval",
    "reason",
)
IDENTITY_ACTIVATED = declare("identity.activated", "Agent identity activated")
SPONSOR_REQUESTED = declare("agent.sponsor_requested", "New sponsor requested", "approval")
SPONSOR_CHANGED = declare(
    "agent.sponsor_changed", "Sponsor of an agent changed", "sponsor", "former", "reason"
)
AGENT_CERTIFIED = declare("agent.certified", "Agent recertified", "until", "reason")
AGENT_REMINDED = declare("agent.reminded", "Reminder of recertification sent", "until")
FINDING_MADE = declare("finding.made", "Finding created", "finding", "rule", "response")
FINDING_ESCALATED = declare("finding.escalated", "Finding escalated", "finding", "response")
FINDING_RESOLVED = declare("finding.resolved", "Finding resolved", "finding", "reason")
USE_DECLARED = declare(
    "identity.use_declared", "Expected use of an identity declared", "replicas", "hours", "reason"
)
PERSON_DELEGATED = declare(
    "person.delegated", "User delegation granted", "delegation", "scope", "ends_at"
)
PERSON_DELEGATION_ENDED = declare(
    "person.delegation_ended", "User delegation revoked", "delegation", "reason"
)
HALT_PLACED = declare("halt.placed", "Halt placed", "kind", "target", "reason")
HALT_LIFT_ASKED = declare(
    "halt.lift_requested", "Lifting of a halt requested", "approval", "reason"
)
HALT_LIFTED = declare("halt.lifted", "Halt lifted", "kind", "target", "reason")
