from audit.admin import events, evidence, log, passes

__all__ = ["events", "evidence", "log", "passes"]
