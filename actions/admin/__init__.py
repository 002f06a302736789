from actions.admin import actions, halts, runs, sections

__all__ = ["actions", "halts", "runs", "sections"]
