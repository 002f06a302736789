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
