from agents.models.findings import Finding
from agents.models.halts import Halt, covering, halted
from agents.models.identities import (
    Agent,
    AgentIdentity,
    AgentKey,
    AssertionReplay,
    DelegationRule,
    EnrolmentCode,
    FederatedCredential,
    FormerPerson,
    RevokedToken,
    SigningKey,
)
from agents.models.user_delegations import PersonDelegation

__all__ = [
    "Agent",
    "AgentIdentity",
    "AgentKey",
    "AssertionReplay",
    "DelegationRule",
    "EnrolmentCode",
    "FederatedCredential",
    "Finding",
    "FormerPerson",
    "Halt",
    "PersonDelegation",
    "RevokedToken",
    "SigningKey",
    "covering",
    "halted",
]
