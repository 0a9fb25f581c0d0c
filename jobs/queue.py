"""The queue: hints that there is work. Losing every hint loses no job."""

from __future__ import annotations

from celery import Celery
from kombu.exceptions import OperationalError

from jobs.settings import Settings

TASK = "latentgauge.run"
QUEUES = {"cpu": "cpu", "cuda": "gpu"}  # by device
# Redis gives an unacknowledged message out again after this; leases do that work, so never.
_VISIBILITY_SECONDS = 7 * 24 * 3600


def celery_app(settings: Settings, *, patience: float = 5.0) -> Celery:
    """Celery over the broker of the settings: JSON only, no results.

    `patience` is how many seconds an answer of the broker is waited for.
    """
    app = Celery("latentgauge", broker=settings.broker_url)
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_ignore_result=True,
        task_acks_late=False,
        task_publish_retry=False,
        task_default_queue="cpu",
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "visibility_timeout": _VISIBILITY_SECONDS,
            "socket_connect_timeout": min(1.0, patience),
            "socket_timeout": patience,
            "max_retries": 0,
        },
    )
    return app


class Queue:
    """The sending side, which gives a broker that does not answer half a second."""

    def __init__(self, settings: Settings) -> None:
        self._app = celery_app(settings, patience=0.5)

    def hint(self, job_id: str, attempt: int, *, queue: str) -> bool:
        """Tell the workers of a queue of a job; False when the broker cannot be reached."""
        try:
            self._app.send_task(TASK, args=[job_id, attempt], queue=queue, retry=False)
        except (OperationalError, OSError):
            return False
        return True

    def reachable(self) -> bool:
        try:
            with self._app.connection_for_write(transport_options={"max_retries": 0}) as c:
                c.ensure_connection(max_retries=1, timeout=1)
        except (OperationalError, OSError):
            return False
        return True
