from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from audit.services import sealer
from audit.signed_notes import NoteInvalid, Verifier
from audit.verification import Report, verify
from audit.verifying import note
from common.console import bar, text_of


class Command(BaseCommand):
    help = "The audit log: verify all of it, or print the key that it is signed with."

    def add_arguments(self, parser: CommandParser) -> None:
        commands = parser.add_subparsers(dest="command", required=True)
        check = commands.add_parser("verify", help="Check every event, value, proof and signature.")
        check.add_argument(
            "--key", action="append", default=[], help="A key of the log (vkey) that you trust."
        )
        check.add_argument(
            "--checkpoint",
            action="append",
            default=[],
            help="A file with a checkpoint that you kept.",
        )
        check.add_argument(
            "--no-record", action="store_true", help="Do not record the result as an event."
        )
        commands.add_parser("key", help="The key (vkey) to give to auditors and witnesses.")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["command"] == "key":
            self.stdout.write(_own_key())
            return
        report = self._verified(
            _trusted(options["key"]), [text_of(one) for one in options["checkpoint"]]
        )
        if not options["no_record"]:
            note(report)
        self._say(report)

    def _verified(self, trusted: list[Verifier], checkpoints: list[str]) -> Report:
        with bar("Events") as show:
            return verify(trusted=trusted, checkpoints=checkpoints, progress=show)

    def _say(self, report: Report) -> None:
        self.stdout.write(
            f"{report.size:,} events, {report.values:,} values beside them, "
            f"{report.erased:,} erased, {report.checkpoints:,} checkpoints; "
            f"{report.waiting:,} events wait to be sealed."
        )
        self.stdout.write(f"Root {report.root.hex()}")
        for key in report.keys:
            self.stdout.write(f"Signed with {key}")
        for problem in report.problems:
            self.stdout.write(self.style.ERROR(str(problem)))
        if not report.is_sound:
            message = f"The log does not hold: {report.found:,} problems."
            raise CommandError(message, returncode=2)
        self.stdout.write(self.style.SUCCESS("Everything holds."))


def _own_key() -> str:
    if not settings.LOG_SIGNING_KEY:
        message = "This process has no CHANCERY_LOG_SIGNING_KEY. Ask where the sealer runs."
        raise CommandError(message)
    return str(sealer.signers()[0].verifier)


def _trusted(given: list[str]) -> list[Verifier]:
    """Those that were given; otherwise the key that this process signs with, if it has one."""
    try:
        if given:
            return [Verifier.from_text(one) for one in given]
    except NoteInvalid as error:
        raise CommandError(str(error)) from error
    return [one.verifier for one in sealer.signers()] if settings.LOG_SIGNING_KEY else []
