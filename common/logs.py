"""The log of a process, and what is kept out of it."""

import logging

from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.http import Http404

_REFUSALS = (PermissionDenied, SuspiciousOperation, Http404)


class WithoutTracebackOfRefusals(logging.Filter):
    """A refused request is a line: with a traceback each, anybody with a session fills the disk."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and isinstance(record.exc_info[1], _REFUSALS):
            record.exc_info = None
            record.exc_text = None
        return True
