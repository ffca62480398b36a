"""User, Organization, Membership and ApiKey: who may act, for which tenant, with what right."""

from __future__ import annotations

import datetime as dt
import unicodedata
from typing import Any, ClassVar

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Lower
from django.utils import timezone

from accounts import scopes
from accounts.rules import KeyRules
from core import ids

KEY_ID_LENGTH = 12
EMAIL_MAX_CHARS = 254


def normalise_email(address: str) -> str:
    """One spelling per mailbox name: compatibility forms folded and lower case, so look-alikes are one login."""
    return unicodedata.normalize("NFKC", address).strip().casefold()


class UserManager(BaseUserManager["User"]):
    """Makes users by e-mail address; there are no user names."""

    def create_user(self, email: str, password: str | None = None, **fields: Any) -> User:
        user = self.model(email=normalise_email(email), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> User:
        return self.create_user(email, password, is_staff=True, is_superuser=True, **fields)

    def get_by_natural_key(self, username: str | None) -> User:
        return self.get(email=normalise_email(username or ""))


class User(AbstractBaseUser, PermissionsMixin):
    """A person who signs in."""

    email = models.EmailField(max_length=EMAIL_MAX_CHARS, unique=True)
    name = models.CharField(max_length=150, blank=True)
    is_staff = models.BooleanField(default=False)
    is_active = models.BooleanField(default=True)
    date_joined = models.DateTimeField(default=timezone.now)

    objects: ClassVar[UserManager] = UserManager()

    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    class Meta:
        constraints = (models.UniqueConstraint(Lower("email"), name="user_email_unique_without_case"),)

    def __str__(self) -> str:
        return self.email

    def clean(self) -> None:
        super().clean()
        self.email = normalise_email(self.email)

    def get_full_name(self) -> str:
        return self.name or self.email

    def get_short_name(self) -> str:
        return self.name or self.email.partition("@")[0]


class Organization(models.Model):
    """The tenant: owns keys, balance and images."""

    name = models.CharField(max_length=120)
    slug = models.SlugField(max_length=64, unique=True)
    created_at = models.DateTimeField(default=timezone.now)
    # A suspended organization keeps its data and can do nothing.
    suspended_at = models.DateTimeField(null=True, blank=True)
    # A closed one has left for good: it stays suspended, without members, keys and pictures.
    closed_at = models.DateTimeField(null=True, blank=True)
    # The one that pays for visitors without a key; nobody is a member of it.
    is_platform = models.BooleanField(default=False, db_default=False)
    # "url", "b64_json", or blank for both: what an answer carries when the request does not say.
    default_response_format = models.CharField(max_length=8, blank=True, default="")
    link_life_minutes = models.PositiveIntegerField(default=60)
    members = models.ManyToManyField(User, through="Membership", related_name="organizations")

    class Meta:
        constraints = (
            models.CheckConstraint(
                name="organization_response_format_known",
                condition=Q(default_response_format__in=["", "url", "b64_json"]),
            ),
            models.CheckConstraint(
                name="organization_link_life_bounded",
                condition=Q(link_life_minutes__gte=1, link_life_minutes__lte=30 * 24 * 60),
            ),
            models.CheckConstraint(
                name="organization_closed_stays_suspended",
                condition=Q(closed_at__isnull=True) | Q(suspended_at__isnull=False),
            ),
            models.UniqueConstraint(
                fields=["is_platform"], name="organization_of_the_platform_once", condition=Q(is_platform=True)
            ),
        )

    def __str__(self) -> str:
        return self.slug


class Role(models.TextChoices):
    """What a member may do, from most to least."""

    OWNER = "owner"
    ADMIN = "admin"
    DEVELOPER = "developer"
    BILLING = "billing"
    VIEWER = "viewer"


class Membership(models.Model):
    """One person's role in one organization."""

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=16, choices=Role.choices)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=["organization", "user"], name="membership_once_per_organization"),
            models.CheckConstraint(name="membership_role_known", condition=Q(role__in=Role.values)),
        )

    def __str__(self) -> str:
        return f"{self.user} is {self.role} of {self.organization}"


def default_scopes() -> list[str]:
    """A list of its own for each new key."""
    return list(scopes.DEFAULT)


class ApiKey(models.Model):
    """A credential of an organization: `pxp_<public_id>.<secret>`, of which only a keyed hash is kept."""

    STATUSES = ("active", "expired", "revoked")

    public_id = models.CharField(max_length=KEY_ID_LENGTH, unique=True)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="api_keys")
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True, related_name="api_keys")
    name = models.CharField(max_length=80)
    secret_hash = models.BinaryField(max_length=32, unique=True)
    last_four = models.CharField(max_length=4)
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    scopes = ArrayField(models.CharField(max_length=16), default=default_scopes)
    # As accounts.rules reads them; what is absent allows everything.
    rules = models.JSONField(default=dict)
    # Raised by every change, so that a statement can tell whether the key is still the one that was read.
    version = models.IntegerField(default=1)

    class Meta:
        constraints = (
            models.CheckConstraint(
                name="api_key_scopes_known",
                condition=Q(scopes__contained_by=list(scopes.ALL), scopes__len__gte=1),
            ),
            models.CheckConstraint(
                name="api_key_expires_after_creation",
                condition=Q(expires_at__isnull=True) | Q(expires_at__gt=F("created_at")),
            ),
        )
        indexes = (models.Index(fields=["organization", "-id"], name="api_key_by_organization"),)

    def __str__(self) -> str:
        return f"pxp_{self.public_id}.…{self.last_four}"

    @staticmethod
    def new_public_id() -> str:
        return ids.token(KEY_ID_LENGTH)

    def status(self, now: dt.datetime) -> str:
        """active, expired or revoked, at this moment."""
        if self.revoked_at is not None:
            return "revoked"
        if self.expires_at is not None and self.expires_at <= now:
            return "expired"
        return "active"

    @property
    def key_rules(self) -> KeyRules:
        return KeyRules.from_stored(self.rules)
