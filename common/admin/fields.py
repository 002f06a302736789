"""Fields of command forms that parse what is typed, within bounds."""

from typing import Any

from django import forms

from common.json_text import parsed

MAX_LENGTH = 200_000


class JSONTextField(forms.CharField):
    """JSON as text, read as strictly as the API reads it. `is_object`: it must be an object."""

    widget = forms.Textarea(attrs={"rows": 6, "class": "code-short", "spellcheck": "false"})

    def __init__(self, *, is_object: bool = False, **kwargs: Any) -> None:
        self.is_object = is_object
        super().__init__(**{"max_length": MAX_LENGTH, **kwargs})

    def clean(self, value: Any) -> Any:
        text = str(super().clean(value)).strip()
        if not text:
            return {} if self.is_object else None
        try:
            found = parsed(text.encode())
        except (ValueError, RecursionError) as error:
            message = "This is not JSON."
            raise forms.ValidationError(message) from error
        if self.is_object and not isinstance(found, dict):
            message = "This must be a JSON object, as in {}."
            raise forms.ValidationError(message)
        return found
