"""Provider keys that organizations bring: kept, used first, never shown, never shared, and free of charge here."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
from typing import Any

import pytest
from django.test import Client

from accounts import keys, scopes
from accounts.callers import Caller
from accounts.models import Organization
from core import crypto, errors, ids, sql
from imagesapi import catalog, own_keys, routing
from imagesapi.models import Offer, OwnProviderKey
from imagesapi.values import Connection, Preference
from tests.envelope import assert_refused
from tests.imagesapi import plans
from tests.imagesapi.plans import offer, order, own_plan
from tests.people import IssuedKey

SECRET = "sk-brought-0123456789-WXYZ"
ROUTE = "/v1/provider-keys"
UNCONFIGURED = Connection({"OPENAI_BASE_URL": "https://ours.example/v1"})


@pytest.fixture
def manager(organization: Organization) -> Client:
    """Somebody with a key that may manage keys."""
    return _client(organization)


@pytest.fixture
def stranger(other_organization: Organization) -> Client:
    return _client(other_organization)


def _client(organization: Organization) -> Client:
    _, raw = keys.create(organization, name="manager", scopes=list(scopes.ALL))
    return Client(headers={"Authorization": f"Bearer {raw}"})


def put(client: Client, **members: Any) -> Any:
    return client.put(ROUTE, json.dumps({"provider": "openai", **members}), content_type="application/json")


def look(key: IssuedKey) -> Caller:
    return keys.authenticate(key.raw)


# --- the API ----------------------------------------------------------------------------------------------------------


def test_it_keeps_a_key_and_never_shows_it(manager: Client) -> None:
    made = put(manager, secret=SECRET)
    assert made.status_code == 200
    document = dict(made.json())
    assert ids.parse("pky", document.pop("id"))
    assert abs(document.pop("created_at") - dt.datetime.now(dt.UTC).timestamp()) < 60
    assert document == {
        "object": "provider_key",
        "provider": "openai",
        "name": "OPENAI_API_KEY",
        "last_four": "WXYZ",
        "fallback": True,
        "enabled": True,
    }
    listed = manager.get(ROUTE)
    assert listed.json() == {"object": "list", "data": [made.json()]}
    assert SECRET.encode() not in made.content + listed.content
    assert SECRET.encode() not in bytes(OwnProviderKey.objects.get().sealed)


def test_it_changes_a_key_in_place(manager: Client) -> None:
    made = put(manager, secret=SECRET).json()
    assert put(manager, fallback=False, enabled=False).json() == {**made, "fallback": False, "enabled": False}
    changed = put(manager, secret="sk-another-0123456789-ABCD").json()
    assert changed == {**made, "fallback": False, "enabled": False, "last_four": "ABCD"}
    assert OwnProviderKey.objects.count() == 1


def test_it_forgets_a_key(manager: Client, stranger: Client) -> None:
    key_id = put(manager, secret=SECRET).json()["id"]
    foreign, missing = stranger.delete(f"{ROUTE}/{key_id}"), stranger.delete(f"{ROUTE}/{ids.public('pky', ids.new())}")
    assert (foreign.status_code, missing.status_code) == (404, 404)
    assert manager.delete(f"{ROUTE}/{key_id}").json() == {"id": key_id, "object": "provider_key", "deleted": True}
    assert manager.delete(f"{ROUTE}/{key_id}").status_code == 404
    assert manager.get(ROUTE).json()["data"] == []


def test_it_is_for_keys_that_manage_keys(organization: Organization) -> None:
    _, raw = keys.create(organization, name="plain")
    client = Client(headers={"Authorization": f"Bearer {raw}"})
    for answer in (client.get(ROUTE), put(client, secret=SECRET), client.delete(f"{ROUTE}/pky_x")):
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "insufficient_scope")
    assert not OwnProviderKey.objects.exists()


@pytest.mark.parametrize(
    ("members", "param", "code"),
    [
        ({"provider": "mock", "secret": SECRET}, "provider", "invalid_value"),
        ({"provider": "nobody", "secret": SECRET}, "provider", "invalid_value"),
        ({"provider": "open\x00ai", "secret": SECRET}, "provider", "invalid_value"),
        ({"provider": None, "secret": SECRET}, "provider", "missing_required_parameter"),
        ({"provider": 1}, "provider", "invalid_type"),
        ({}, "secret", "missing_required_parameter"),
        ({"secret": ""}, "secret", "invalid_value"),
        ({"secret": "short"}, "secret", "invalid_value"),
        ({"secret": "x" * 501}, "secret", "invalid_value"),
        ({"secret": "sk-line\r\nX-Evil: 1234"}, "secret", "invalid_value"),
        ({"secret": "sk-ümlaut-0123456789"}, "secret", "invalid_value"),
        ({"secret": [SECRET]}, "secret", "invalid_type"),
        ({"secret": SECRET, "name": "OPENAI_BASE_URL"}, "name", "invalid_value"),
        ({"secret": SECRET, "name": "SECRET_KEY"}, "name", "invalid_value"),
        ({"secret": SECRET, "fallback": "no"}, "fallback", "invalid_type"),
        ({"secret": SECRET, "base_url": "https://evil.example"}, "base_url", "unknown_parameter"),
    ],
)
def test_it_refuses_what_is_no_key(manager: Client, members: dict[str, Any], param: str, code: str) -> None:
    answer = put(manager, **members)
    assert answer.status_code == 400, answer.content
    assert (answer.json()["error"]["param"], answer.json()["error"]["code"]) == (param, code)
    assert not OwnProviderKey.objects.exists()


# --- where it is kept -------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_it_refuses_a_query_that_it_would_not_read(manager: Client) -> None:
    path, body = f"{ROUTE}?provider=openai", json.dumps({"provider": "openai", "secret": SECRET})
    for answer in (manager.get(path), manager.put(path, body, content_type="application/json")):
        assert_refused(answer, 400, "unknown_parameter", param="provider", says="takes none")
    assert not OwnProviderKey.objects.exists()


def test_it_takes_json_only(manager: Client) -> None:
    answer = manager.put(ROUTE, json.dumps({"provider": "openai", "secret": SECRET}), content_type="text/plain")
    assert_refused(answer, 415, "unsupported_media_type", says="application/json")
    assert not OwnProviderKey.objects.exists()


def test_it_binds_a_secret_to_its_row(organization: Organization, other_organization: Organization) -> None:
    """Somebody who can write the table still cannot use another's secret."""
    own_keys.store(organization.pk, provider="openai", secret=SECRET)
    mine = OwnProviderKey.objects.get()
    assert dict(own_keys.read(organization.pk)["openai"].secrets) == {"OPENAI_API_KEY": SECRET}
    OwnProviderKey.objects.create(
        organization=other_organization, provider=mine.provider, name=mine.name, sealed=mine.sealed, last_four="WXYZ"
    )
    assert own_keys.read(other_organization.pk)["openai"].secrets == {"OPENAI_API_KEY": ""}
    with pytest.raises(ValueError, match="belongs to another row"):
        crypto.decrypt(bytes(mine.sealed), row="providersecret:openai:OPENAI_API_KEY")
    assert SECRET not in repr(own_keys.read(organization.pk))


