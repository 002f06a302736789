"""The names that people type for agents and tools, as the names that rows have."""

from django.db.models import Q

from agents.models import Agent
from tools.models import Tool

MAX_NAMES = 100


def agents_called(text: str) -> list[str]:
    """The slugs of agents with this name, also as a client id, or with this in their title."""
    named = Q(slug__iexact=text.partition(".")[0]) | Q(title__icontains=text)
    return [text, *Agent.objects.filter(named).values_list("slug", flat=True)[:MAX_NAMES]]


def tools_called(text: str) -> list[str]:
    """The full names of tools with this name, with or without their system, or in their title."""
    named = Q(name__iexact=text.rpartition(".")[2]) | Q(title__icontains=text)
    found = Tool.objects.filter(named).select_related("system")[:MAX_NAMES]
    return [text, *(tool.full_name for tool in found)]
