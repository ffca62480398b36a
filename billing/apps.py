"""Registers the app and what it keeps for the rooms below it."""

from importlib import import_module

from django.apps import AppConfig


class BillingConfig(AppConfig):
    name = "billing"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from accounts import key_limits

        key_limits.register(import_module("billing.limits"))