def test_it_costs_others_no_round_trip(
    api_key: IssuedKey, other_api_key: IssuedKey, organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_keys.store(organization.pk, provider="openai", secret=SECRET)
    caller, other = look(api_key), look(other_api_key)
    assert own_keys.of(caller)["openai"].fallback
    monkeypatch.setattr(own_keys, "read", lambda _: pytest.fail("a round trip"))
    assert own_keys.of(other) == {}
    assert own_keys.of(caller)["openai"].secrets == {"OPENAI_API_KEY": SECRET}


def test_it_notices_every_change(api_key: IssuedKey, organization: Organization) -> None:
    seen = [own_keys.version(look(api_key))]
    assert seen == [None]
    store: dict[str, Any] = {"organization_id": organization.pk, "provider": "openai"}
    for change in ({"secret": SECRET}, {"secret": SECRET}, {"fallback": False}, {"provider": "fal", "secret": SECRET}):
        own_keys.store(**{**store, **change})
        caller = look(api_key)
        seen.append(own_keys.version(caller))
        assert own_keys.of(caller) == own_keys.read(organization.pk)
        assert _still_current(organization, seen[-1])
        assert not _still_current(organization, seen[-2])
    assert len(set(seen)) == 5
    for provider in ("openai", "fal"):
        own_keys.store(organization.pk, provider=provider, enabled=False)
    assert own_keys.version(look(api_key)) is None
    assert _still_current(organization, None)


def _still_current(organization: Organization, version: str | None) -> bool:
    parameters = {"organization_id": organization.pk, "own_keys_version": version}
    return bool((sql.row(f"SELECT {own_keys.STILL_CURRENT}", parameters) or (None,))[0])


@pytest.mark.django_db
def test_it_keeps_a_bounded_number_in_memory(organization: Organization, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_keys, "_CACHED_MAX", 3)
    for number in range(10):
        own_keys.of(plans.caller(own_keys_version=f"version {number}"))
    assert len(own_keys._cached) == 3


# --- routing ----------------------------------------------------------------------------------------------------------


def test_it_goes_first_and_costs_nothing() -> None:
    found = own_plan(offer("a", 1), offer("b", 2, dollars="0.09"), at=("b",), provider_order=("a",))
    assert [(one.offer.provider, one.own_key, one.hold_nanos) for one in found.candidates] == [
        ("b", True, 0),
        ("a", False, 10_000_000),
        ("b", False, 90_000_000),
    ]
    assert found.hold_nanos == 90_000_000
    assert found.first.offer.connection.settings["OPENAI_API_KEY"] == "sk-of-the-organization"
    assert found.candidates[2].offer.connection.settings["OPENAI_API_KEY"] == "sk-of-the-operator"


def test_it_stays_alone_without_fallback() -> None:
    found = own_plan(offer("a", 1), offer("b", 2), at=("b",), fallback=False)
    assert (order(found), found.first.own_key, found.hold_nanos) == (["b"], True, 0)


def test_it_matters_only_where_the_provider_offers_the_model() -> None:
    found = own_plan(offer("a", 1), at=("nobody",), fallback=False)
    assert [(one.offer.provider, one.own_key) for one in found.candidates] == [("a", False)]


def test_it_costs_nothing_elsewhere_when_the_own_provider_cannot_do_it() -> None:
    """Without fallback a request that the own provider refuses is refused, not served at a price."""
    small = plans.offer("a", 1).capabilities
    unable = offer("a", 1, capabilities=type(small)(max_n=1, prompt_max_chars=3, sizes=("1024x1024",)))
    assert order(own_plan(unable, offer("b", 2), at=("a",))) == ["b"]
    with pytest.raises(errors.InvalidRequest):
        own_plan(unable, offer("b", 2), at=("a",), fallback=False)


def test_it_opens_a_provider_the_operator_has_no_key_for(settings: Any) -> None:
    settings.SIMULATE_UNCONFIGURED = True
    alone = offer("a", 1, connection=UNCONFIGURED)
    assert plans.plan(alone).simulated
    found = own_plan(alone)
    assert [(one.own_key, one.offer.simulated) for one in found.candidates] == [(True, False)]
    assert found.first.offer.connection.settings == {
        "OPENAI_API_KEY": "sk-of-the-organization",
        "OPENAI_BASE_URL": "https://ours.example/v1",
    }
    beside = own_plan(alone, offer("b", 2, connection=UNCONFIGURED), at=("a",))
    assert [one.offer.simulated for one in beside.candidates] == [False]


def test_it_never_borrows_the_operators_secret() -> None:
    both = Connection({"OPENAI_API_KEY": "sk-of-the-operator"}, configured=True)
    brought = own_keys.bring(offer("a", 1, connection=both), own_keys.OwnKey({"OPENAI_API_KEY": ""}, fallback=True))
    assert brought.connection.settings["OPENAI_API_KEY"] == ""
    assert not brought.connection.configured


@pytest.mark.parametrize("fallback", [True, False])
def test_it_says_when_a_key_cannot_be_read(fallback: bool) -> None:
    unreadable = {"a": own_keys.OwnKey({"OPENAI_API_KEY": ""}, fallback=fallback)}
    with pytest.raises(errors.PermissionDenied) if not fallback else contextlib.nullcontext() as refusal:
        found = plans.plan(offer("a", 1), own=unreadable)
        assert [one.own_key for one in found.candidates] == [False]
    if refusal is not None:
        assert refusal.value.error_code == "own_provider_key_unusable"


def test_it_follows_what_the_request_leaves_out() -> None:
    only_b = {"preference": Preference(only=("b",))}
    assert [one.own_key for one in own_plan(offer("a", 1), offer("b", 2), at=("a",), asked=only_b).candidates] == [
        False
    ]
    with pytest.raises(errors.InvalidRequest):
        own_plan(offer("a", 1), offer("b", 2), at=("a",), fallback=False, asked=only_b)


def test_it_keeps_a_pinned_provider() -> None:
    found = own_plan(offer("a", 1), offer("b", 2), at=("a",), asked={"model": f"b/{plans.MODEL}"})
    assert [(one.offer.provider, one.own_key) for one in found.candidates] == [("b", False)]


def test_it_reads_the_callers_keys_for_its_plan(api_key: IssuedKey, organization: Organization) -> None:
    own_keys.store(organization.pk, provider="fal", secret=SECRET, fallback=False)
    caller = look(api_key)
    asked = plans.request(model="gpt-image-1.5", quality="low")
    moment = dt.datetime.now(dt.UTC)
    found = routing.plan_for(caller, asked, catalog.snapshot(), at=moment)
    assert (order(found), found.hold_nanos) == (["fal"], 0)
    assert found.own_keys_version == own_keys.version(caller)
    assert found.first.offer.connection.settings["FAL_KEY"] == SECRET
    row = Offer.objects.get(provider__slug="fal", model__slug="gpt-image-1.5")
    again = own_keys.offer_of(catalog.snapshot().offers[row.pk], organization_id=organization.pk)
    assert again == found.first.offer
    OwnProviderKey.objects.all().delete()
    assert own_keys.offer_of(catalog.snapshot().offers[row.pk], organization_id=organization.pk) is None
