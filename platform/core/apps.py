"""Registers the app, and how a request begins and ends."""

from django.apps import AppConfig
from django.conf import settings
from django.core.signals import request_finished, request_started


class CoreConfig(AppConfig):
    name = "core"

    def ready(self) -> None:
        from django.core.cache import close_caches
        from django.core.handlers.base import reset_urlconf
        from django.db import close_old_connections, reset_queries

        from core import sql

        # There is one database, and its connection goes back to the pool when a request is over: nothing of an earlier
        # request is left to be looked for when the next one begins.
        request_started.disconnect(close_old_connections)
        request_finished.disconnect(close_old_connections)
        request_finished.connect(sql.give_back, dispatch_uid="core.sql.give_back")
        request_finished.disconnect(close_caches)  # the cache is a table of the same database
        request_finished.disconnect(reset_urlconf)  # every request says anew which routes there are
        if not settings.DEBUG:  # what is not recorded need not be forgotten
            request_started.disconnect(reset_queries)
