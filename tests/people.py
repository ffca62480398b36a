"""The people in every test: Alice owns an organization, Bob works for her, Charlie is a stranger with his own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from django.contrib.auth.hashers import Argon2PasswordHasher
from django.test import Client

from accounts import keys, organizations
from accounts.models import ApiKey, Membership, Organization, Role, User

PASSWORD = "correct horse battery staple"


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A key's row together with its raw form, as only its maker ever has them."""

    row: ApiKey
    raw: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.raw}"}


class QuickArgon2(Argon2PasswordHasher):
    """The real algorithm, made cheap: the tests are not about how long a guess takes."""

    time_cost = 1
    memory_cost = 64
    parallelism = 1


def issue(organization: Organization, *, created_by: User | None = None, name: str = "tests", **more: Any) -> IssuedKey:
    return IssuedKey(*keys.create(organization, name=name, created_by=created_by, **more))


def sign_in(user: User) -> Client:
    """A browser of its own in which this person is signed in."""
    client = Client()
    client.force_login(user)
    return client


# A quarter of all tests begin with Alice, Bob and their organization: what `users` and `organizations` make in
# eighteen statements are here the same rows in six. test_it_begins_with_what_the_product_would_make holds them to it.


def _person(address: str, name: str) -> User:
    user = User(email=address, name=name)
    user.set_unusable_password()
    user.save(force_insert=True)
    EmailAddress(user=user, email=address, verified=True, primary=True).save(force_insert=True)
    return user


@pytest.fixture
def alice(db: None) -> User:
    return _person("alice@example.com", "Alice")


@pytest.fixture
def bob(db: None) -> User:
    return _person("bob@example.com", "Bob")


@pytest.fixture
def charlie(db: None) -> User:
    return _person("charlie@example.net", "Charlie")


@pytest.fixture
def organization(alice: User, bob: User) -> Organization:
    """Alice's, with Bob as a developer."""
    organization = Organization(name="Alice & Co", slug="alice-co")
    organization.save(force_insert=True)
    roles = {alice: Role.OWNER, bob: Role.DEVELOPER}
    Membership.objects.bulk_create(
        Membership(organization=organization, user=user, role=role) for user, role in roles.items()
    )
    return organization


@pytest.fixture
def other_organization(charlie: User) -> Organization:
    """Charlie's: nothing of Alice's may ever show there, nor the other way round."""
    return organizations.create("Charlie Ltd", owner=charlie)


@pytest.fixture
def api_key(organization: Organization, alice: User) -> IssuedKey:
    return issue(organization, created_by=alice)


@pytest.fixture
def other_api_key(other_organization: Organization, charlie: User) -> IssuedKey:
    return issue(other_organization, created_by=charlie)
