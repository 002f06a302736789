"""In place of django-auditlog's command of that name, which deletes all there is."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError


class Command(BaseCommand):
    help = "Refused: the change log is kept. Values go by erasure, which two people decide."

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("-y", "--yes", action="store_true")
        parser.add_argument("-b", "--before-date", default=None)

    def handle(self, *args: Any, **options: Any) -> None:
        message = "The change log is kept. To remove values of a person, ask for an erasure."
        raise CommandError(message)
