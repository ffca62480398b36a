"""What happens when a new person has verified an address: an organization of their own, and the announcement."""

from __future__ import annotations

from typing import Any

from allauth.account.models import EmailAddress
from allauth.account.signals import email_confirmed
from django.db import transaction
from django.dispatch import receiver
from django.http import HttpRequest

from accounts import organizations, signals
from accounts.models import Membership, Organization, User
from core import clients


@receiver(email_confirmed)
def welcome(sender: Any, *, email_address: EmailAddress, request: HttpRequest | None = None, **_: Any) -> None:
    """Make a new person's organization; nobody who belongs to one already gets another."""
    address = clients.address(request) if request is not None else None
    with transaction.atomic():
        # The lock lets two clicks on the same link make one organization.
        user = User.objects.select_for_update().get(pk=email_address.user_id)
        if Membership.objects.filter(user=user).exists():
            return
        organization = organizations.create(user.get_short_name(), owner=user)
        signals.signed_up.send(
            sender=Organization,
            user=user,
            organization=organization,
            client_address=str(address) if address else None,
        )
