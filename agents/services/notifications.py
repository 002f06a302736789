"""Mail to the people who answer for an agent, once what it speaks of is in the database."""

import logging
from collections.abc import Sequence
from functools import partial
from smtplib import SMTPException

from django.core.mail import send_mail
from django.db import transaction

from agents.models import Agent

log = logging.getLogger(__name__)


def notify_responsible(agent: Agent, subject: str, text: str) -> None:
    """To owner and sponsor. A mail server that is down keeps nothing from happening, and is seen in
    the process's log.
    """
    people = sorted({agent.owner.email, agent.sponsor.email} - {""})
    if people:
        transaction.on_commit(partial(_send, subject, text, people))


def _send(subject: str, text: str, people: Sequence[str]) -> None:
    try:
        send_mail(subject, text, None, people)
    except (SMTPException, OSError) as error:
        # Neither the people nor the text: both may be personal.
        log.error("a mail to %s people was not sent: %s", len(people), type(error).__name__)  # noqa: TRY400
