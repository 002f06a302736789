from agents.admin import agents, findings, keys, sections

__all__ = ["agents", "findings", "keys", "sections"]
