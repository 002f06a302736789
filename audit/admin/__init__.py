from audit.admin import events, evidence, log

__all__ = ["events", "evidence", "log"]
