"""The portal's pages as a person with some rights opens and submits them."""

from typing import Any

from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse
from django.utils.html import escape

from accounts.models import User
from audit.models import Event
from tests import factories

_SEEN = ("workflows", "actions", "approvals")
REASON = {"reason": "I have looked at it."}
NOT_POSSIBLE = "this is not possible as things are now."


def person(username: str, *rights: str, groups: tuple[str, ...] = ()) -> User:
    """Staff who may look at everything of workflows and do what is named."""
    user = factories.person(username, *groups)
    seen = Permission.objects.filter(
        content_type__app_label__in=_SEEN, codename__startswith="view_"
    )
    user.user_permissions.set([*seen, *Permission.objects.filter(codename__in=rights)])
    return user


class Browser:
    """One person's browser: `page` is as in `workflows_workflow_write`."""

    def __init__(self, user: User) -> None:
        self.client = Client()
        self.client.force_login(user)

    def shows(self, page: str, *args: Any, query: str = "") -> str:
        """The page as it is shown."""
        response = self.client.get(f"{_url(page, *args)}{query}", follow=True)
        assert response.status_code == 200, response
        return response.content.decode()

    def does(self, page: str, *args: Any, **fields: Any) -> str:
        """Submit the page's form, which is taken; the page that one is led to."""
        response = self.client.post(_url(page, *args), fields, follow=True)
        assert response.status_code == 200, response
        html = response.content.decode()
        assert response.redirect_chain, html
        return html

    def is_refused(self, page: str, *args: Any, **fields: Any) -> str:
        """Submit the page's form, which is not taken; the form with what is wrong."""
        response = self.client.post(_url(page, *args), fields)
        assert response.status_code == 200, response
        html = response.content.decode()
        assert "errorlist" in html
        return html

    def is_kept_out(self, page: str, *args: Any, **fields: Any) -> bool:
        """Whether the page can neither be opened nor submitted."""
        url = _url(page, *args)
        found = {self.client.get(url).status_code, self.client.post(url, fields).status_code}
        return found == {403}


def _url(page: str, *args: Any) -> str:
    return reverse(f"admin:{page}", args=args)


def said(text: str, html: str) -> bool:
    """Whether the page says so, as text."""
    return escape(text) in html


def recorded(event: str) -> tuple[str, Any]:
    """Who did it last, and with which details."""
    found = Event.objects.filter(type=event).latest("id")
    return found.actor_label, found.details
