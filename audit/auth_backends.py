"""A backend that takes rights from people with a pass; it gives none."""

from typing import Any

from django.core.exceptions import PermissionDenied

from audit.auditor_scope import ALLOWED, scope_of


class AuditorPassBackend:
    """Before the backends that give rights: a refusal here is final. Nobody signs in by it."""

    def authenticate(self, request: Any, **credentials: Any) -> None:
        return None

    def has_perm(self, user_obj: Any, perm: str, obj: Any = None) -> bool:
        """Raises PermissionDenied for what no pass opens, and for everything once it has ended."""
        scope = scope_of(user_obj) if user_obj.is_authenticated else None
        if scope is not None and (scope.is_over or perm not in ALLOWED):
            raise PermissionDenied
        return False

    def has_module_perms(self, user_obj: Any, app_label: str) -> bool:
        """Raises PermissionDenied as `has_perm` does."""
        scope = scope_of(user_obj) if user_obj.is_authenticated else None
        if scope is not None and (scope.is_over or app_label != "audit"):
            raise PermissionDenied
        return False
