from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from agents.services.enrolment import issue_enrolment_code
from common.actors import SYSTEM
from demo.setting_up import set_up


class Command(BaseCommand):
    help = "Set up the airline demonstration and write an enrolment code for its agent."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--code-file", type=Path, help="Where the one-time code goes.")

    def handle(self, *args: Any, **options: Any) -> None:
        identity = set_up()
        if options["code_file"]:
            path: Path = options["code_file"]
            path.touch(mode=0o600)
            path.write_text(issue_enrolment_code(identity.pk, actor=SYSTEM))
        self.stdout.write(f"{identity} is ready.")
