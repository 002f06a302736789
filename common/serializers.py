"""Bodies of requests to the API: taken as they are declared, and nothing else."""

from typing import Any

from rest_framework import serializers

from common.canonical import composed
from common.errors import InvalidInput


def ensure_empty(body: Any) -> None:
    """For requests that take no body. Raises InvalidInput."""
    if body not in (None, "", {}):
        message = "This request takes no body."
        raise InvalidInput(message)


class RequestSerializer(serializers.Serializer[Any]):
    """Refuses members that it does not know: a misspelt limit must not be no limit."""

    def to_internal_value(self, data: Any) -> Any:
        found = super().to_internal_value(data)
        unknown = sorted(str(name) for name in set(data) - set(self.fields))
        if unknown:
            message = "There is no such member."
            raise serializers.ValidationError({name[:100]: [message] for name in unknown[:20]})
        return found


class TextField(serializers.CharField):
    """Text, and no number in its place; in Unicode's composed form, as rules compare it."""

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return str(composed(super().to_internal_value(data)))


class WholeField(serializers.IntegerField):
    """A whole number, and no text in its place."""

    def to_internal_value(self, data: Any) -> int:
        if isinstance(data, bool) or not isinstance(data, int | float):
            self.fail("invalid")
        return int(super().to_internal_value(data))


class LabelField(serializers.SlugField):
    """A label, in the form that tools' labels have."""

    default_error_messages = {"invalid": "Labels are lower-case letters, digits, - and _."}

    def to_internal_value(self, data: Any) -> str:
        text = super().to_internal_value(data) if isinstance(data, str) else ""
        if not text or text != text.lower():
            self.fail("invalid")
        return str(text)
