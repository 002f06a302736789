from django.apps import AppConfig


class ActionsConfig(AppConfig):
    name = "actions"
    verbose_name = "Runs and actions"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from actions.services import deciding, settling
        from approvals.outcomes import on_resolved

        on_resolved(deciding.EXECUTE, settling.people_decided)
