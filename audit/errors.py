from common.errors import GovernanceError


class NotSealed(GovernanceError):
    code = "not_sealed"
    sentence = "It is not in the signed log yet: that takes a second or so."


class HumanActorRequired(GovernanceError):
    code = "human_actor_required"
    sentence = "Only a person can do this."


class AlreadyDecided(GovernanceError):
    code = "already_decided"
    sentence = "It has been decided already."


class OwnRecordRequest(GovernanceError):
    code = "own_request"
    sentence = "You asked for it: somebody else decides."


class ExportNotApproved(GovernanceError):
    code = "export_not_approved"
    sentence = "A second person has not approved it, or that was more than a week ago."


class NothingToExport(GovernanceError):
    code = "nothing_to_export"
    sentence = "No sealed event is of these runs, agents and times."


class UnderLegalHold(GovernanceError):
    code = "under_legal_hold"
    sentence = "A legal hold covers some of these events. What is held stays."


class NothingToErase(GovernanceError):
    code = "nothing_to_erase"
    sentence = "There are no such events, or nothing is left of them that can be erased."


class TooManyEvents(GovernanceError):
    code = "too_many_events"
    sentence = "These are more events than can be erased at once. Name fewer."


class RetentionTooShort(GovernanceError):
    code = "retention_too_short"
    sentence = "Values are kept for half a year at least."


class AlreadyReleased(GovernanceError):
    code = "already_released"
    sentence = "The hold has been released already."


class PassNotApplicable(GovernanceError):
    code = "pass_not_applicable"
    sentence = (
        "Auditor passes can be granted only to another person whose account has read-only access, "
        "and not to an administrator, whom a pass would not limit."
    )


class PassEnded(GovernanceError):
    code = "pass_ended"
    sentence = "The pass has been withdrawn already, or another one followed it."


class PassInForce(GovernanceError):
    code = "pass_in_force"
    sentence = "The pass is in force: withdraw it first."


class ValuesNotPermitted(GovernanceError):
    code = "values_not_permitted"
    sentence = "You cannot export values that you are not permitted to view."


class OutOfScope(GovernanceError):
    code = "out_of_scope"
    sentence = "Your pass does not cover this."


class AuditMisuse(Exception):
    """The code asked the log for something it refuses: a defect, not a refusal to a caller."""


class RecordOutsideTransaction(AuditMisuse):
    """A record must share the transaction of the change it records."""


class UnknownEvent(AuditMisuse):
    """Only declared events can be recorded, with declared details."""


class AppendOnly(AuditMisuse):
    """An event is never changed or removed."""


class LeafInvalid(AuditMisuse):
    """An event that cannot be written as a leaf, or a leaf that is not one."""


class LogInconsistent(AuditMisuse):
    """The stored log is not the one that was signed. Signing stops until somebody has looked."""


class SealingKeyUsedBefore(AuditMisuse):
    """A key that the log was signed with before does not follow a later one: make a new one."""


class LogSigningKeyMissing(AuditMisuse):
    """This process does not hold the key that the log is signed with."""
