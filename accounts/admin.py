from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group
from django.http import HttpRequest

from accounts.models import Environment, User
from common.admin.pages import GovernedAdmin


@admin.register(User)
class PersonAdmin(UserAdmin):
    """Django's own forms. People with history are deactivated, never deleted."""

    list_display = ("username", "first_name", "last_name", "email", "is_active", "is_staff")
    list_filter = ("is_active", "is_staff", "groups")
    show_full_result_count = False

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        """Only a superuser changes a superuser, or themselves: else this right is every right."""
        if not super().has_change_permission(request, obj):
            return False
        if obj is None or request.user.is_superuser:
            return True
        return not obj.is_superuser and obj.pk != request.user.pk

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> list[str]:
        """Rights are given by superusers."""
        given = ["is_staff", "is_superuser", "groups", "user_permissions"]
        return [] if request.user.is_superuser else given


admin.site.unregister(Group)


@admin.register(Group)
class JobAdmin(GroupAdmin):
    """Groups of people. Those of roles are managed with the role."""

    list_display = ("name",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.is_superuser)

    def has_change_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        return bool(request.user.is_superuser)

    def has_delete_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        return False


@admin.register(Environment)
class EnvironmentAdmin(GovernedAdmin):
    list_display = ("slug", "title", "is_production")
    detail_fields = ("slug", "title", "is_production")
