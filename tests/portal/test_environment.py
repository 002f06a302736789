"""Settings for mail, and the files that hold an installation's secrets."""

import smtplib
import stat
from pathlib import Path
from typing import Any

import pytest
from django.core import mail

from agents.models import Agent
from agents.services.notifications import notify_responsible
from common.local_env import write_if_missing
from portal import checks, environment
from tests.factories import Governed


@pytest.mark.parametrize(
    ("given", "value", "problems"),
    [("", "starttls", 0), ("IMPLICIT", "implicit", 0), ("off", "off", 0), ("ssl", "starttls", 1)],
)
def test_a_word_is_one_of_those_there_are(
    monkeypatch: pytest.MonkeyPatch, given: str, value: str, problems: int
) -> None:
    monkeypatch.setenv("CHANCERY_SMTP_TLS", given)
    monkeypatch.setattr(environment, "problems", [])
    choices = ("starttls", "implicit", "off")
    assert environment.one_of("CHANCERY_SMTP_TLS", "starttls", choices) == value
    assert len(environment.problems) == problems


@pytest.mark.parametrize(("old", "new"), environment.FORMER_NAMES.items())
def test_a_renamed_variable_that_is_still_set_is_an_error_with_the_new_name(
    monkeypatch: pytest.MonkeyPatch, old: str, new: str
) -> None:
    monkeypatch.setattr(environment, "problems", [])
    environment.refuse_former_names()
    assert environment.problems == []
    monkeypatch.setenv(old, "")
    environment.refuse_former_names()
    assert [error.id for error in checks.settings_can_be_read(None)] == ["chancery.E010"]
    assert environment.problems == [f"{old} was renamed: set {new} instead and remove {old}."]


def test_settings_read_the_new_names() -> None:
    read = (Path(environment.__file__).parent / "settings.py").read_text()
    assert [new for new in environment.FORMER_NAMES.values() if f'"{new}"' not in read] == []


def test_the_logs_key_can_lie_in_a_file_of_its_own(tmp_path: Path) -> None:
    shared, log_key = tmp_path / "chancery.env", tmp_path / "sealer" / "log.env"
    assert write_if_missing(shared, log_key)
    assert "CHANCERY_LOG_SIGNING_KEY" not in shared.read_text()
    assert log_key.read_text().startswith("CHANCERY_LOG_SIGNING_KEY=")
    assert log_key.read_text().count("\n") == 1
    assert {stat.S_IMODE(one.stat().st_mode) for one in (shared, log_key)} == {0o600}
    before = shared.read_text()
    assert not write_if_missing(shared, log_key)
    assert shared.read_text() == before


@pytest.mark.django_db
def test_a_mail_that_cannot_be_sent_stops_nothing_and_is_logged_without_names(
    governed: Governed,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    django_capture_on_commit_callbacks: Any,
) -> None:
    agent = Agent.objects.get()
    agent.owner.email = "somebody@example.com"
    with django_capture_on_commit_callbacks(execute=True):
        notify_responsible(agent, "Its key is old", "Change it.")
    assert "somebody@example.com" in mail.outbox[-1].to

    def refuse(*_: Any, **__: Any) -> None:
        message = "to somebody@example.com"
        raise smtplib.SMTPServerDisconnected(message)

    monkeypatch.setattr("agents.services.notifications.send_mail", refuse)
    with django_capture_on_commit_callbacks(execute=True):
        notify_responsible(agent, "Its key is old", "Change it.")
    assert "a mail to 2 people was not sent: SMTPServerDisconnected" in caplog.text
    assert "example.com" not in caplog.text
