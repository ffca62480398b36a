"""The key pages: shown once, by role, and nothing of another organization."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts import keys, organizations
from accounts.models import ApiKey, Organization, User
from core.errors import InvalidApiKey
from tests.people import IssuedKey, sign_in

_RAW = re.compile(r"pxp_[0-9a-z]{12}\.[A-Za-z0-9_-]{43}")
NEW = {"name": "mine", "scopes": ["images"]}


def test_it_sends_a_visitor_to_the_login(db: None) -> None:
    for path in ("/app", "/app/keys"):
        response = Client().get(path)
        assert (response.status_code, response["Location"]) == (302, f"/accounts/login/?next={path}")
    for path in ("/app/keys", "/app/keys/000000000000/revoke", "/app/switch"):
        assert Client().post(path).status_code == 302


def test_it_shows_a_new_key_once_with_a_curl_line_that_is_ready(alice: User, organization: Organization) -> None:
    client = sign_in(alice)
    response = client.post("/app/keys", {**NEW, "name": "laptop", "expires": "30"})
    assert response.status_code == 201
    raw = _RAW.findall(response.content.decode())[0]
    assert f"Authorization: Bearer <em>{raw}</em>" in response.content.decode()
    assert "http://127.0.0.1:8000/openai/v1/images/generations" in response.content.decode()
    assert response["Cache-Control"] == "no-store, private"
    assert keys.authenticate(raw).organization_id == organization.pk
    key = ApiKey.objects.get()
    assert key.created_by == alice
    assert key.expires_at is not None

    listed = client.get("/app/keys").content.decode()
    assert not _RAW.search(listed)
    assert "laptop" in listed
    assert f"…{raw[-4:]}" in listed
    assert raw not in str(dict(client.session))


@pytest.mark.parametrize("role", ["owner", "admin", "developer"])
def test_it_lets_these_roles_create_and_revoke(organization: Organization, bob: User, role: str) -> None:
    organizations.add_member(organization, user=bob, role=role)
    client = sign_in(bob)
    assert client.post("/app/keys", NEW).status_code == 201
    key = ApiKey.objects.get()
    assert client.post(f"/app/keys/{key.public_id}/revoke").status_code == 302
    assert ApiKey.objects.get().revoked_at is not None


@pytest.mark.parametrize("role", ["billing", "viewer"])
def test_it_lets_these_roles_only_look(organization: Organization, api_key: IssuedKey, bob: User, role: str) -> None:
    organizations.add_member(organization, user=bob, role=role)
    client = sign_in(bob)
    page = client.get("/app/keys").content.decode()
    assert api_key.row.name in page
    assert "Create key" not in page
    assert "/revoke" not in page
    assert client.post("/app/keys", {"name": "mine"}).status_code == 403
    assert client.post(f"/app/keys/{api_key.row.public_id}/revoke").status_code == 403
    keys.authenticate(api_key.raw)
    assert ApiKey.objects.count() == 1


def test_it_treats_a_foreign_key_like_a_missing_one(
    charlie: User, other_organization: Organization, api_key: IssuedKey
) -> None:
    client = sign_in(charlie)
    foreign = client.post(f"/app/keys/{api_key.row.public_id}/revoke")
    missing = client.post("/app/keys/000000000000/revoke")
    assert (foreign.status_code, missing.status_code) == (404, 404)
    assert foreign.content == missing.content
    keys.authenticate(api_key.raw)
    assert api_key.row.public_id not in client.get("/app/keys").content.decode()


def test_it_revokes_at_once(alice: User, api_key: IssuedKey) -> None:
    assert sign_in(alice).post(f"/app/keys/{api_key.row.public_id}/revoke")["Location"] == "/app/keys"
    with pytest.raises(InvalidApiKey):
        keys.authenticate(api_key.raw)


def test_it_never_revokes_by_get(alice: User, api_key: IssuedKey) -> None:
    assert sign_in(alice).get(f"/app/keys/{api_key.row.public_id}/revoke").status_code == 405
    keys.authenticate(api_key.raw)


def test_it_refuses_a_post_without_a_token(alice: User, api_key: IssuedKey) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(alice)
    for path in ("/app/keys", f"/app/keys/{api_key.row.public_id}/revoke", "/app/switch"):
        assert client.post(path, {"name": "x", "organization": "x"}).status_code == 403
    keys.authenticate(api_key.raw)


@pytest.mark.parametrize(
    "change",
    [
        {"name": ""},
        {"name": " "},
        {"name": "x" * 81},
        {"name": "n\0"},
        {"expires": "9"},
        {"scopes": []},
        {"scopes": "all"},
    ],
)
def test_it_says_what_is_wrong_with_a_form(alice: User, organization: Organization, change: dict[str, Any]) -> None:
    response = sign_in(alice).post("/app/keys", {**NEW, **change})
    assert response.status_code == 400
    assert b"errorlist" in response.content
    assert not ApiKey.objects.exists()


def test_it_shows_names_as_text(alice: User, organization: Organization) -> None:
    client = sign_in(alice)
    client.post("/app/keys", {**NEW, "name": "<script>alert(1)</script>"})
    page = client.get("/app/keys").content.decode()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


def test_it_makes_no_key_for_a_suspended_organization(alice: User, organization: Organization) -> None:
    organization.suspended_at = timezone.now()
    organization.save()
    response = sign_in(alice).post("/app/keys", NEW)
    assert response.status_code == 400
    assert b"suspended" in response.content
    assert not ApiKey.objects.exists()


def test_it_switches_between_ones_own_organizations_only(
    alice: User, charlie: User, organization: Organization, other_organization: Organization, api_key: IssuedKey
) -> None:
    second = organizations.create("Second", owner=alice)
    client = sign_in(alice)
    assert api_key.row.public_id in client.get("/app/keys").content.decode()
    assert client.post("/app/switch", {"organization": second.slug})["Location"] == "/app"
    assert api_key.row.public_id not in client.get("/app/keys").content.decode()
    for slug in (other_organization.slug, "nobody", "", "\0"):
        assert client.post("/app/switch", {"organization": slug}).status_code == 404
    client.post("/app/keys", {**NEW, "name": "in the second"})
    assert second.api_keys.count() == 1
    assert other_organization.api_keys.count() == 0


def test_it_forgets_a_choice_when_the_membership_ends(alice: User, organization: Organization) -> None:
    second = organizations.create("Second", owner=alice)
    client = sign_in(alice)
    client.post("/app/switch", {"organization": second.slug})
    second.memberships.all().delete()
    assert organization.name.replace("&", "&amp;") in client.get("/app/keys").content.decode()


def test_it_tells_someone_without_an_organization_what_to_do(charlie: User) -> None:
    client = sign_in(charlie)
    for path in ("/app", "/app/keys"):
        response = client.get(path)
        assert response.status_code == 200
        assert b"You belong to no organization" in response.content
    assert client.post("/app/keys", {"name": "x"}).status_code == 200
    assert not ApiKey.objects.exists()


def test_it_ends_a_closed_persons_pages_at_once(alice: User, organization: Organization) -> None:
    client = sign_in(alice)
    alice.is_active = False
    alice.save()
    assert client.get("/app/keys").status_code == 302


def test_it_asks_as_many_queries_for_one_key_as_for_many(
    alice: User, organization: Organization, django_assert_max_num_queries: Any
) -> None:
    client = sign_in(alice)
    for number in range(12):
        keys.create(organization, name=f"key {number}", created_by=alice)
    with django_assert_max_num_queries(7):
        client.get("/app/keys")


def test_it_says_in_plain_words_what_a_key_may_do(alice: User, organization: Organization) -> None:
    client = sign_in(alice)
    client.post("/app/keys", {**NEW, "scopes": ["usage", "images"]})
    key = ApiKey.objects.get()
    assert key.scopes == ["images", "usage"]
    limits = {"requests_per_minute": 60, "spend_month_usd": "25"}
    keys.update(key, rules={"qualities": ["low"]}, limits=limits)
    page = client.get("/app/keys").content.decode()
    assert "make images, see balance and usage" in page
    assert "60 requests a minute; $25.00 a month; only qualities low" in page


def test_it_asks_for_everything_before_the_button(alice: User, organization: Organization) -> None:
    page = sign_in(alice).get("/app/keys").content.decode()
    parts = ('id="id_name"', 'id="id_name_helptext"', 'id="id_expires"', 'name="scopes"', "Create key</button>")
    places = [page.index(part) for part in parts]
    assert places == sorted(places)
