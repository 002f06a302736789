"""Django's own checks of a record's fields, said in our words."""

from collections.abc import Sequence

from django.core.exceptions import ValidationError
from django.db.models import Model

from common.errors import InvalidInput


def validate_fields(instance: Model, *, exclude: Sequence[str] = ()) -> None:
    """Raises InvalidInput with the first field that is not valid; the value is not quoted."""
    try:
        instance.clean_fields(exclude=set(exclude))
    except ValidationError as error:
        field, problems = next(iter(error.error_dict.items()))
        message = f"{field}: {problems[0].messages[0]}"
        raise InvalidInput(message) from error
