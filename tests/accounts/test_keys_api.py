"""`/v1/keys`: made and shown once, listed by pages, changed whole, ended; and nothing a key may not give."""

from __future__ import annotations

import time
from typing import Any

import pytest
from django.test import Client

from accounts import keys, scopes
from accounts.models import ApiKey, Organization, User
from billing import limits
from tests.envelope import assert_refused
from tests.people import IssuedKey, issue

SHOWN = {
    *("id", "object", "name", "last_four", "status", "created_at", "last_used_at", "expires_at"),
    *("scopes", "rules", "limits"),
}
NO_LIMITS = dict.fromkeys(limits.NAMES)


@pytest.fixture
def manager(organization: Organization, alice: User) -> IssuedKey:
    return IssuedKey(*keys.create(organization, name="manager", created_by=alice, scopes=scopes.ALL))


def ask(key: IssuedKey, method: str, path: str = "/v1/keys", body: Any = None, **more: Any) -> Any:
    if body is not None:
        more |= {"data": body, "content_type": "application/json"}
    return getattr(Client(), method)(path, headers=key.headers, **more)


def test_it_makes_a_key_and_shows_it_this_once(manager: IssuedKey, alice: User, organization: Organization) -> None:
    body = {
        "name": "ci",
        "scopes": ["images"],
        "rules": {"models": ["gpt-image-1"], "on_refusal": "next"},
        "limits": {"requests_per_minute": 60, "spend_month_usd": "25.5", "spend_day_usd": 2},
        "expires_at": int(time.time()) + 3600,
    }
    answer = ask(manager, "post", body=body)
    assert answer.status_code == 201
    assert answer.headers["Cache-Control"] == "no-store"
    made = answer.json()
    raw = made.pop("key")
    assert set(made) == SHOWN
    row = ApiKey.objects.get(public_id=made["id"])
    assert (row.organization, row.created_by, made["last_four"]) == (organization, alice, raw[-4:])
    assert made["rules"] == {"models": ["gpt-image-1"], "sizes": [], "qualities": [], "on_refusal": "next"}
    limited = {"requests_per_minute": 60, "spend_month_usd": "25.50", "spend_day_usd": "2.00"}
    assert made["limits"] == {**NO_LIMITS, **limited}
    assert (made["object"], made["status"], made["last_used_at"]) == ("key", "active", None)
    assert made["expires_at"] == body["expires_at"]
    assert keys.authenticate(raw).scopes == {"images"}
    shown = ask(manager, "get", f"/v1/keys/{made['id']}")
    assert {**made, "last_used_at": shown.json()["last_used_at"]} == shown.json()
    assert raw not in shown.content.decode() + ask(manager, "get").content.decode()


