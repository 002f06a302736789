from django.apps import AppConfig


class AgentsConfig(AppConfig):
    name = "agents"
    verbose_name = "Agents"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from agents import models
        from agents.services import activation, halts, sponsors
        from approvals.handlers import on_obstacles, on_resolved
        from audit.change_log import govern

        on_resolved(halts.LIFT, halts.finish_lifting, decides=True)
        on_resolved(
            activation.ACTIVATE,
            activation.finish,
            decides=True,
            involved=activation.involved_in_identity,
        )
        on_obstacles(halts.standing_in_the_way)
        on_resolved(sponsors.SUCCEED, sponsors.finish_succession, decides=True)
        govern(models.Agent, decides=True, ignored=("reminded_at",))
        govern(models.FormerPerson, decides=True)
        govern(models.AgentIdentity, decides=True)
        govern(models.SigningKey, decides=True, sealed=("sealed_private",))
        govern(models.Halt, decides=True)
        govern(models.Finding)
        govern(models.PersonDelegation, decides=True, hidden=("code_hmac",))
        govern(models.AgentKey, ignored=("last_used_at",))
        govern(models.FederatedCredential, ignored=("fetched_at", "trouble"))
        govern(models.DelegationRule, decides=True)
        govern(models.EnrolmentCode, hidden=("code_hmac",))
