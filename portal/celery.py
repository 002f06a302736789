import logging
import os

from celery import Celery
from celery.signals import worker_init
from django.conf import settings
from kombu.exceptions import OperationalError

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")

log = logging.getLogger(__name__)

app = Celery("chancery")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@worker_init.connect  # type: ignore[untyped-decorator]  # celery has no types
def _ensure_keys(**kwargs: object) -> None:
    from portal.startup import ensure_keys  # noqa: PLC0415 - models are loaded by now

    ensure_keys()


def send(task_name: str, arguments: list[str]) -> None:
    """Hand a hint to the broker. A broker that is down delays work; a sweeper finds it."""
    if not settings.BROKER_URL:
        return
    try:
        app.send_task(task_name, args=arguments, retry=False)
    except OperationalError:
        log.warning("the broker did not take a hint for %s", task_name)
