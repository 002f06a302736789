from django.apps import AppConfig


class ActionsConfig(AppConfig):
    name = "actions"
    verbose_name = "Runs and actions"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from actions.models import Action
        from actions.services import decisions, recovery
        from approvals import events
        from approvals.handlers import on_resolved
        from audit.change_capture import expect_events

        on_resolved(
            decisions.EXECUTE, recovery.people_decided, involved=recovery.involved_in_action
        )
        # What waits for people moves when they have decided, and an event says so.
        expect_events(
            Action,
            ("status",),
            [one.name for one in events.OF_STATUS],
            when="OLD.status = 'waiting'",
        )
