from workflows.admin import definitions, runs, schedules

__all__ = ["definitions", "runs", "schedules"]
