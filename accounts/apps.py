from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "accounts"
    verbose_name = "People and environments"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from allauth.account.models import EmailAddress
        from allauth.socialaccount.models import SocialAccount
        from auditlog.registry import auditlog
        from django.contrib.auth.models import Group
        from django.db.models.signals import post_delete

        from accounts.models import Environment, User
        from accounts.people import remember_address, remember_subject

        post_delete.connect(remember_address, sender=EmailAddress)
        post_delete.connect(remember_subject, sender=SocialAccount)

        # accounts stands below audit, so it registers with the change log itself. The mask hides
        # a password hash whole; the default mask would show its second half.
        auditlog.register(
            User,
            mask_fields=["password"],
            mask_callable="common.redaction.hidden",
            exclude_fields=["last_login", "name_key", "full_name_key", "mail_key"],
            m2m_fields={"groups", "user_permissions"},
        )
        auditlog.register(Group, m2m_fields={"permissions"})
        auditlog.register(Environment)
