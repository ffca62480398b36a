"""What every template may say about this server."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest


def site(request: HttpRequest) -> dict[str, str]:
    """`base_url` comes from the settings, never from the request: people paste it into their programs."""
    return {"base_url": settings.BASE_URL.rstrip("/"), "default_model": settings.DEFAULT_MODEL}
