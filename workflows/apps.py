from django.apps import AppConfig


class WorkflowsConfig(AppConfig):
    name = "workflows"
    verbose_name = "Workflows"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from actions import drivers
        from actions.services import settling
        from approvals.outcomes import on_resolved
        from audit.changes import govern
        from workflows import models
        from workflows.services import kinds, looking, publishing, waking

        drivers.register(looking.DRIVER, waking.action_moved)
        drivers.follow_runs(waking.run_stopped)
        on_resolved(kinds.STEP_APPROVAL, waking.step_decided, involved=settling.involved_in_action)
        on_resolved(publishing.PUBLISH, publishing.finish_publication)
        govern(models.Workflow)
        govern(models.WorkflowVersion, ignored=("text", "spec", "world"))
        govern(models.Rollout)
        govern(models.Schedule, hidden=("inputs",), ignored=("next_fire_at",))
