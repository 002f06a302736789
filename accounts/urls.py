"""Signing in: django-allauth's pages, with a gate before those that add a second factor."""

from collections.abc import Callable
from functools import wraps
from typing import NoReturn

from allauth.account.views import password_change, password_set
from allauth.mfa.recovery_codes.views import generate_recovery_codes
from allauth.mfa.totp.views import activate_totp, deactivate_totp
from allauth.mfa.webauthn.views import add_webauthn, remove_webauthn
from allauth.socialaccount.views import connections
from django.contrib.auth import logout
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase, HttpResponseRedirect
from django.urls import include, path, reverse
from django.utils.http import urlencode

from accounts.second_factor import has_own_factor, may_change_factors, where_to_prove

View = Callable[..., HttpResponseBase]


def after_a_proof(view: View) -> View:
    """Require a second factor, or a new sign-in, before a session can change how its account signs
    in: an open session that somebody else finds must not become theirs.
    """

    @wraps(view)
    def gated(request: HttpRequest, *args: object, **kwargs: object) -> HttpResponseBase:
        if request.user.is_authenticated and not may_change_factors(request):
            if has_own_factor(request):
                return HttpResponseRedirect(where_to_prove(request, back_to=request.path))
            logout(request)
            query = urlencode({"next": request.path})
            return HttpResponseRedirect(f"{reverse('account_login')}?{query}")
        return view(request, *args, **kwargs)

    return gated


def closed(request: HttpRequest) -> NoReturn:
    message = "Administrators add people and change their mail addresses, under People."
    raise PermissionDenied(message)


urlpatterns = [
    # Before allauth's own, which they shadow.
    path("signup/", closed),
    path("2fa/webauthn/add/", after_a_proof(add_webauthn)),
    path("2fa/totp/activate/", after_a_proof(activate_totp)),
    path("2fa/recovery-codes/generate/", after_a_proof(generate_recovery_codes)),
    path("2fa/totp/deactivate/", after_a_proof(deactivate_totp)),
    path("2fa/webauthn/keys/<int:pk>/remove/", after_a_proof(remove_webauthn)),
    path("password/change/", after_a_proof(password_change)),
    path("password/set/", after_a_proof(password_set)),
    # Runs name their initiator by mail address, and initiators may not approve: so only
    # administrators change addresses.
    path("email/", closed),
    path("3rdparty/", after_a_proof(connections)),
    path("", include("allauth.urls")),
]
