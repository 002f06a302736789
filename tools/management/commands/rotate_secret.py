import getpass
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from common.actors import SYSTEM
from common.errors import GovernanceError
from tools.models import Secret
from tools.services.secrets import rotate_secret


class Command(BaseCommand):
    help = (
        "Give a secret a new value. The value is read from standard input, or asked for: never "
        "from the command line, where other users of the machine would see it."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("system")
        parser.add_argument("environment")
        parser.add_argument("name")
        parser.add_argument("--reason", required=True, help="Recorded in the audit log.")

    def handle(self, *args: Any, **options: Any) -> None:
        secret = Secret.objects.in_force().filter(
            endpoint__system__slug=options["system"],
            endpoint__environment=options["environment"],
            name=options["name"],
        )
        found = secret.first()
        if found is None:
            message = "There is no such secret in force."
            raise CommandError(message)
        try:
            version = rotate_secret(
                found.pk, actor=SYSTEM, value=_asked(), reason=options["reason"]
            )
        except GovernanceError as refusal:
            raise CommandError(str(refusal)) from refusal
        self.stdout.write(f"{found}: version {version.number} is in use.")


def _asked() -> str:
    if sys.stdin.isatty():
        return getpass.getpass("New value (not shown): ")
    return sys.stdin.readline().rstrip("\r\n")
