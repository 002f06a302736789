from common.errors import GovernanceError, InvalidInput


class UnknownTool(GovernanceError):
    code = "unknown_tool"
    sentence = "There is no such tool."


class InvalidArguments(InvalidInput):
    code = "invalid_arguments"
    sentence = "The arguments do not fit the tool's schema."


class InvalidClaims(InvalidInput):
    code = "invalid_claims"
    sentence = "The claims are not ones that the tool declares."


class InvalidToolDefinition(InvalidInput):
    code = "invalid_tool_definition"
    sentence = "The tool's definition is not valid."


class ToolStateUnchanged(GovernanceError):
    code = "tool_state_unchanged"
    sentence = "The tool is in that state already."


class SecretNotInForce(GovernanceError):
    code = "secret_not_in_force"
    sentence = "This secret was withdrawn."


class SecretUnusable(GovernanceError):
    """A call that needs the secret is not made without it."""

    code = "secret_unusable"
    sentence = "The endpoint's secret cannot be used, so nothing was sent."


class FactsUnavailable(GovernanceError):
    """A fact that the decision needs could not be read, so nothing can be allowed."""

    code = "facts_unavailable"
    sentence = "The facts that the decision needs could not be established."


class FactAbsent(FactsUnavailable):
    """The system answered, and knows nothing by what the call names: most likely it is misspelt."""

    code = "fact_absent"
    sentence = "The system knows nothing by what the call names."
