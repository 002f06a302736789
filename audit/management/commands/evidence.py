import hashlib
import time
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from accounts.models import User
from audit.errors import NotSealed
from audit.evidence.bundle import Range, bundle, range_for
from audit.models import Export
from audit.services import exports
from audit.services.sealer import seal
from common.actors import Actor
from common.console import bar, text_of
from common.errors import GovernanceError

WAIT_SECONDS = 30


class Command(BaseCommand):
    help = "Evidence to take away: asked for by one person, approved by another."

    def add_arguments(self, parser: CommandParser) -> None:
        commands = parser.add_subparsers(dest="command", required=True)
        taking = commands.add_parser("export", help="Write a bundle that verifies offline.")
        taking.add_argument("--out", required=True, help="The archive to write.")
        taking.add_argument("--purpose", required=True, help="What for; it is recorded.")
        taking.add_argument("--by", required=True, help="Who asks, by user name.")
        taking.add_argument("--approved-by", required=True, help="Who approves: somebody else.")
        taking.add_argument("--run", action="append", default=[], type=UUID)
        taking.add_argument("--agent", action="append", default=[], help="A client id.")
        taking.add_argument("--since", type=_moment, help="ISO 8601")
        taking.add_argument("--until", type=_moment, help="ISO 8601")
        taking.add_argument("--values", action="store_true", help="With values such as names.")
        taking.add_argument(
            "--sensitive", action="store_true", help="With personal and sensitive values, too."
        )
        taking.add_argument(
            "--checkpoint", help="A file: the checkpoint the auditor has from before."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        asker = _person(options["by"], "audit.ask_export")
        approver = _person(options["approved_by"], "audit.approve_export")
        previous_checkpoint = text_of(options["checkpoint"]) if options["checkpoint"] else ""
        asked = exports.Wanted(
            runs=options["run"],
            agents=options["agent"],
            since=options["since"],
            until=options["until"],
            with_values=options["values"] or options["sensitive"],
            with_sensitive=options["sensitive"],
            previous_checkpoint=previous_checkpoint,
        )
        try:
            export = exports.ask(asked, actor=asker, purpose=options["purpose"])
            exports.decide_export(
                export.pk, actor=approver, approve=True, reason="Approved on the command line."
            )
            of = self._range(export)
            export = exports.take(
                export.pk, actor=asker, start=of.start, end=of.end, size=of.checkpoint.size
            )
        except GovernanceError as refusal:
            raise CommandError(str(refusal)) from refusal
        digest = self._write(Path(options["out"]), export, of)
        self.stdout.write(
            f"{options['out']}: events {of.start:,} to {of.end - 1:,} of {of.checkpoint.size:,}. "
            f"SHA-256 {digest}"
        )

    def _range(self, export: Export) -> Range:
        """The range, once what was asked and approved here is sealed: a second or so, by the
        sealer or, where the log's key is, by this process.
        """
        for _ in range(WAIT_SECONDS * 2):
            if settings.LOG_SIGNING_KEY:
                seal()
            try:
                return range_for(export)
            except NotSealed:
                time.sleep(0.5)
        return range_for(export)

    def _write(self, path: Path, export: Export, of: Range) -> str:
        hashed = hashlib.sha256()
        with bar("Events") as show, path.open("wb") as file:
            for part in bundle(export, of, progress=show):
                file.write(part)
                hashed.update(part)
        return hashed.hexdigest()


def _person(name: str, permission: str) -> Actor:
    user = User.objects.filter(username=name, is_active=True).first()
    if user is None or not user.has_perm(permission):
        message = f"There is no {name} who may do this ({permission})."
        raise CommandError(message)
    return Actor.from_user(user)


def _moment(text: str) -> datetime:
    found = parse_datetime(text)
    if found is None:
        message = "not a moment"
        raise ValueError(message)
    return found if timezone.is_aware(found) else timezone.make_aware(found)
