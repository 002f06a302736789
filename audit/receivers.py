"""Django's signals about sign-ins, passed on to the log: what is not recorded does not happen."""

from collections.abc import Mapping
from typing import Any

from audit.services import auth_events
from common.actors import SYSTEM, Actor
from common.request_context import client_address


def signed_in(sender: Any, request: Any, user: Any, **kwargs: Any) -> None:
    auth_events.note_signed_in(user, actor=Actor.from_user(user), address=_address(request))


def signed_out(sender: Any, request: Any, user: Any, **kwargs: Any) -> None:
    if user is not None and user.is_authenticated:
        auth_events.note_signed_out(user, actor=Actor.from_user(user), address=_address(request))


def refused(
    sender: Any, credentials: Mapping[str, Any], request: Any = None, **kwargs: Any
) -> None:
    name = str(credentials.get("username") or "").strip()
    auth_events.note_refused(name, actor=SYSTEM, address=_address(request))


def _address(request: Any) -> str:
    return client_address(request)[:64] if request is not None else ""
