from common.errors import GovernanceError, InvalidInput


class InvalidToken(GovernanceError):
    code = "invalid_token"
    sentence = "The access token is missing, expired or not valid here."


class InvalidClient(GovernanceError):
    """One answer for every way a client can fail to prove itself."""

    code = "invalid_client"
    sentence = "The client could not be authenticated."


class InvalidDpopProof(GovernanceError):
    """RFC 9449 section 5; one answer for every way a proof can be wrong."""

    code = "invalid_dpop_proof"
    sentence = "The proof of possession (DPoP) is missing or not valid."


class InvalidTarget(GovernanceError):
    """RFC 8707 section 2."""

    code = "invalid_target"
    sentence = "Tokens of this identity are for its own environment only."


class InvalidGrant(GovernanceError):
    code = "invalid_grant"
    sentence = "The subject's token is not valid, or may not be exchanged by this agent."


class SigningKeyNotReady(GovernanceError):
    code = "signing_key_not_ready"
    sentence = "The next signing key has not been published long enough to be used."


class CredentialTaken(InvalidInput):
    code = "credential_taken"
    sentence = "This issuer and subject belong to an identity already. They are never shared."


class InvalidTokenRequest(GovernanceError):
    code = "invalid_request"
    sentence = "The token request is not well formed."


class UnsupportedGrantType(GovernanceError):
    code = "unsupported_grant_type"
    sentence = "This grant type is not supported."


class InvalidScope(GovernanceError):
    code = "invalid_scope"
    sentence = "The scope is not one this server knows."


class InvalidEnrolment(GovernanceError):
    code = "invalid_enrolment"
    sentence = "The enrolment code or the proof of possession is not valid."


class InvalidKey(InvalidInput):
    code = "invalid_key"
    sentence = "The key must be a public P-256 or Ed25519 key in JWK form."


class KeyAlreadyUsed(GovernanceError):
    code = "key_already_used"
    sentence = "This key already belongs to an identity. Keys are never shared."


class InvalidLifecycleTransition(GovernanceError):
    code = "invalid_lifecycle_transition"
    sentence = "The agent's state does not allow this step."


class NoActiveSponsor(GovernanceError):
    code = "no_active_sponsor"
    sentence = "An agent needs an active sponsor to be active."


class NotResponsibleForAgent(GovernanceError):
    code = "not_responsible_for_agent"
    sentence = "You do not answer for this agent: its owner, its sponsor and compliance do."


class AlreadyHalted(GovernanceError):
    code = "already_halted"
    sentence = "A halt on this is already in force."


class UnknownHaltTarget(InvalidInput):
    code = "unknown_halt_target"
    sentence = "There is nothing of that name to halt."


class HaltNotInForce(GovernanceError):
    code = "halt_not_in_force"
    sentence = "This halt is not in force."


class SecondApproverRequired(GovernanceError):
    code = "second_approver_required"
    sentence = (
        "Lifting the global halt requires a second approver: request it, and another person "
        "approves."
    )


class AlreadyAskedToLift(GovernanceError):
    code = "already_asked_to_lift"
    sentence = "Somebody has asked for this halt to be lifted: a second person decides."


class FindingResolved(GovernanceError):
    code = "finding_resolved"
    sentence = "This finding has already been resolved."


class IssuerUnreachable(InvalidInput):
    code = "issuer_unreachable"
    sentence = "The address of the issuer's keys cannot be used."
