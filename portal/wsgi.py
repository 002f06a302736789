import gc
import os

from django.core.wsgi import get_wsgi_application

from portal.environment import WEB_POOL_SIZE

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")
os.environ.setdefault("CHANCERY_DATABASE_POOL", str(WEB_POOL_SIZE))

application = get_wsgi_application()

from portal.startup import ensure_keys  # noqa: E402 - models can be imported from here on

ensure_keys()

# What is loaded by now lives as long as the process: the collector need not look at it again.
gc.collect()
gc.freeze()
