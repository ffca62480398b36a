"""What may be taken only so often in a day: counted and compared in one statement, whoever asks at the same time."""

from __future__ import annotations

import datetime as dt

from django.db.models.functions import Now

from billing.models import DailyCount
from core import crypto, sql

_KEPT_FOR = dt.timedelta(days=3)


def take(name: str, *, cap: int, units: int = 1) -> bool:
    """Count so many units under a name today (UTC), unless it would be more than the cap: then nothing is counted."""
    found = sql.row("SELECT count_daily(%(name)s, %(units)s, %(cap)s)", {"name": name, "units": units, "cap": cap})
    return bool(found and found[0])


def hidden(kind: str, word: str) -> str:
    """A name for what should not be readable in the table, such as an address."""
    return f"{kind}:{crypto.keyed_hash('daily-count', f'{kind}:{word}'.encode()).hex()[:48]}"


def forget() -> int:
    """Days that are over; returns how many counts went."""
    return DailyCount.objects.filter(day__lt=Now() - _KEPT_FOR).delete()[0]
