"""With a production's settings, Django's own check for deployment has nothing to say."""

import base64
import os
import secrets
import subprocess
import sys
from pathlib import Path

import certifi
import pytest
from django.core.exceptions import ImproperlyConfigured

from portal import environment
from portal.startup import ensure_keys
from tests.databases import free_port

ROOT = Path(__file__).resolve().parents[2]
PRODUCTION = {
    "DJANGO_SETTINGS_MODULE": "portal.settings",
    "CHANCERY_DEBUG": "0",
    "CHANCERY_DEMO": "0",
    "CHANCERY_URL": "https://portal.example",
    "CHANCERY_ALLOWED_HOSTS": "portal.example",
    "CHANCERY_SMTP_HOST": "mail.example",
    "REDIS_URL": "redis://redis.example/0",
    "DATABASE_URL": "postgres://chancery:x@database.example/chancery",
}


def checked(*more: str, **changes: str) -> "subprocess.CompletedProcess[str]":
    made = {
        "CHANCERY_SECRET_KEY": secrets.token_urlsafe(60),
        "CHANCERY_ENCRYPTION_KEYS": base64.b64encode(secrets.token_bytes(32)).decode(),
    }
    command = [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING", *more]
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
    done = checked(
        CHANCERY_URL="http://portal.example", CHANCERY_ENCRYPTION_KEYS="none", REDIS_URL=""
    )
    assert done.returncode == 1
    for identifier in ("E002", "E003", "E004", "E005"):
        assert f"chancery.{identifier}" in done.stderr


@pytest.mark.parametrize(
    ("changes", "identifier"),
    [
        ({"CHANCERY_SECRET_KEY": ""}, "E010"),
        ({"CHANCERY_AGENT_REQUESTS_PER_MINUTE": "many"}, "E010"),
        ({"CHANCERY_BEHIND_PROXY": "perhaps"}, "E010"),
        ({"CHANCERY_ALLOWED_HOSTS": "*"}, "E011"),
        ({"CHANCERY_SMTP_HOST": ""}, "W002"),
        ({"DATABASE_URL": "sqlite:///nowhere.sqlite3"}, "W001"),
    ],
)
def test_each_setting_that_is_missing_or_unreadable_is_one_sentence(
    changes: dict[str, str], identifier: str
) -> None:
    done = checked(**changes)
    assert done.returncode == 1
    assert f"chancery.{identifier}" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_a_deployment_leads_to_is_asked(tmp_path: Path) -> None:
    """An empty database, and a broker where nobody listens."""
    done = checked(
        "--database",
        "default",
        DATABASE_URL=f"sqlite:///{tmp_path}/empty.sqlite3",
        REDIS_URL=f"redis://127.0.0.1:{free_port()}/0",
    )
    assert done.returncode == 1
    for identifier in ("E013", "E015"):
        assert f"chancery.{identifier}" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_database_that_does_not_answer_is_one_sentence() -> None:
    address = f"postgres://somebody:hush@127.0.0.1:{free_port()}/nothing"
    done = checked("--database", "default", DATABASE_URL=address)
    assert "chancery.E012" in done.stderr
    assert "Traceback" not in done.stderr
    assert "hush" not in done.stderr


def test_no_process_serves_with_a_setting_that_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(environment, "problems", ["CHANCERY_X is no whole number."])
    with pytest.raises(ImproperlyConfigured, match="CHANCERY_X"):
        ensure_keys()


@pytest.mark.parametrize("content", [None, "", "no certificate"])
def test_authorities_that_cannot_be_read_are_said(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "authorities.pem"
    if content is not None:
        path.write_text(content)
    done = checked(CHANCERY_CA_FILE=str(path))
    assert done.returncode == 1
    assert "chancery.E017" in done.stderr
    assert "Traceback" not in done.stderr


def test_authorities_of_ones_own_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "authorities.pem"
    path.write_text(Path(certifi.where()).read_text())
    done = checked(CHANCERY_CA_FILE=str(path))
    assert done.returncode == 0, done.stderr
