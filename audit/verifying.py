"""Verifying the log and saying in it what was found."""

from audit.services import access_log
from audit.verification import Report, verify
from common.actors import SYSTEM


def verify_and_note() -> Report:
    """The whole log, as it is done every day."""
    report = verify()
    note(report)
    return report


def note(report: Report) -> None:
    access_log.note_verification(
        actor=SYSTEM,
        size=report.size,
        values=report.values,
        problems=report.found,
        first=str(report.problems[0]) if report.problems else "",
    )
