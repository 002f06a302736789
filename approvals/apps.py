from django.apps import AppConfig


class ApprovalsConfig(AppConfig):
    name = "approvals"
    verbose_name = "Approvals"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from approvals import events
        from approvals.models import ApprovalRequest, Tier, Vote
        from audit.change_capture import expect_events
        from audit.change_log import govern

        govern(Tier, decides=True, related=("groups",))
        expect_events(
            ApprovalRequest,
            ("status", "tier_id", "quorum", "spent_at"),
            [one.name for one in events.OF_STATUS],
            by="approval",
        )
        expect_events(
            Vote,
            ("answer", "voter_id", "struck_at"),
            [events.APPROVAL_VOTED.name, events.VOTE_STRUCK.name],
            key="request_id",
            by="approval",
            changes=("insert", "update"),
        )
