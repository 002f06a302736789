"""The agent's key, in a folder of its own that nobody else on the machine can read."""

import json
import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from joserfc.jwk import ECKey

from chancery_client.errors import NotEnrolled, UnsafeKeyFile

FILE, NEXT_FILE = "identity.json", "identity.next.json"


@dataclass(frozen=True)
class Identity:
    """The agent's identity at a portal, and the key that proves it."""

    issuer: str
    client_id: str
    key: ECKey

    @property
    def public(self) -> dict[str, Any]:
        return dict(self.key.as_dict(private=False))


def new_key() -> ECKey:
    return ECKey.generate_key("P-256", private=True)


class KeyFolder:
    """One identity on disk. The file has mode 0600 from its first byte on."""

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder).expanduser()

    @property
    def path(self) -> Path:
        return self._folder / FILE

    def read(self) -> Identity:
        """Raises NotEnrolled; UnsafeKeyFile if others could read or change the file."""
        try:
            with self.path.open() as file:
                mode = os.fstat(file.fileno()).st_mode
                if os.name == "posix" and stat.S_IMODE(mode) & 0o077:
                    message = f"{self.path} must be readable by its owner only (chmod 600)."
                    raise UnsafeKeyFile(message)
                held = json.load(file)
        except FileNotFoundError as error:
            message = f"There is no key in {self._folder}: enrol first."
            raise NotEnrolled(message) from error
        return Identity(held["issuer"], held["client_id"], ECKey.import_key(held["key"]))

    @property
    def changed_at(self) -> int:
        """Return when the file was last written, in nanoseconds; 0 without one."""
        try:
            return self.path.stat().st_mtime_ns
        except FileNotFoundError:
            return 0

    def following(self) -> ECKey:
        """The key that is to follow, on disk before the portal hears of it: if its answer is lost,
        the next try sends the same key again.
        """
        beside = self._folder / NEXT_FILE
        if not beside.exists():
            self._written(beside, new_key().as_dict(private=True))
        return ECKey.import_key(json.loads(beside.read_text()))

    def write(self, identity: Identity) -> None:
        """Replace what is there in one step: a crash leaves the old key or the new one."""
        body = {
            "issuer": identity.issuer,
            "client_id": identity.client_id,
            "key": identity.key.as_dict(private=True),
        }
        self._written(self.path, body)
        (self._folder / NEXT_FILE).unlink(missing_ok=True)

    def _written(self, path: Path, body: dict[str, Any]) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        beside = path.with_suffix(f".{secrets.token_hex(4)}")
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(body, file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
