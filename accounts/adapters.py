"""Adapters for django-allauth: no self-registration, and its secrets are encrypted."""

from collections.abc import Mapping
from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from allauth.socialaccount.models import SocialLogin
from django.conf import settings
from django.http import HttpRequest

from accounts.factors import opened_text, sealed_text
from accounts.models import User
from accounts.second_factor import note_single_sign_on
from common.request_context import client_address


class AccountAdapter(DefaultAccountAdapter):
    def get_client_ip(self, request: HttpRequest) -> str:
        """Behind a proxy too, whoever floods is one address and not everybody."""
        return client_address(request) or "unknown"

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False


class SocialAccountAdapter(DefaultSocialAccountAdapter):
    """The organisation's own sign-in may bring new people, without any rights."""

    def is_open_for_signup(self, request: HttpRequest, sociallogin: SocialLogin) -> bool:
        return bool(settings.OIDC_AUTO_PROVISION)

    def pre_social_login(self, request: HttpRequest, sociallogin: SocialLogin) -> None:
        data = sociallogin.account.extra_data or {}
        note_single_sign_on(request, str(sociallogin.account.uid), data.get("id_token") or {})

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
        return sealed_text(text)

    def decrypt(self, encrypted_text: str) -> str:
        return opened_text(encrypted_text)


def attempted_name(request: HttpRequest, credentials: Mapping[str, Any] | None = None) -> str:
    """Whose password was tried, for counting; names are found whatever their case, so they are
    counted that way.
    """
    given = (credentials or {}).get("username") or request.POST.get("login") or ""
    return str(given).strip().casefold()[:150]


def counted_address(request: HttpRequest) -> str | None:
    """Return the address a password was tried from, for counting; None if it is unknown."""
    return client_address(request) or None
