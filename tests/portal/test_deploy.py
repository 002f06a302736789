"""With a production's settings, Django's own check for deployment has nothing to say."""

import base64
import os
import secrets
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PRODUCTION = {
    "DJANGO_SETTINGS_MODULE": "portal.settings",
    "CHANCERY_DEBUG": "0",
    "CHANCERY_DEMO": "0",
    "CHANCERY_URL": "https://portal.example",
    "CHANCERY_HOSTS": "portal.example",
    "REDIS_URL": "redis://redis.example/0",
    "DATABASE_URL": "postgres://chancery:x@database.example/chancery",
}


def checked(**changes: str) -> "subprocess.CompletedProcess[str]":
    made = {
        "CHANCERY_SECRET_KEY": secrets.token_urlsafe(60),
        "CHANCERY_SEALING_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
    }
    command = [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"]
    return subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | PRODUCTION | made | changes,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_complete_production_is_clean() -> None:
    done = checked()
    assert done.returncode == 0, done.stderr


def test_an_incomplete_one_is_told_what_is_missing() -> None:
    done = checked(CHANCERY_URL="http://portal.example", CHANCERY_SEALING_KEY="none", REDIS_URL="")
    assert done.returncode == 1
    for identifier in ("E002", "E003", "E004", "E005"):
        assert f"chancery.{identifier}" in done.stderr
