"""People: found and made by e-mail address."""

from __future__ import annotations

from allauth.account.models import EmailAddress
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction

from accounts.models import User, normalise_email
from core.errors import InvalidRequest


def find(address: str) -> User | None:
    """The person with this address, however it is spelled."""
    return User.objects.filter(email=normalise_email(address)).first()


def find_or_create(address: str) -> User:
    """The person with this address, made without a password when new: they set one by password reset.

    Raises InvalidRequest for what is not an address.
    """
    address = normalise_email(address)
    try:
        validate_email(address)
    except ValidationError as error:
        raise InvalidRequest(f"{address!r} is not an e-mail address.", param="email") from error
    return find(address) or User.objects.create_user(address)


def create_verified(address: str, *, password: str | None = None, name: str = "") -> User:
    """A person whose address needs no verification because the operator vouches for it."""
    with transaction.atomic():
        user = User.objects.create_user(address, password, name=name)
        EmailAddress.objects.create(user=user, email=user.email, verified=True, primary=True)
    return user
