from actions.admin import actions, runs

__all__ = ["actions", "runs"]
