import os
import secrets
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from audit.signed_notes import NoteInvalid, Signer, Verifier


class Command(BaseCommand):
    help = (
        "Run a witness for logs: a C2SP tlog-witness. Run it on another machine than the portal, "
        "and in other hands. It needs no database; its folder holds its key and what it has seen."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--name", required=True, help="Its name, such as witness.example/w1.")
        parser.add_argument("--log", action="append", required=True, help="A log's key (vkey).")
        parser.add_argument("--folder", default="var/witness", help="Its key and its memory.")
        parser.add_argument("--listen", default="127.0.0.1:8090", help="Address and port.")

    def handle(self, *args: Any, **options: Any) -> None:
        folder = Path(options["folder"])
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        seed = _seed(folder / "key")
        try:
            signer = Signer.from_seed(options["name"], seed)
            str(Verifier.from_text(str(signer.witness)))
            logs = [str(Verifier.from_text(one)) for one in options["log"]]
        except NoteInvalid as error:
            raise CommandError(str(error)) from error
        host, _, port = options["listen"].rpartition(":")
        self.stdout.write(f"Its key: {signer.witness}\nIt listens on {options['listen']}.")
        self.stdout.flush()
        environment = {
            **os.environ,
            "WITNESS_KEY": seed.hex(),
            "WITNESS_NAME": options["name"],
            "WITNESS_LOGS": " ".join(logs),
            "WITNESS_FOLDER": str(folder),
        }
        server = [
            "granian", "--interface", "wsgi", "--factory", "--host", host, "--port", port,
            "--workers", "1", "--no-ws", "--log-level", "warning",
            "audit.witness_server:from_environment",
        ]  # fmt: skip
        os.execvpe(server[0], server, environment)  # noqa: S606 - the server takes this process's place


def _seed(file: Path) -> bytes:
    """The witness's key, made at its first start and readable by its owner alone."""
    if file.is_file():
        return bytes.fromhex(file.read_text().strip())
    seed = secrets.token_bytes(32)
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as out:
        out.write(seed.hex())
    return seed
