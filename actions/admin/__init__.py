from actions.admin import actions, halts, runs

__all__ = ["actions", "halts", "runs"]