def test_a_name_is_enough(manager: IssuedKey) -> None:
    made = ask(manager, "post", body={"name": "plain", "rules": None}).json()
    assert made["scopes"] == list(scopes.DEFAULT)
    assert (made["limits"], made["expires_at"]) == (NO_LIMITS, None)


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({}, "missing_required_parameter", "name"),
        ({"name": None}, "missing_required_parameter", "name"),
        ({"name": 5}, "invalid_type", "name"),
        ({"name": ""}, "invalid_value", "name"),
        ({"name": "a\0b"}, "invalid_value", "name"),
        ({"name": "x", "scope": ["usage"]}, "unknown_parameter", "scope"),
        ({"name": "x", "organization_id": 1}, "unknown_parameter", "organization_id"),
        ({"name": "x", "scopes": "usage"}, "invalid_type", "scopes"),
        ({"name": "x", "scopes": ["admin"]}, "invalid_value", "scopes"),
        ({"name": "x", "rules": {"sizes": ["big"]}}, "invalid_value", "rules.sizes"),
        ({"name": "x", "limits": []}, "invalid_type", "limits"),
        ({"name": "x", "limits": {"rpm": 5}}, "unknown_parameter", "limits"),
        ({"name": "x", "limits": {"concurrent": 0}}, "invalid_value", "limits.concurrent"),
        ({"name": "x", "limits": {"concurrent": True}}, "invalid_type", "limits.concurrent"),
        ({"name": "x", "limits": {"requests_per_minute": 1_000_001}}, "invalid_value", "limits.requests_per_minute"),
        ({"name": "x", "limits": {"requests_per_minute": 1.5}}, "invalid_value", "limits.requests_per_minute"),
        ({"name": "x", "limits": {"requests_per_minute": 10**20}}, "invalid_value", "limits.requests_per_minute"),
        ({"name": "x", "limits": {"spend_day_usd": "-1"}}, "invalid_value", "limits.spend_day_usd"),
        ({"name": "x", "limits": {"spend_day_usd": 1e99}}, "invalid_value", "limits.spend_day_usd"),
        ({"name": "x", "limits": {"spend_day_usd": "0.0000000001"}}, "invalid_value", "limits.spend_day_usd"),
        ({"name": "x", "limits": {"spend_day_usd": [25]}}, "invalid_type", "limits.spend_day_usd"),
        ({"name": "x", "expires_at": "tomorrow"}, "invalid_type", "expires_at"),
        ({"name": "x", "expires_at": 5}, "invalid_value", "expires_at"),
        ({"name": "x", "expires_at": 10**20}, "invalid_value", "expires_at"),
    ],
)
def test_it_says_what_is_wrong(manager: IssuedKey, body: dict[str, Any], code: str, param: str) -> None:
    assert_refused(ask(manager, "post", body=body), 400, code, param=param)
    assert ApiKey.objects.count() == 1


def test_it_takes_json_alone(manager: IssuedKey) -> None:
    assert_refused(Client().post("/v1/keys", {"name": "x"}, headers=manager.headers), 415, "unsupported_media_type")
    answer = Client().post("/v1/keys", "[1", content_type="application/json", headers=manager.headers)
    assert_refused(answer, 400, "invalid_json")


def test_a_key_gives_no_more_than_it_has(organization: Organization) -> None:
    now_s = int(time.time())
    narrow = IssuedKey(*keys.create(organization, name="narrow", scopes=["keys", "usage"]))
    for body in ({"name": "x"}, {"name": "x", "scopes": ["images"]}):
        assert_refused(ask(narrow, "post", body=body), 403, "insufficient_scope", param="scopes")
    other = issue(organization).row
    answer = ask(narrow, "patch", f"/v1/keys/{other.public_id}", {"scopes": [*scopes.DEFAULT, "webhooks"]})
    assert_refused(answer, 403, "insufficient_scope", param="scopes")
    row = ApiKey.objects.get(pk=narrow.row.pk)
    row.expires_at = row.created_at.replace(microsecond=0, year=row.created_at.year + 1)
    row.save()
    made = ask(narrow, "post", body={"name": "x", "scopes": ["usage"]}).json()
    assert made["expires_at"] == int(row.expires_at.timestamp())
    later = {"name": "x", "scopes": ["usage"], "expires_at": now_s + 700 * 86_400}
    assert_refused(ask(narrow, "post", body=later), 400, "invalid_value", param="expires_at", says="outlive")


def test_it_lists_by_pages_newest_first(manager: IssuedKey, other_api_key: IssuedKey) -> None:
    for number in range(4):
        issue(manager.row.organization, name=f"key {number}")
    answer = ask(manager, "get", "/v1/keys?limit=2").json()
    seen = [answer]
    while answer["next_page_url"]:
        answer = ask(manager, "get", answer["next_page_url"]).json()
        seen.append(answer)
    names = [key["name"] for page in seen for key in page["data"]]
    assert names == ["key 3", "key 2", "key 1", "key 0", "manager"]
    assert (seen[0]["object"], seen[0]["previous_page_url"]) == ("list", None)
    back = ask(manager, "get", seen[2]["previous_page_url"]).json()
    assert [key["name"] for key in back["data"]] == ["key 1", "key 0"]
    assert back["previous_page_url"]
    first = ask(manager, "get", back["previous_page_url"]).json()
    assert [key["name"] for key in first["data"]] == ["key 3", "key 2"]
    assert set(answer["data"][0]) == SHOWN


