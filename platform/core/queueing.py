"""The queue's statements on Django's connections, each of which goes back to the pool."""

from __future__ import annotations

from typing import Any, LiteralString

from procrastinate import App
from procrastinate.contrib.django.django_connector import DjangoConnector

from core import sql


class Connector(DjangoConnector):
    """Keeps no connection outside a transaction.

    The worker defers periodic jobs from a thread of its own that lives as long as its process. Django closes
    connections where a request or a task ends; that thread has neither, so it would keep one of the pool's few
    connections for good, and when the server ended that one, would try it again and again.
    """

    def execute_query(self, query: LiteralString, **arguments: Any) -> None:
        try:
            super().execute_query(query, **arguments)
        finally:
            sql.give_back()

    def execute_query_one(self, query: LiteralString, **arguments: Any) -> dict[str, Any]:
        try:
            return super().execute_query_one(query, **arguments)
        finally:
            sql.give_back()

    def execute_query_all(self, query: LiteralString, **arguments: Any) -> list[dict[str, Any]]:
        try:
            return super().execute_query_all(query, **arguments)
        finally:
            sql.give_back()


def use_connector(app: App) -> None:
    """Called by the queue once Django is ready."""
    app.connector = app.job_manager.connector = Connector()
