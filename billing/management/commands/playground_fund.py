"""`manage.py playground_fund`: bring the visitors' credit up to the day's cap, as the worker does by itself."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from billing import ledger, playground
from core import money


class Command(BaseCommand):
    help = "Fund the keyless playground up to PLAYGROUND_DAILY_USD and say what visitors can spend."

    def handle(self, *args: Any, **options: Any) -> None:
        granted = money.decimal(playground.fund())
        found = ledger.balance(playground.organization().pk)
        cap = money.decimal(settings.PLAYGROUND_DAILY_NANOS)
        self.stdout.write(f"${granted} granted; ${money.decimal(found.available_nanos)} available, ${cap} a day")
