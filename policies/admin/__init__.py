from policies.admin import policies, sections

__all__ = ["policies", "sections"]
