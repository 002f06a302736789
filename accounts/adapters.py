"""How django-allauth is used here: nobody signs up by themselves, and its secrets are sealed."""

import base64
from collections.abc import Mapping
from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from allauth.socialaccount.models import SocialLogin
from django.conf import settings
from django.http import HttpRequest

from accounts.models import User
from common.sealing import seal, unseal

_BOUND_TO = "second-factor"


class AccountAdapter(DefaultAccountAdapter):
    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False


class SocialAccountAdapter(DefaultSocialAccountAdapter):
    """The organisation's own sign-in may bring new people, without any rights."""

    def is_open_for_signup(self, request: HttpRequest, sociallogin: SocialLogin) -> bool:
        return bool(settings.OIDC_PEOPLE_JOIN)

    def save_user(self, request: HttpRequest, sociallogin: SocialLogin, form: Any = None) -> User:
        user: User = super().save_user(request, sociallogin, form)
        # They may look in; what they see and do comes with the groups that somebody puts them in.
        user.is_staff = True
        user.save(update_fields=["is_staff"])
        return user


class SecondFactorAdapter(DefaultMFAAdapter):
    def get_totp_issuer(self) -> str:
        return "Chancery"

    def encrypt(self, text: str) -> str:
        return base64.b64encode(seal(text.encode(), bound_to=_BOUND_TO)).decode()

    def decrypt(self, encrypted_text: str) -> str:
        return unseal(base64.b64decode(encrypted_text), bound_to=_BOUND_TO).decode()


def attempted_name(request: HttpRequest, credentials: Mapping[str, Any] | None = None) -> str:
    """Whose password was tried, for counting: as the backends are given it, or as it was typed."""
    given = (credentials or {}).get("username") or request.POST.get("login") or ""
    return str(given)[:150]
