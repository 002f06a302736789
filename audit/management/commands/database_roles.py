from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import ProgrammingError, connection, transaction

FILE = Path(__file__).resolve().parents[2] / "sql" / "roles.sql"


class Command(BaseCommand):
    help = "Roles of PostgreSQL under which the log can be written and not changed."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--show", action="store_true", help="Print the statements only.")

    def handle(self, *args: Any, **options: Any) -> None:
        statements = FILE.read_text()
        if options["show"]:
            self.stdout.write(statements)
            return
        if connection.vendor != "postgresql":
            message = "Roles are PostgreSQL's. SQLite has none: who reads its file can write it."
            raise CommandError(message)
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute(statements)
        except ProgrammingError as error:
            message = (
                "PostgreSQL refused. Roles are made by a superuser: run this once with its "
                "DATABASE_URL, or give it the statements of --show."
            )
            raise CommandError(message) from error
        self.stdout.write("chancery_app, chancery_sealer and chancery_auditor have their rights.")
