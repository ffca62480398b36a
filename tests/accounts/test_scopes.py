"""What a key may do: scopes at the door, rules and versions read with the key, no key that gives more than it has."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts import keys, scopes
from accounts.models import ApiKey, Organization
from accounts.rules import KeyRules
from core import sql
from core.errors import InvalidRequest, PermissionDenied, UnknownParameter
from tests.envelope import assert_refused
from tests.people import IssuedKey


def made(organization: Organization, **more: Any) -> IssuedKey:
    return IssuedKey(*keys.create(organization, name="scoped", **more))


def get(key: IssuedKey, path: str) -> Any:
    return Client().get(path, headers=key.headers)


def still_valid(key_id: int, version: int) -> bool:
    found = sql.row(f"SELECT {keys.STILL_VALID}", {"key_id": key_id, "key_version": version})
    return bool(found and found[0])


def test_a_key_may_do_everything_but_manage_when_nothing_is_said(organization: Organization) -> None:
    key = made(organization)
    assert key.row.scopes == ["images", "requests", "usage"]
    caller = keys.authenticate(key.raw)
    assert (caller.scopes, caller.rules, caller.key_version) == (frozenset(scopes.DEFAULT), KeyRules(), 1)


def test_it_reads_scopes_and_rules_with_the_key_in_one_query(organization: Organization) -> None:
    key = made(organization, scopes=["images"], rules={"models": ["fal/*"], "on_refusal": "next"})
    keys.authenticate(key.raw)  # its use is noted once a minute
    statements: list[str] = []
    run = sql.row

    def watched(statement: str, parameters: Any) -> Any:
        statements.append(statement)
        return run(statement, parameters)

    with pytest.MonkeyPatch.context() as patch, CaptureQueriesContext(connection) as others:
        patch.setattr(sql, "row", watched)
        caller = keys.authenticate(key.raw)
    assert (len(statements), len(others)) == (1, 0)
    assert caller.scopes == {"images"}
    assert caller.rules == KeyRules(models=("fal/*",), on_refusal="next")


@pytest.mark.parametrize(
    ("path", "scope"),
    [
        ("/v1/balance", "usage"),
        ("/v1/requests", "requests"),
        ("/v1/requests/req_x", "requests"),
        ("/v1/images/img_x/content", "requests"),
        ("/v1/keys", "keys"),
    ],
)
def test_it_refuses_a_key_without_the_scope_and_names_it(organization: Organization, path: str, scope: str) -> None:
    others = [word for word in scopes.ALL if word != scope]
    answer = get(made(organization, scopes=others), path)
    assert_refused(answer, 403, "insufficient_scope", says=f"'{scope}'")
    assert get(made(organization, scopes=[scope]), path).status_code in (200, 404)


def test_it_refuses_to_make_images_before_it_looks_at_the_body(organization: Organization) -> None:
    for path in ("/v1/images/generations", "/openai/v1/images/generations"):
        headers = made(organization, scopes=["usage"]).headers
        answer = Client().post(path, {"n": "?"}, content_type="application/json", headers=headers)
        assert_refused(answer, 403, "insufficient_scope", says="'images'")


def test_every_key_may_read_the_catalogue(organization: Organization) -> None:
    for scope in scopes.ALL:
        assert get(made(organization, scopes=[scope]), "/v1/models").status_code == 200


@pytest.mark.parametrize("document", [[], ["imagse"], "images", ["images", 1], {"images": True}, ["\0"]])
def test_it_refuses_scopes_that_are_none(organization: Organization, document: Any) -> None:
    with pytest.raises(InvalidRequest, match="images, requests, usage, keys, webhooks") as refusal:
        made(organization, scopes=document)
    assert refusal.value.param == "scopes"
    assert not ApiKey.objects.exists()


def test_the_database_knows_the_scopes_too(api_key: IssuedKey) -> None:
    for wrong in ([], ["everything"]):
        with pytest.raises(IntegrityError, match="api_key_scopes_known"), transaction.atomic():
            ApiKey.objects.update(scopes=wrong)


@pytest.mark.parametrize(
    ("document", "param"),
    [
        ([], "rules"),
        ({"model": ["x"]}, "rules"),
        ({"models": "gpt-image-1"}, "rules.models"),
        ({"models": ["*"]}, "rules.models"),
        ({"models": ["*/gpt-image-1"]}, "rules.models"),
        ({"models": ["a b"]}, "rules.models"),
        ({"models": ["x" * 121]}, "rules.models"),
        ({"models": [f"m{n}" for n in range(101)]}, "rules.models"),
        ({"sizes": ["1024"]}, "rules.sizes"),
        ({"sizes": ["0x0"]}, "rules.sizes"),
        ({"qualities": [1]}, "rules.qualities"),
        ({"on_refusal": "retry"}, "rules.on_refusal"),
        ({"on_refusal": ["next"]}, "rules.on_refusal"),
    ],
)
def test_it_refuses_rules_that_are_none(organization: Organization, document: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        made(organization, rules=document)
    assert refusal.value.param == param
    assert not ApiKey.objects.exists()


def test_it_keeps_the_rules_it_was_given(organization: Organization) -> None:
    rules = {"models": ["gpt-image-1", "openai/dall-e-3", "fal/*"], "sizes": ["auto", "512x512"], "qualities": ["low"]}
    row = ApiKey.objects.get(pk=made(organization, rules=rules).row.pk)
    assert row.key_rules.as_dict() == {**rules, "on_refusal": "stop"}
    assert row.rules == rules


def test_a_changed_key_is_not_what_was_read(organization: Organization) -> None:
    key = made(organization)
    before = keys.authenticate(key.raw)
    assert still_valid(before.key_id, before.key_version)
    changes: list[dict[str, Any]] = [{"scopes": ["images"]}, {"rules": {"sizes": ["512x512"]}}, {"name": "new"}]
    for change in changes:
        caller = keys.authenticate(key.raw)
        keys.update(key.row, **change)
        assert not still_valid(caller.key_id, caller.key_version)
        fresh = keys.look_again(caller)
        assert still_valid(fresh.key_id, fresh.key_version)
    assert fresh.rules.sizes == ("512x512",)


def test_looking_again_misses_a_scope_that_was_taken(organization: Organization) -> None:
    key = made(organization)
    caller = keys.authenticate(key.raw, checked_later=True)
    ApiKey.objects.update(scopes=["usage"], version=2)  # by another process
    assert "images" in keys.authenticate(key.raw, checked_later=True).scopes
    with pytest.raises(PermissionDenied, match="'images'"):
        keys.look_again(caller, scope="images")


def test_what_was_read_seconds_ago_keeps_nobody_out(organization: Organization) -> None:
    key = made(organization, scopes=["usage"])
    keys.authenticate(key.raw, checked_later=True)
    ApiKey.objects.update(scopes=["images"], version=2)  # by another process
    answer = Client().post("/v1/images/generations", {}, content_type="application/json", headers=key.headers)
    assert_refused(answer, 400, "missing_required_parameter", param="prompt")


def test_a_key_gives_no_scope_that_it_has_not(organization: Organization) -> None:
    manager = made(organization, scopes=["keys", "images"]).row
    assert made(organization, scopes=["images"], by=manager).row.scopes == ["images"]
    for given in (["usage"], ["images", "webhooks"], None):
        with pytest.raises(PermissionDenied) as refusal:
            made(organization, scopes=given, by=manager)
        assert (refusal.value.error_code, refusal.value.param) == ("insufficient_scope", "scopes")


def test_a_key_leaves_others_the_scopes_they_have(organization: Organization) -> None:
    manager, reader = made(organization, scopes=["keys", "images"]).row, made(organization, scopes=["usage"]).row
    assert keys.update(reader, scopes=["usage", "images"], by=manager).scopes == ["images", "usage"]
    with pytest.raises(PermissionDenied):
        keys.update(reader, scopes=["usage", "requests"], by=manager)
    assert ApiKey.objects.get(pk=reader.pk).scopes == ["images", "usage"]


@pytest.mark.parametrize("held_to", [{"rules": {"models": ["gpt-image-1"]}}, {"limits": {"concurrent": 1}}])
def test_a_key_that_makes_keys_is_not_held_to_anything(organization: Organization, held_to: dict[str, Any]) -> None:
    """It could make one that is not."""
    with pytest.raises(InvalidRequest, match="could make itself a key without them"):
        made(organization, scopes=scopes.ALL, **held_to)
    manager, limited = made(organization, scopes=scopes.ALL).row, made(organization, **held_to).row
    with pytest.raises(InvalidRequest):
        keys.update(manager, **held_to)
    with pytest.raises(InvalidRequest):
        keys.update(limited, scopes=scopes.ALL)
    assert keys.update(limited, scopes=scopes.ALL, rules={}, limits={}).scopes == list(scopes.ALL)


def test_a_rule_nobody_knows_is_an_unknown_parameter(organization: Organization) -> None:
    with pytest.raises(UnknownParameter, match="models, sizes, qualities, on_refusal"):
        made(organization, rules={"modles": []})
