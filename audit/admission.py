"""Whether a person may act in the portal: one answer for the pages, the API and every download."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest
from rest_framework.permissions import BasePermission

from accounts.second_factor import has_second_factor
from audit.auditor_scope import scope_of


def is_admitted(request: HttpRequest) -> bool:
    """Active staff, with no pass that is over, who have shown a second factor in this session.

    The second factor is asked for where CHANCERY_REQUIRE_MFA says so; what somebody may then do
    is a matter of their rights.
    """
    if not is_staff_in_force(request.user):
        return False
    return not settings.REQUIRE_MFA or has_second_factor(request)


def is_staff_in_force(user: Any) -> bool:
    """Return whether the person has all that staff needs, whatever their session has shown."""
    if user is None or not (user.is_authenticated and user.is_active and user.is_staff):
        return False
    scope = scope_of(user)
    return scope is None or not scope.is_over


class IsAdmitted(BasePermission):
    """For views of the API that people use with their session."""

    message = "Sign in to the portal, with a second factor where one is required."

    def has_permission(self, request: Any, view: Any) -> bool:
        return is_admitted(request)
