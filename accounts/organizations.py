"""Organizations and who belongs to them."""

from __future__ import annotations

import contextlib

from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.text import slugify

from accounts.models import Membership, Organization, Role, User
from core import ids
from core.errors import InvalidRequest

_NAME_MAX_CHARS = 120
_SLUG_MAX_CHARS = 48
_SLUG_TRIES = 8


def create(name: str, *, owner: User) -> Organization:
    """A new organization with its owner, under a slug of its own. Raises InvalidRequest for a bad name."""
    name = " ".join(name.split())
    if not name or len(name) > _NAME_MAX_CHARS or not name.isprintable():
        raise InvalidRequest(f"An organization needs a name of 1 to {_NAME_MAX_CHARS} characters.", param="name")
    wanted = _slug(name)
    for number in range(_SLUG_TRIES):
        slug = wanted if number == 0 else f"{wanted}-{ids.token(4 + number)}"
        try:
            with transaction.atomic():
                organization = Organization.objects.create(name=name, slug=slug)
                Membership.objects.create(organization=organization, user=owner, role=Role.OWNER)
            return organization
        except IntegrityError:
            if not Organization.objects.filter(slug=slug).exists():
                raise
    raise RuntimeError(f"no free slug like {wanted!r} was found")


def platform() -> Organization:
    """The organization that is the platform's own, made when it is first needed; it has no members and no keys."""
    found = Organization.objects.filter(is_platform=True).first()
    if found is not None:
        return found
    with contextlib.suppress(IntegrityError), transaction.atomic():
        return Organization.objects.create(name="Platform", slug=f"platform-{ids.token(8)}", is_platform=True)
    return Organization.objects.get(is_platform=True)


def _slug(name: str) -> str:
    slug = slugify(name)[:_SLUG_MAX_CHARS].strip("-_")
    # Where a slug or an id may be given, digits alone are an id.
    return f"org-{slug}" if slug.isdigit() else slug or "organization"


def find(word: str) -> Organization | None:
    """The organization that an operator names by its slug or id."""
    word = word.strip()
    if word.isascii() and word.isdigit() and len(word) < 19:
        return Organization.objects.filter(pk=int(word)).first()
    return Organization.objects.filter(slug=word).first() if "\0" not in word else None


def add_member(organization: Organization, *, user: User, role: str) -> Membership:
    """Make a person a member, or give a member another role."""
    membership, _ = Membership.objects.update_or_create(
        organization=organization, user=user, defaults={"role": Role(role)}
    )
    return membership


def close(organization: Organization) -> None:
    """End it for good: nobody is a member any more, no key lets anybody in. Its row stays, as the ledger's owner.

    To be called in a transaction, by whoever deals with its money.
    """
    now = timezone.now()
    organization.api_keys.filter(revoked_at=None).update(revoked_at=now)
    organization.memberships.all().delete()
    organization.suspended_at = organization.suspended_at or now
    organization.closed_at = now
    organization.save(update_fields=["suspended_at", "closed_at"])


def for_user(user: User) -> list[Membership]:
    """A person's memberships with their organizations, the oldest first."""
    return list(Membership.objects.filter(user=user).select_related("organization").order_by("id"))