def test_a_cursor_of_others_is_like_one_that_never_was(manager: IssuedKey, other_api_key: IssuedKey) -> None:
    for name in ("starting_after", "ending_before"):
        words = (other_api_key.row.public_id, ApiKey.new_public_id(), "x", "%00", "")
        answers = [ask(manager, "get", f"/v1/keys?{name}={word}") for word in words]
        for answer in answers:
            assert_refused(answer, 400, "invalid_value", param=name)
        assert len({answer.content for answer in answers}) == 1
    own = manager.row.public_id
    both = ask(manager, "get", f"/v1/keys?starting_after={own}&ending_before={own}")
    assert_refused(both, 400, "invalid_value", param="ending_before")
    for limit in ("0", "101", "x"):
        assert_refused(ask(manager, "get", f"/v1/keys?limit={limit}"), 400, "invalid_value", param="limit")


@pytest.mark.parametrize("method", ["patch", "post"])
def test_it_changes_what_is_given_and_nothing_else(manager: IssuedKey, api_key: IssuedKey, method: str) -> None:
    path = f"/v1/keys/{api_key.row.public_id}"
    first = {"limits": {"requests_per_minute": 60, "concurrent": 2}, "rules": {"qualities": ["low"]}}
    assert ask(manager, method, path, first).status_code == 200
    changed = ask(manager, method, path, {"name": "renamed", "limits": {"concurrent": 3}}).json()
    assert (changed["name"], changed["limits"]) == ("renamed", {**NO_LIMITS, "concurrent": 3})
    assert (changed["rules"]["qualities"], changed["scopes"]) == (["low"], list(scopes.DEFAULT))
    assert ask(manager, method, path, {"limits": {}, "rules": {}}).json()["limits"] == NO_LIMITS
    assert keys.authenticate(api_key.raw).rules.qualities == ()
    for body in ({"expires_at": 1}, {"status": "active"}, {"secret_hash": "x"}):
        assert_refused(ask(manager, method, path, body), 400, "unknown_parameter", param=next(iter(body)))


def test_it_ends_a_key_at_once_and_its_own_too(manager: IssuedKey, api_key: IssuedKey) -> None:
    path = f"/v1/keys/{api_key.row.public_id}"
    for _ in range(2):
        answer = ask(manager, "delete", path)
        assert (answer.status_code, answer.json()) == (
            200,
            {"id": api_key.row.public_id, "object": "key", "deleted": True},
        )
    assert ask(manager, "get", path).json()["status"] == "revoked"
    # What was ended stays as it was when it ended.
    for change in ({"name": "another"}, {"limits": {"concurrent": 1}}, {"scopes": ["usage"]}):
        assert_refused(ask(manager, "patch", path, change), 400, "invalid_value", says="revoked")
    assert ask(manager, "get", path).json()["name"] == api_key.row.name
    assert_refused(ask(api_key, "get", "/v1/balance"), 401, "invalid_api_key")
    assert ask(manager, "delete", f"/v1/keys/{manager.row.public_id}").status_code == 200
    assert_refused(ask(manager, "get"), 401, "invalid_api_key")


@pytest.mark.parametrize("method", ["get", "patch", "delete"])
def test_a_foreign_key_is_like_a_missing_one(manager: IssuedKey, other_api_key: IssuedKey, method: str) -> None:
    words = (other_api_key.row.public_id, ApiKey.new_public_id(), "x", other_api_key.raw, "é" * 12)
    body = {"name": "taken"} if method == "patch" else None
    answers = [ask(manager, method, f"/v1/keys/{word}", body) for word in words]
    for answer in answers:
        assert_refused(answer, 404, "not_found")
    assert len({answer.content for answer in answers}) == 1
    assert keys.authenticate(other_api_key.raw).scopes == set(scopes.DEFAULT)
    assert ApiKey.objects.get(pk=other_api_key.row.pk).name == "tests"
