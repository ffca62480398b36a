"""What production refuses to start with."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register

_SECRET_MIN_CHARS = 40


@register(Tags.security)
def production_is_safe(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Errors for every dangerous setting when DEVELOPMENT is off; development is always allowed."""
    if settings.DEVELOPMENT:
        return []
    found: list[CheckMessage] = []

    def refuse(wrong: bool, message: str, hint: str, number: int) -> None:
        if wrong:
            found.append(Error(message, hint=hint, id=f"pixelpar.E{number:03d}"))

    refuse(
        len(settings.SECRET_KEY) < _SECRET_MIN_CHARS,
        f"SECRET_KEY has fewer than {_SECRET_MIN_CHARS} characters.",
        "Set SECRET_KEY or SECRET_KEY_FILE to a long random value and keep it: API keys are hashed with it.",
        1,
    )
    refuse(not settings.ALLOWED_HOSTS, "ALLOWED_HOSTS is empty.", "Name the hosts this instance answers for.", 2)
    refuse("*" in settings.ALLOWED_HOSTS, "ALLOWED_HOSTS admits every host.", "Name the hosts themselves.", 3)
    refuse(
        not settings.BASE_URL.startswith("https://"),
        "BASE_URL is not https.",
        "Links in answers and mails start with it; put a proxy with a certificate in front.",
        4,
    )
    refuse(not settings.EMAIL_URL, "EMAIL_URL is not set.", "Sign-up needs mail, e.g. smtp+tls://user:pw@host:587.", 5)
    refuse(settings.SIMULATE_UNCONFIGURED, "SIMULATE_UNCONFIGURED is on.", "Production draws no pretended pictures.", 6)
    return found
