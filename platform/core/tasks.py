"""The platform's own background work."""

from __future__ import annotations

from django.core.management import call_command
from procrastinate.contrib.django import app


@app.periodic(cron="43 4 * * *")
@app.task(name="core.tidy", queueing_lock="core.tidy")
def tidy(timestamp: int) -> None:
    """Every night: sessions that are over."""
    call_command("clearsessions")
