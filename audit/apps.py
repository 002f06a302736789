from django.apps import AppConfig


class AuditConfig(AppConfig):
    name = "audit"
    verbose_name = "Audit"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from auditlog.models import LogEntry
        from django.db.models.signals import post_migrate, post_save, pre_save

        from audit import changes, noticed

        # django-auditlog offers no other way in; these two receivers are the only ones.
        pre_save.connect(changes.name_the_actor, sender=LogEntry, dispatch_uid="audit.actor")
        post_migrate.connect(noticed.notice, sender=self, dispatch_uid="audit.noticed")
        post_save.connect(changes.anchor, sender=LogEntry, dispatch_uid="audit.anchor")
