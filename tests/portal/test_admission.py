"""Who may act is one answer: every address of the product, for sessions that show too little."""

import json
import re
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from accounts.models import User
from actions.models import Action
from approvals.models import ApprovalRequest, Vote
from audit.models import Event
from tests.audit.sealed_log import sealed_all
from tests.factories import Governed

pytestmark = pytest.mark.django_db

# What is open by its nature: signing in, the token service, public keys, the API's description.
OPEN = re.compile(r"^/(accounts/|oauth/|\.well-known/|api/schema/|api/docs/|favicon\.ico|$)")
_CONVERTED = re.compile(r"<(?:(\w+):)?\w+>")
_NAMED = re.compile(r"\(\?P<\w+>(?:[^()]|\([^()]*\))*\)")


def routes(patterns: Any, prefix: str = "/") -> Iterator[str]:
    for one in patterns:
        route = str(one.pattern).lstrip("^").rstrip("$").replace("\\Z", "")
        if isinstance(one, URLResolver):
            yield from routes(one.url_patterns, prefix + route)
        elif isinstance(one, URLPattern):
            yield prefix + route


def address(route: str) -> str:
    given = {"int": "1", "uuid": str(uuid4()), "path": "1"}
    filled = _CONVERTED.sub(lambda match: given.get(match[1] or "", "one"), route)
    return _NAMED.sub("1", filled).replace("\\", "").replace("?", "")


ADDRESSES = sorted({address(route) for route in routes(get_resolver().url_patterns)})
# Signing out is open to everybody, and would end the session that is tried.
CLOSED = [one for one in ADDRESSES if not OPEN.match(one) and one != "/admin/logout/"]


def is_refused(answer: Any) -> bool:
    if answer.status_code == 302:
        return str(answer["location"]).startswith(("/accounts/", "/admin/login/"))
    return answer.status_code in {401, 403}


@pytest.fixture
def second_factor(settings: Any) -> None:
    settings.REQUIRE_MFA = True


def signed_in(user: User) -> Client:
    client = Client(raise_request_exception=False)
    client.force_login(user)
    return client


def test_a_password_alone_opens_nothing(admin_user: User, second_factor: None) -> None:
    client = signed_in(admin_user)
    let_in = [
        (method, path, answer.status_code)
        for path in CLOSED
        for method, answer in (("GET", client.get(path)), ("POST", client.post(path)))
        if not is_refused(answer)
    ]
    assert let_in == []
    assert len(CLOSED) > 250


@pytest.mark.parametrize("lacking", ["is_staff", "is_active"])
def test_nor_does_an_account_that_may_not_come_in(admin_user: User, lacking: str) -> None:
    client = signed_in(admin_user)
    User.objects.filter(pk=admin_user.pk).update(**{lacking: False})
    let_in = [
        (path, answer.status_code) for path in CLOSED if not is_refused(answer := client.get(path))
    ]
    assert let_in == []


def test_a_vote_needs_what_the_pages_need(
    governed: Governed, rosa: User, second_factor: None, settings: Any
) -> None:
    governed.pay(governed.run(), 500)
    request = ApprovalRequest.objects.get()
    client = signed_in(rosa)
    path = f"/api/v1/approvals/{request.pk}/votes"
    body = json.dumps({"answer": "approve", "reason": "Seen."})
    assert client.get("/api/v1/approvals").status_code == 403
    assert client.post(path, body, content_type="application/json").status_code == 403
    assert not Vote.objects.exists()
    assert Action.objects.get().status == Action.Status.WAITING
    settings.REQUIRE_MFA = False
    assert client.post(path, body, content_type="application/json").status_code == 201


def test_a_receipt_needs_what_the_pages_need(
    governed: Governed, admin_user: User, second_factor: None
) -> None:
    sealed_all()
    event = Event.objects.filter(place__isnull=False)[0]
    answer = signed_in(admin_user).get(f"/api/v1/audit/events/{event.uid}/receipt")
    assert answer.status_code == 403
