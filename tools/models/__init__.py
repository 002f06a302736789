from tools.models.secrets import Secret, SecretLease, SecretVersion
from tools.models.systems import Breaker, Endpoint, System, Tool

__all__ = [
    "Breaker",
    "Endpoint",
    "Secret",
    "SecretLease",
    "SecretVersion",
    "System",
    "Tool",
]
