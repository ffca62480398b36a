"""Attempts in the log, as requests would have left them."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.utils import timezone

from accounts.models import Organization
from imagesapi.models import Attempt, Generation, Offer


def add(offer: Offer, count: int, *, status: str = "failed", simulated: bool = False, **changes: Any) -> None:
    """As many attempts at an offer, finished just now unless told otherwise."""
    now = timezone.now()
    code = "" if status in ("succeeded", "sent") else "provider_unavailable"
    about = {"offer": offer, "provider": "x", "executed_model": "x/y", "worst_case_nanos": 0, "status": status}
    about |= {"sent_at": now - dt.timedelta(seconds=5), "finished_at": now, "error_code": code, **changes}
    organization = Organization.objects.earliest("pk")
    for _ in range(count):
        generation = Generation.objects.create(
            organization=organization,
            endpoint="images/generations",
            model="m",
            status="upstream_failure",
            asked={},
            finished_at=now,
            simulated=simulated,
        )
        Attempt.objects.create(generation=generation, number=1, **about)
