"""The number that every change of the catalogue raises, and that tells processes to read the catalogue anew."""

from __future__ import annotations

from typing import Any

from django.db import connection
from django.db.models import Model as Row
from django.db.models.signals import post_delete, post_save
from django.dispatch import receiver

from imagesapi.models import CatalogVersion, Model, Offer, PriceLine, Provider, ProviderSecret

_ROWS = (Provider, ProviderSecret, Model, Offer, PriceLine)


def current() -> int:
    """The number now; 0 in a database without one."""
    return CatalogVersion.objects.filter(pk=1).values_list("number", flat=True).first() or 0


def increase() -> None:
    """Let every process read the catalogue anew once this transaction is committed.

    The clock is in the number, so that one given out and rolled back, or restored from a backup, never comes again.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO imagesapi_catalogversion AS version (id, number)
               VALUES (1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
               ON CONFLICT (id) DO UPDATE SET number = greatest(version.number + 1, excluded.number)"""
        )


@receiver((post_save, post_delete))
def _changed(sender: type[Row], **kwargs: Any) -> None:
    """An operator's edit takes effect with the next request. Query-set updates send no signal: they call `increase`."""
    if sender in _ROWS:
        increase()
