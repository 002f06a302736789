from agents.models.findings import Finding
from agents.models.identities import (
    Agent,
    AgentIdentity,
    AgentKey,
    AssertionReplay,
    DelegationRule,
    EnrolmentCode,
    FederatedCredential,
    Halt,
    RevokedToken,
    SigningKey,
)

__all__ = [
    "Agent",
    "AgentIdentity",
    "AgentKey",
    "AssertionReplay",
    "DelegationRule",
    "EnrolmentCode",
    "FederatedCredential",
    "Finding",
    "Halt",
    "RevokedToken",
    "SigningKey",
]
