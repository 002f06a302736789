"""Whether a person has proven themselves with a second factor, and how lately.

django-allauth keeps a record of each proof in the session. Its own decorator asks nobody again
who has no password and no factor yet, such as people who come by single sign-on; so what we ask
for is a record of a second factor itself, and that it is fresh.
"""

import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from allauth.account.authentication import get_authentication_records
from allauth.mfa.models import Authenticator
from django.conf import settings
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.http import urlencode

from accounts.factors import Factor

# How lately one must have signed in, however, to add a factor.
RECENT_FOR = timedelta(minutes=15)
# Recovery codes let people back in; they do not sign for anything.
SSO_FACTOR = "chancery_sso_factor"
_KINDS = frozenset({Authenticator.Type.WEBAUTHN, Authenticator.Type.TOTP})


def latest_factor(request: HttpRequest) -> Factor | None:
    """The second factor that was shown last in this session, if it is still the person's own."""
    shown = [
        record
        for record in _records(request)
        if record.get("method") == "mfa" and record.get("type") in _KINDS
    ]
    for record in sorted(shown, key=lambda one: -float(one["at"])):
        own = Authenticator.objects.filter(pk=record.get("id"), user_id=request.user.pk)
        if own.filter(type=record["type"]).exists():
            moment = datetime.fromtimestamp(float(record["at"]), UTC)
            return Factor(str(record["type"]), str(record["id"]), moment)
    return None


def has_second_factor(request: HttpRequest) -> bool:
    """Whether the session was opened with two factors: ours, or those of the organisation's own
    sign-in, where its word for that (`acr` or `amr`, OpenID Connect Core section 2) is trusted.
    """
    if latest_factor(request) is not None:
        return True
    said = request.session.get(SSO_FACTOR)
    return bool(said) and any(
        record.get("method") == "socialaccount" and record.get("uid") == said
        for record in _records(request)
    )


def note_single_sign_on(request: HttpRequest, uid: str, claims: dict[str, Any]) -> None:
    """Keep with this session, and no other, whether the provider has said two factors for it."""
    said: Iterable[Any] = [claims.get("acr"), *_list(claims.get("amr"))]
    vouched = any(word in settings.OIDC_MFA_VALUES for word in said if isinstance(word, str))
    request.session[SSO_FACTOR] = uid if vouched else ""


def has_own_factor(request: HttpRequest) -> bool:
    own = Authenticator.objects.filter(user_id=request.user.pk, type__in=_KINDS)
    return bool(own.exists())


def may_change_factors(request: HttpRequest) -> bool:
    """Whether this session may change how the person proves themselves.

    Who has a factor shows it first, and who has none has just signed in: a password entered
    anew into a session that was left open is not enough, for it may have been set there.
    """
    if has_own_factor(request):
        factor = latest_factor(request)
        return factor is not None and factor.is_fresh(timezone.now())
    oldest = time.time() - RECENT_FOR.total_seconds()
    return any(
        float(record["at"]) >= oldest and not record.get("reauthenticated")
        for record in _records(request)
    )


def where_to_prove(request: HttpRequest, *, back_to: str) -> str:
    """The page on which this person shows a second factor, or gets their first one."""
    kinds = set(
        Authenticator.objects.filter(user_id=request.user.pk).values_list("type", flat=True)
    )
    if Authenticator.Type.WEBAUTHN in kinds:
        name = "mfa_reauthenticate_webauthn"
    elif Authenticator.Type.TOTP in kinds:
        name = "mfa_reauthenticate"
    else:
        name = "mfa_index"
    return f"{reverse(name)}?{urlencode({'next': back_to})}"


def _records(request: HttpRequest) -> list[dict[str, Any]]:
    if not request.user.is_authenticated:
        return []
    found = get_authentication_records(request, request.user)
    return [record for record in found if isinstance(record.get("at"), int | float)]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
