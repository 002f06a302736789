"""Certificate authorities trusted in calls to systems, issuers and webhooks."""

import ssl
from functools import lru_cache

import certifi
from django.conf import settings


def trusted() -> ssl.SSLContext:
    """The public authorities, and those in the file of CHANCERY_CA_FILE.

    Raises OSError if the file cannot be read or has no certificate in it (ssl.SSLError).
    """
    return _context(settings.CA_FILE)


@lru_cache(maxsize=4)  # loading the authorities takes tens of milliseconds
def _context(own: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=certifi.where())
    if own:
        context.load_verify_locations(own)
    return context
