from django.apps import AppConfig


class WorkflowsConfig(AppConfig):
    name = "workflows"
    verbose_name = "Workflows"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from actions import executors
        from actions.services import recovery
        from approvals.handlers import on_obstacles, on_resolved
        from audit.change_log import govern
        from workflows import models
        from workflows.services import preparation, step_handlers, versions, wakeups

        executors.register(preparation.EXECUTOR, wakeups.action_moved)
        executors.on_run_ended(wakeups.run_stopped)
        on_resolved(
            step_handlers.STEP_APPROVAL, wakeups.step_decided, involved=recovery.involved_in_action
        )
        on_resolved(versions.PUBLISH, versions.finish_publication)
        on_obstacles(versions.PUBLICATION.outdated)
        govern(models.Workflow)
        govern(models.WorkflowVersion, ignored=("text", "spec", "world"))
        govern(models.Rollout)
        govern(models.Schedule, hidden=("inputs",), ignored=("next_fire_at",))
