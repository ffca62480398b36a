"""How allauth treats addresses and writes its mails here."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from allauth.account.adapter import DefaultAccountAdapter
from django.conf import settings
from django.core.exceptions import ValidationError

from accounts.models import EMAIL_MAX_CHARS, normalise_email


class AccountAdapter(DefaultAccountAdapter):
    """allauth's behaviour with one spelling per address, and links that never come from a request's Host header."""

    def clean_email(self, email: str) -> str:
        email = normalise_email(super().clean_email(email))
        if len(email) > EMAIL_MAX_CHARS:  # allauth would cut it off, and a cut address is another one
            raise ValidationError(f"An address here has at most {EMAIL_MAX_CHARS} characters.")
        return email

    def send_mail(self, template_prefix: str, email: str, context: dict[str, Any]) -> None:
        links = {name: _ours(value) for name, value in context.items() if name.endswith("_url") and value}
        super().send_mail(template_prefix, email, {**context, **links, "base_url": settings.BASE_URL})


def _ours(url: str) -> str:
    path = urlsplit(url)._replace(scheme="", netloc="").geturl()
    return f"{settings.BASE_URL.rstrip('/')}/{path.lstrip('/')}"
