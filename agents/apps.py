from django.apps import AppConfig


class AgentsConfig(AppConfig):
    name = "agents"
    verbose_name = "Agents"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from agents import models
        from audit.changes import govern

        govern(models.Agent, decides=True)
        govern(models.AgentIdentity, decides=True)
        govern(models.SigningKey, decides=True, ignored=("sealed_private",))
        govern(models.Halt, decides=True)
        govern(models.AgentKey, ignored=("last_used_at",))
        govern(models.FederatedCredential)
        govern(models.DelegationRule, decides=True)
        govern(models.EnrolmentCode, hidden=("code_hmac",))
