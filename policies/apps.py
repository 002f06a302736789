from django.apps import AppConfig


class PoliciesConfig(AppConfig):
    name = "policies"
    verbose_name = "Policies"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from approvals.outcomes import on_resolved
        from audit.changes import govern
        from policies import models
        from policies.services import releases

        on_resolved(releases.PUBLISH, releases.finish_publication)
        govern(models.Role, decides=True)
        govern(models.RoleMembership, decides=True)
        govern(models.SystemGroupPermission, decides=True)
        govern(models.ToolGroupPermission, decides=True)
        govern(models.Policy)
        govern(models.PolicyRelease, decides=True, ignored=("text", "schema", "tools"))
