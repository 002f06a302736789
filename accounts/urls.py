"""Signing in: django-allauth's pages, with a gate before those that add a second factor."""

from collections.abc import Callable
from functools import wraps

from allauth.mfa.recovery_codes.views import generate_recovery_codes
from allauth.mfa.totp.views import activate_totp
from allauth.mfa.webauthn.views import add_webauthn
from django.contrib.auth import logout
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.urls import include, path, reverse
from django.utils.http import urlencode

from accounts.second_factor import signed_in_lately

View = Callable[..., HttpResponseBase]


def after_signing_in_lately(view: View) -> View:
    """Whoever has come upon a session that was left open does not make it their own by adding a
    factor: without a proof in the last minutes one signs in anew.
    """

    @wraps(view)
    def gated(request: HttpRequest, *args: object, **kwargs: object) -> HttpResponseBase:
        if request.user.is_authenticated and not signed_in_lately(request):
            logout(request)
            query = urlencode({"next": request.path})
            return HttpResponseRedirect(f"{reverse('account_login')}?{query}")
        return view(request, *args, **kwargs)

    return gated


def closed(request: HttpRequest) -> HttpResponse:
    return HttpResponse("People are added by an administrator.", status=403)


urlpatterns = [
    # Before allauth's own, which they shadow.
    path("signup/", closed),
    path("2fa/webauthn/add/", after_signing_in_lately(add_webauthn)),
    path("2fa/totp/activate/", after_signing_in_lately(activate_totp)),
    path("2fa/recovery-codes/generate/", after_signing_in_lately(generate_recovery_codes)),
    path("", include("allauth.urls")),
]
