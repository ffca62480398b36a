"""The first run's demo organization: an owner, five dollars of promo credit, and an API key shown once."""

from __future__ import annotations

import secrets
import uuid
from dataclasses import dataclass

from allauth.account.models import EmailAddress
from django.conf import settings
from django.db import transaction

from accounts import keys, organizations
from accounts.models import Organization, User
from billing import ledger
from core import money

EMAIL = "demo@example.com"
CREDIT_NANOS = 5 * money.NANOS_PER_USD
_FIRST_REQUEST = (
    '"model": "gpt-image-1", "prompt": "a red fox in the snow at dawn", "size": "1024x1024", "response_format": "url"'
)


@dataclass(frozen=True, slots=True)
class Welcome:
    """What the demo's owner needs, known only now."""

    email: str
    password: str
    api_key: str


def create() -> Welcome | None:
    """Make the demo when there is no organization at all yet; None otherwise."""
    if Organization.objects.filter(is_platform=False).exists():
        return None
    password = secrets.token_urlsafe(9)
    with transaction.atomic():
        owner = User.objects.create_user(EMAIL, password, name="Demo")
        EmailAddress.objects.create(user=owner, email=EMAIL, verified=True, primary=True)
        organization = organizations.create("Demo", owner=owner)
        _, raw = keys.create(organization, name="First key", created_by=owner)
        ledger.grant(organization.pk, amount_nanos=CREDIT_NANOS, reason="demo credit", reference=uuid.uuid4())
    return Welcome(email=EMAIL, password=password, api_key=raw)


def message(welcome: Welcome) -> str:
    """What the first run prints, with a line that works as pasted."""
    return f"""
Your first organization has ${money.decimal(CREDIT_NANOS)} of promo credit.

  API key   {welcome.api_key}
            (shown once; make another under {settings.BASE_URL}/app/keys)
  Sign in   {settings.BASE_URL}/accounts/login/
            {welcome.email}  {welcome.password}

Your first image:

  curl {settings.BASE_URL}/openai/v1/images/generations \\
    -H "Authorization: Bearer {welcome.api_key}" \\
    -H "Content-Type: application/json" \\
    -d '{{{_FIRST_REQUEST}}}'"""
