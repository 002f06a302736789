from audit.vocabulary import declare

AGENT_REGISTERED = declare("agent.registered", "An agent was registered", "owner", "sponsor")
AGENT_ACTIVATED = declare("agent.activated", "An agent was activated", "reason")
AGENT_SUSPENDED = declare("agent.suspended", "An agent was suspended", "reason")
AGENT_RETIRED = declare("agent.retired", "An agent was retired", "reason")
IDENTITY_CREATED = declare("identity.created", "An agent got an identity", "environment")
IDENTITY_SUSPENDED = declare("identity.suspended", "An identity was suspended", "reason")
IDENTITY_RESUMED = declare("identity.resumed", "An identity was resumed", "reason")
ENROLMENT_CODE_ISSUED = declare(
    "enrolment.code_issued", "An enrolment code was issued", "expires_at"
)
CREDENTIAL_ENROLLED = declare("credential.enrolled", "A key was enrolled", "thumbprint")
CREDENTIAL_REVOKED = declare("credential.revoked", "A key was revoked", "thumbprint", "reason")
CREDENTIAL_ISSUED = declare("credential.issued", "A token was issued", "jti", "scope", "expires_at")
SIGNING_KEY_CREATED = declare("signing_key.created", "A signing key was made", "environment")
HALT_PLACED = declare("halt.placed", "A halt was placed", "kind", "target", "reason")
HALT_LIFTED = declare("halt.lifted", "A halt was lifted", "kind", "target", "reason")
