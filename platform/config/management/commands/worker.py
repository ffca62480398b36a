"""`manage.py worker`: recovery every few seconds, and the queue's periodic tasks."""

from __future__ import annotations

import asyncio
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import structlog
from django.conf import settings
from django.core.management.base import BaseCommand
from procrastinate import PsycopgConnector

from core import sql
from imagesapi import recovery

log = structlog.get_logger(__name__)


class Command(BaseCommand):
    help = "Recover interrupted requests and run background tasks until stopped."

    def handle(self, *args: Any, **options: Any) -> None:
        stopping = threading.Event()
        sweeper = threading.Thread(target=_recover, args=(stopping,), name="recovery", daemon=True)
        sweeper.start()
        try:
            asyncio.run(_work())
        finally:
            stopping.set()
            sweeper.join(timeout=30)


def _recover(stopping: threading.Event) -> None:
    while True:
        try:
            report = recovery.sweep()
            if report.settled or report.voided:
                log.warning("recovered", settled=report.settled, voided=report.voided, waiting=report.waiting)
        except Exception:  # the next round tries again; nothing may end this loop
            log.exception("recovery failed; trying again")
        finally:
            sql.give_back()
        if stopping.wait(recovery.EVERY_S):
            return


async def _work() -> None:
    """procrastinate's worker; its synchronous tasks run in asyncio's default executor, so that bounds them."""
    from procrastinate.contrib.django import app  # noqa: PLC0415 - needs the app registry
    from procrastinate.contrib.django.utils import connector_params  # noqa: PLC0415

    concurrency = settings.WORKER_CONCURRENCY
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(max_workers=concurrency))
    # Its listener, its fetching and its bookkeeping; jobs themselves use Django's own connections.
    connector = PsycopgConnector(kwargs=connector_params(), min_size=1, max_size=3)
    async with app.with_connector(connector).open_async() as worker_app:
        worker = asyncio.create_task(
            worker_app.run_worker_async(concurrency=concurrency, install_signal_handlers=False)
        )
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, worker.cancel)
        try:
            await worker
        except asyncio.CancelledError:
            return
