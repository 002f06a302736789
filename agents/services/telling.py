"""Mail to the people who answer for an agent, once what it speaks of is in the database."""

from functools import partial

from django.core.mail import send_mail
from django.db import transaction

from agents.models import Agent


def tell(agent: Agent, subject: str, text: str) -> None:
    """To owner and sponsor. A mail server that is down keeps nothing from happening."""
    people = sorted({agent.owner.email, agent.sponsor.email} - {""})
    if people:
        transaction.on_commit(partial(send_mail, subject, text, None, people, fail_silently=True))
