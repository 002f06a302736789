"""Parts of a page that come from the floors above it.

The page of an agent, say, also shows its grants and its use, which are known higher up. Those
apps contribute a section in their `ready()`, so that the page's own app need not know them.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils.safestring import SafeString

Read = Callable[[Any], dict[str, Any]]


@dataclass(frozen=True)
class Section:
    template: str
    permission: str
    read: Read


_contributed: dict[str, list[Section]] = defaultdict(list)


def contribute(label: str, section: Section) -> None:
    """Show the section on the pages of a model, to people with its permission."""
    if section not in _contributed[label]:
        _contributed[label].append(section)


def rendered(request: HttpRequest, label: str, obj: Any) -> list[SafeString]:
    """The contributed sections about one object, for this person."""
    return [
        render_to_string(section.template, {"object": obj, **section.read(obj)}, request)
        for section in _contributed[label]
        if request.user.has_perm(section.permission)
    ]
