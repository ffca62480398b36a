"""API keys: only a hash is kept, they end at once, and their use is noted."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

import pytest
import time_machine
from django.db import connection
from django.utils import timezone

from accounts import callers, keys
from accounts.models import ApiKey, Organization, User
from core import crypto
from core.errors import InvalidApiKey, InvalidRequest, PermissionDenied
from tests.people import IssuedKey, issue


@pytest.fixture(autouse=True)
def _no_touches_remembered() -> None:
    keys._touched_at_s.clear()


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """Every statement that keys sends, with its parameters."""
    sent: list[tuple[str, dict[str, Any]]] = []
    run = keys.sql.row

    def record(statement: str, parameters: dict[str, Any]) -> tuple[Any, ...] | None:
        sent.append((statement, parameters))
        return run(statement, parameters)

    monkeypatch.setattr(keys.sql, "row", record)
    return sent


def test_it_has_the_promised_form_and_a_256_bit_secret(api_key: IssuedKey) -> None:
    assert re.fullmatch(r"pxp_[0-9a-z]{12}\.[A-Za-z0-9_-]{43}", api_key.raw)
    assert api_key.raw.startswith(f"pxp_{api_key.row.public_id}.")


def test_it_keeps_only_a_keyed_hash(api_key: IssuedKey) -> None:
    secret = api_key.raw.partition(".")[2]
    with connection.cursor() as cursor:
        cursor.execute("SELECT k::text, secret_hash FROM accounts_apikey k WHERE id = %s", [api_key.row.pk])
        row, stored = cursor.fetchone()
    assert secret not in row
    assert api_key.raw not in row
    assert bytes(stored) == crypto.keyed_hash("api-key", api_key.raw.encode())
    assert api_key.row.last_four == api_key.raw[-4:]


def test_it_hashes_differently_under_another_server_secret(api_key: IssuedKey, settings: Any) -> None:
    settings.SECRET_KEY = "another server's secret, as long as it should be"
    with pytest.raises(InvalidApiKey):
        keys.authenticate(api_key.raw)


def test_it_never_repeats_a_key(organization: Organization) -> None:
    raws = {issue(organization).raw for _ in range(20)}
    assert len(raws) == 20


def test_it_gives_the_caller_with_one_query(
    api_key: IssuedKey, organization: Organization, alice: User, statements: list[tuple[str, dict[str, Any]]]
) -> None:
    organization.default_response_format, organization.link_life_minutes = "b64_json", 90
    organization.save()
    keys.authenticate(api_key.raw)
    statements.clear()
    caller = keys.authenticate(api_key.raw)
    assert len(statements) == 1
    assert caller.organization_id == organization.pk
    assert caller.organization_slug == "alice-co"
    assert (caller.key_id, caller.key_public_id) == (api_key.row.pk, api_key.row.public_id)
    assert caller.created_by_id == alice.pk
    assert (caller.default_response_format, caller.link_life_minutes) == ("b64_json", 90)


def test_it_reads_registered_facts_in_the_same_query(
    api_key: IssuedKey, monkeypatch: pytest.MonkeyPatch, statements: list[tuple[str, dict[str, Any]]]
) -> None:
    monkeypatch.setattr(callers, "_facts", {})
    assert keys.authenticate(api_key.raw).catalogue_version == 0
    statements.clear()
    callers.register_fact("catalogue_version", "SELECT 41 + 1")
    callers.register_fact("greeting", "SELECT 'hello'")
    caller = keys.authenticate(api_key.raw)
    assert caller.catalogue_version == 42
    assert caller.facts == {"catalogue_version": 42, "greeting": "hello"}
    assert len(statements) == 1


def test_it_refuses_a_fact_with_a_strange_name() -> None:
    with pytest.raises(ValueError, match="name"):
        callers.register_fact("x; DROP TABLE", "SELECT 1")


def test_it_looks_up_by_index(api_key: IssuedKey) -> None:
    # One row would be found as cheaply by any other index, wherever the server has counted it.
    others = [
        ApiKey(
            organization_id=api_key.row.organization_id,
            public_id=f"other{number:07}",
            name="other",
            secret_hash=number.to_bytes(32),
            last_four="0000",
        )
        for number in range(500)
    ]
    ApiKey.objects.bulk_create(others)
    with connection.cursor() as cursor:
        # In tables this small any plan is as good: only the order of the statement's own text is left to it.
        cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL join_collapse_limit = 1")
        cursor.execute("EXPLAIN " + keys._lookup("k.secret_hash = %(secret_hash)s"), {"secret_hash": b"\0" * 32})
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert re.search(r"Index Scan (using|on) accounts_apikey_secret_hash", plan), plan


def test_it_ends_at_once_when_revoked(api_key: IssuedKey) -> None:
    keys.authenticate(api_key.raw)
    keys.revoke(api_key.row)
    with pytest.raises(InvalidApiKey, match="revoked"):
        keys.authenticate(api_key.raw)


def test_it_keeps_the_first_revocation(api_key: IssuedKey) -> None:
    keys.revoke(api_key.row)
    first = ApiKey.objects.get(pk=api_key.row.pk).revoked_at
    keys.revoke(ApiKey.objects.get(pk=api_key.row.pk))
    assert ApiKey.objects.get(pk=api_key.row.pk).revoked_at == first


def test_it_ends_at_its_expiry_to_the_second(organization: Organization) -> None:
    now = timezone.now().replace(microsecond=0)
    with time_machine.travel(now, tick=False):
        _, raw = keys.create(organization, name="short", expires_at=now + dt.timedelta(hours=1))
    with time_machine.travel(now + dt.timedelta(minutes=59, seconds=59), tick=False):
        keys.authenticate(raw)
    with time_machine.travel(now + dt.timedelta(hours=1), tick=False), pytest.raises(InvalidApiKey, match="expired"):
        keys.authenticate(raw)


def test_it_is_refused_while_its_organization_is_suspended(api_key: IssuedKey, organization: Organization) -> None:
    organization.suspended_at = timezone.now()
    organization.save()
    with pytest.raises(PermissionDenied) as refused:
        keys.authenticate(api_key.raw)
    assert refused.value.error_code == "organization_suspended"


def test_it_notes_its_use_once_a_minute(
    api_key: IssuedKey, statements: list[tuple[str, dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 1_000.0
    monkeypatch.setattr(keys.time, "monotonic", lambda: now_s)
    start = timezone.now().replace(microsecond=0)
    with time_machine.travel(start, tick=False) as clock:
        for _ in range(5):
            keys.authenticate(api_key.raw)
        assert ApiKey.objects.get(pk=api_key.row.pk).last_used_at == start
        assert len([sent for sent, _ in statements if "UPDATE" in sent]) == 1
        now_s += 61
        clock.shift(61)
        keys.authenticate(api_key.raw)
    assert ApiKey.objects.get(pk=api_key.row.pk).last_used_at == start + dt.timedelta(seconds=61)


def test_it_does_not_note_a_refused_use(api_key: IssuedKey) -> None:
    keys.revoke(api_key.row)
    with pytest.raises(InvalidApiKey):
        keys.authenticate(api_key.raw)
    assert ApiKey.objects.get(pk=api_key.row.pk).last_used_at is None


def test_it_tells_a_wrong_secret_and_an_unknown_id_alike(
    api_key: IssuedKey, statements: list[tuple[str, dict[str, Any]]]
) -> None:
    head, _, secret = api_key.raw.partition(".")
    wrong_secret = f"{head}.{secret[::-1]}"
    unknown_id = f"pxp_000000000000.{secret}"
    seen = []
    for raw in (wrong_secret, unknown_id):
        with pytest.raises(InvalidApiKey) as refused:
            keys.authenticate(raw)
        seen.append(refused.value.envelope())
    assert seen[0] == seen[1]
    assert len(statements) == 2


@pytest.mark.parametrize("name", ["", "   ", "x" * 81, "tab\x00nul", "bell\x07"])
def test_it_refuses_a_bad_name(organization: Organization, name: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        keys.create(organization, name=name)
    assert refused.value.param == "name"


def test_it_refuses_an_expiry_in_the_past(organization: Organization) -> None:
    with pytest.raises(InvalidRequest) as refused:
        keys.create(organization, name="late", expires_at=timezone.now() - dt.timedelta(seconds=1))
    assert refused.value.param == "expires_at"


def test_it_bounds_how_many_an_organization_has(organization: Organization, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "MAX_ACTIVE_PER_ORGANIZATION", 2)
    first = issue(organization)
    issue(organization)
    with pytest.raises(InvalidRequest, match="at most 2"):
        issue(organization)
    keys.revoke(first.row)
    issue(organization)


def test_it_is_found_by_its_id_in_any_spelling(api_key: IssuedKey) -> None:
    public_id = api_key.row.public_id
    for word in (public_id, f"pxp_{public_id}", api_key.raw, f" pxp_{public_id}\n"):
        assert keys.find(word) == api_key.row
    for word in ("", "pxp_", "nobody", "0" * 12, "\0" * 12, "é" * 12, public_id.upper() + "x"):
        assert keys.find(word) is None
