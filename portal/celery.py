import logging
import os

from celery import Celery
from django.conf import settings
from kombu.exceptions import OperationalError

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")

log = logging.getLogger(__name__)

app = Celery("chancery")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


def send(task_name: str, arguments: list[str]) -> None:
    """Hand a hint to the broker. A broker that is down delays work; a sweeper finds it."""
    if not settings.BROKER_URL:
        return
    try:
        app.send_task(task_name, args=arguments, retry=False)
    except OperationalError:
        log.warning("the broker did not take a hint for %s", task_name)
