"""Organizations, their slugs and what each role may do."""

from __future__ import annotations

import pytest
from allauth.account.models import EmailAddress

from accounts import organizations, roles, users
from accounts.models import Membership, Organization, Role, User
from accounts.roles import Right
from core.errors import InvalidRequest


def _rows() -> list[list[dict[str, object]]]:
    """Everybody and whom they work for, without what chance and the clock have a part in."""
    found = []
    for model in (User, EmailAddress, Organization, Membership):
        names = [field.name for field in model._meta.fields if not field.is_relation]
        kept = [name for name in names if name not in ("id", "password", "date_joined", "created_at")]
        found.append(list(model._default_manager.order_by("pk").values(*kept)))
    return found


def test_it_begins_with_what_the_product_would_make(organization: Organization) -> None:
    """The fixtures write their rows themselves."""
    begun = _rows()
    passwords = [user.has_usable_password() for user in User.objects.all()]
    Organization.objects.all().delete()
    User.objects.all().delete()
    alice = users.create_verified("alice@example.com", name="Alice")
    bob = users.create_verified("bob@example.com", name="Bob")
    organizations.add_member(organizations.create("Alice & Co", owner=alice), user=bob, role=Role.DEVELOPER)
    assert begun == _rows()
    assert passwords == [user.has_usable_password() for user in User.objects.all()] == [False, False]


def test_it_makes_the_creator_its_owner(alice: User) -> None:
    organization = organizations.create("  Alice   & Co ", owner=alice)
    assert (organization.name, organization.slug) == ("Alice & Co", "alice-co")
    assert Membership.objects.get(organization=organization).role == Role.OWNER


def test_it_gives_each_a_slug_of_its_own(alice: User, charlie: User) -> None:
    slugs = {organizations.create("Same name", owner=owner).slug for owner in (alice, charlie, alice)}
    assert len(slugs) == 3
    assert all(slug.startswith("same-name") for slug in slugs)


@pytest.mark.parametrize(
    ("name", "slug"), [("画像", "organization"), ("123", "org-123"), ("---", "organization"), ("x" * 120, "x" * 48)]
)
def test_it_finds_a_slug_for_any_name(alice: User, name: str, slug: str) -> None:
    assert organizations.create(name, owner=alice).slug == slug


@pytest.mark.parametrize("name", ["", "  ", "x" * 121, "nul\x00", "line\u2028break\x1b"])
def test_it_refuses_a_bad_name(alice: User, name: str) -> None:
    with pytest.raises(InvalidRequest):
        organizations.create(name, owner=alice)
    assert not Organization.objects.exists()


def test_it_is_found_by_slug_or_id(organization: Organization) -> None:
    assert organizations.find(organization.slug) == organization
    assert organizations.find(str(organization.pk)) == organization
    for word in ("", "nobody", "0", "9" * 18, "9" * 40, "\0", "²"):
        assert organizations.find(word) is None


def test_it_lists_only_ones_own(
    alice: User, bob: User, charlie: User, organization: Organization, other_organization: Organization
) -> None:
    assert [item.organization for item in organizations.for_user(alice)] == [organization]
    assert [(item.organization, item.role) for item in organizations.for_user(bob)] == [(organization, "developer")]
    assert [item.organization for item in organizations.for_user(charlie)] == [other_organization]


def test_it_changes_a_members_role_instead_of_adding_another(organization: Organization, bob: User) -> None:
    organizations.add_member(organization, user=bob, role="billing")
    assert [item.role for item in Membership.objects.filter(user=bob)] == ["billing"]


def test_it_refuses_a_role_that_does_not_exist(organization: Organization, bob: User) -> None:
    with pytest.raises(ValueError, match="emperor"):
        organizations.add_member(organization, user=bob, role="emperor")


@pytest.mark.parametrize(
    ("role", "rights"),
    [
        ("owner", set(Right)),
        ("admin", set(Right) - {Right.CLOSE_ORGANIZATION, Right.REFUND}),
        ("developer", {Right.READ, Right.MANAGE_KEYS}),
        ("billing", {Right.READ, Right.MANAGE_BILLING, Right.REFUND}),
        ("viewer", {Right.READ}),
        ("emperor", set()),
    ],
)
def test_it_allows_each_role_exactly_its_rights(role: str, rights: set[Right]) -> None:
    assert {right for right in Right if roles.allows(role, right)} == rights
