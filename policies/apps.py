from django.apps import AppConfig


class PoliciesConfig(AppConfig):
    name = "policies"
    verbose_name = "Policies"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from agents.models import Halt
        from agents.services.halts import know_targets
        from approvals.handlers import on_obstacles, on_resolved
        from audit.change_log import govern
        from policies import models
        from policies.services import elevations, releases
        from tools.models import System, Tool

        # The kill switch is an agent matter; systems and tools are known one floor up.
        know_targets(Halt.Kind.SYSTEM, lambda slug: System.objects.filter(slug=slug).exists())
        know_targets(Halt.Kind.TOOL, Tool.is_known)
        on_resolved(releases.PUBLISH, releases.finish_publication, decides=True)
        on_obstacles(releases.PUBLICATION.outdated)
        on_resolved(
            elevations.ELEVATE,
            elevations.finish,
            decides=True,
            involved=elevations.involved_in_elevation,
        )
        govern(models.Role, decides=True)
        govern(models.Elevation, decides=True)
        govern(models.RoleMembership, decides=True)
        govern(models.SystemGroupPermission, decides=True)
        govern(models.ToolGroupPermission, decides=True)
        govern(models.Policy)
        govern(models.PolicyRelease, decides=True, ignored=("text", "schema", "tools"))
