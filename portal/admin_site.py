from collections.abc import Iterable
from typing import Any

from django.contrib.admin import AdminSite
from django.http import HttpRequest
from django.template.response import TemplateResponse

from portal.home import overview

# Libraries whose own pages are replaced by ours or not needed.
_WITHOUT_PAGES = {"auditlog", "django_celery_beat", "guardian"}


class ChanceryAdminSite(AdminSite):
    site_title = "Chancery"
    site_header = "Chancery"
    index_title = "Home"
    index_template = "admin/home.html"
    enable_nav_sidebar = True

    def __init__(self, name: str = "admin") -> None:
        super().__init__(name)
        # Bulk deletion goes round every rule.
        self.disable_action("delete_selected")

    def register(self, model_or_iterable: Any, admin_class: Any = None, **options: Any) -> None:
        is_many = isinstance(model_or_iterable, Iterable)
        models = model_or_iterable if is_many else [model_or_iterable]
        ours = [
            model
            for model in models
            if model._meta.app_label not in _WITHOUT_PAGES
            or (admin_class is not None and admin_class.__module__.startswith("audit."))
        ]
        if ours:
            super().register(ours, admin_class, **options)

    def index(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> TemplateResponse:
        return super().index(request, {**overview(request.user), **(extra_context or {})})
