#!/usr/bin/env python
"""Django's command line."""

import os
import sys

from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line
from django.db import DatabaseError


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")
    try:
        execute_from_command_line(sys.argv)
    except (ImproperlyConfigured, DatabaseError) as error:
        # What an operator can put right is a sentence. The traceback is a developer's.
        if "--traceback" in sys.argv:
            raise
        said = error if isinstance(error, ImproperlyConfigured) else "The database refused."
        sys.exit(f"{type(error).__name__}: {said} --traceback shows where.")


if __name__ == "__main__":
    main()
