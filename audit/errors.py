from typing import ClassVar

from common.errors import GovernanceError


class NotSealed(GovernanceError):
    code: ClassVar[str] = "not_sealed"
    sentence: ClassVar[str] = "It is not in the signed log yet: that takes a second or so."


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
    """What is stored is not what was signed: nothing more is signed until somebody has looked."""


class SealingKeyMissing(AuditMisuse):
    """This process does not hold the key that the log is signed with."""
