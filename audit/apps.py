from django.apps import AppConfig


class AuditConfig(AppConfig):
    name = "audit"
    verbose_name = "Audit"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from auditlog.models import LogEntry
        from django.contrib.auth import signals
        from django.db.models.signals import post_migrate, post_save, pre_save

        from audit import change_capture, change_log, receivers

        # django-auditlog offers no other way in; two of these receivers are for it.
        pre_save.connect(change_log.name_the_actor, sender=LogEntry, dispatch_uid="audit.actor")
        signals.user_logged_in.connect(receivers.signed_in, dispatch_uid="audit.signed_in")
        signals.user_logged_out.connect(receivers.signed_out, dispatch_uid="audit.signed_out")
        signals.user_login_failed.connect(receivers.refused, dispatch_uid="audit.sign_in_refused")
        post_migrate.connect(
            change_capture.notice, sender=self, dispatch_uid="audit.change_capture"
        )
        post_save.connect(change_log.anchor, sender=LogEntry, dispatch_uid="audit.anchor")
