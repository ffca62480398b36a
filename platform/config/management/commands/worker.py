"""`manage.py worker`: recovery every few seconds, and the queue's periodic tasks."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import structlog
from django.conf import settings
from django.core.management.base import BaseCommand
from procrastinate import PsycopgConnector

from core import outages, sql
from imagesapi import recovery

log = structlog.get_logger(__name__)

_PAUSE_S = 5


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
        except Exception as error:  # noqa: BLE001 - the next round tries again; nothing may end this loop
            outages.tell(log, "recovery failed; trying again", error)
        finally:
            sql.give_back()
        if stopping.wait(recovery.EVERY_S):
            return


async def _work() -> None:
    """Until told to stop: an outage of the database is waited for here, a new process would only begin it anew."""
    concurrency = settings.WORKER_CONCURRENCY
    loop = asyncio.get_running_loop()
    # procrastinate's synchronous tasks run in asyncio's default executor, so that bounds them.
    loop.set_default_executor(ThreadPoolExecutor(max_workers=concurrency))
    working = asyncio.current_task()
    assert working is not None  # noqa: S101 - we are in it
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, working.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        while True:
            try:
                await _take_tasks(concurrency)
                log.error("the queue's worker stopped; starting it again")  # it said why: one of its side tasks failed
            except Exception as error:
                if not outages.is_outage(error):
                    raise
                outages.tell(log, "the queue cannot be read; trying again", error)
            await asyncio.sleep(_PAUSE_S)


async def _take_tasks(concurrency: int) -> None:
    """procrastinate's worker, which ends when it is cancelled or its database fails. Raises what it raises."""
    from procrastinate.contrib.django import app  # noqa: PLC0415 - needs the app registry
    from procrastinate.contrib.django.utils import connector_params  # noqa: PLC0415

    # Its listener, its fetching and its bookkeeping; jobs themselves use Django's own connections.
    connector = PsycopgConnector(kwargs=connector_params(), min_size=1, max_size=3)
    async with app.with_connector(connector).open_async() as worker_app:
        worker = asyncio.create_task(
            worker_app.run_worker_async(concurrency=concurrency, install_signal_handlers=False)
        )
        await worker
