"""What the platform refuses to start with where card payments are concerned."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register

from billing.stripe_webhook import SECRET_MIN_CHARS
from core import money


@register(Tags.security)
def payments_are_safe(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Errors for a key without a webhook secret, a pretended Stripe in production, and limits that make no sense."""
    found: list[CheckMessage] = []

    def refuse(wrong: bool, message: str, hint: str, number: int) -> None:
        if wrong:
            found.append(Error(message, hint=hint, id=f"pixelpar.E{number:03d}"))

    key, secret = settings.STRIPE_SECRET_KEY, settings.STRIPE_WEBHOOK_SECRET.strip()
    refuse(
        bool(key) and len(secret) < SECRET_MIN_CHARS,
        "STRIPE_SECRET_KEY is set and STRIPE_WEBHOOK_SECRET is not, or is too short.",
        "Without it nobody can tell Stripe's events from forgeries; the endpoint's page at Stripe shows it (whsec_…).",
        20,
    )
    refuse(
        bool(settings.STRIPE_FAKE) and not settings.DEVELOPMENT,
        "STRIPE_FAKE is on.",
        "Production takes no pretended money.",
        21,
    )
    refuse(
        bool(settings.STRIPE_FAKE) and key.startswith(("sk_live_", "rk_live_")),
        "STRIPE_FAKE is on together with a live key.",
        "Choose one.",
        22,
    )
    address = urlsplit(settings.STRIPE_BASE_URL)
    refuse(
        bool(key) and not settings.DEVELOPMENT and address.scheme != "https",
        "STRIPE_BASE_URL is not https.",
        "The key would be sent in the clear.",
        23,
    )
    refuse(
        not 1 <= settings.TOP_UP_MIN_USD < settings.TOP_UP_MAX_USD <= 100_000,
        "TOP_UP_MIN_USD and TOP_UP_MAX_USD are not in order.",
        "At least 1, at most 100000, the one below the other.",
        24,
    )
    refuse(not _all_amounts(settings.TOP_UP_OFFERS_USD), "TOP_UP_OFFERS_USD has something else than amounts.", "", 25)
    return found


def _all_amounts(words: list[str]) -> bool:
    try:
        return all(money.nanos(word) > 0 for word in words)
    except ValueError:
        return False
