from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig


class ChanceryAdminConfig(AdminConfig):
    default_site = "portal.admin_site.ChanceryAdminSite"


class PortalConfig(AppConfig):
    name = "portal"
    verbose_name = "Chancery"

    def ready(self) -> None:
        from common.task_queue import queue
        from portal import checks, deployment  # noqa: F401 - registers the system checks
        from portal.celery import send

        queue.connect(send)
