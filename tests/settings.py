"""The portal's settings with a test's secrets and database."""

import os

os.environ.setdefault("CHANCERY_DEBUG", "1")
os.environ.setdefault("CHANCERY_SECRET_KEY", "only-for-tests-only-for-tests-only-for-tests-only")
os.environ.setdefault("CHANCERY_ENCRYPTION_KEYS", "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=")
os.environ.setdefault("CHANCERY_LOG_SIGNING_KEY", "bG9nbG9nbG9nbG9nbG9nbG9nbG9nbG9nbG9nbG9nbG8=")
os.environ.setdefault("CHANCERY_DEMO", "1")
os.environ.setdefault("CHANCERY_URL", "http://testserver")

from portal.settings import *  # noqa: F403

ALLOWED_HOSTS = ["testserver", "localhost", "127.0.0.1"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

# WhiteNoise warns of a folder that is not there, and warnings are errors here.
STATIC_ROOT.mkdir(parents=True, exist_ok=True)  # noqa: F405
HALT_WATCHER_ENABLED = False
