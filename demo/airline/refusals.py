class AirlineRefusal(Exception):
    """The airline did not carry the call out; nothing changed."""


class ArgumentsRefused(AirlineRefusal):
    """The arguments do not have the shape that the tool's schema asks for."""


class NoSuchTool(Exception):
    def __init__(self, tool: str) -> None:
        super().__init__(f"the airline has no tool {tool!r}")


class IdempotencyConflict(Exception):
    def __init__(self, idempotency_key: str) -> None:
        super().__init__(f"idempotency key {idempotency_key!r} belongs to a different call")
