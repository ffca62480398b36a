"""The operator's commands print what a script needs and nothing else."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from typing import Any

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.utils import timezone

from accounts import keys
from accounts.models import ApiKey, Membership, Organization, User
from core.errors import InvalidApiKey
from tests.people import IssuedKey


def _run(*words: str, **options: Any) -> str:
    out = io.StringIO()
    call_command(*words, stdout=out, **options)
    return out.getvalue()


def test_it_creates_an_organization_and_prints_its_slug_alone(db: None) -> None:
    printed = _run("create_organization", "Acme Images", "--owner", "Dora@Example.com")
    assert printed == "acme-images\n"
    dora = User.objects.get(email="dora@example.com")
    assert not dora.has_usable_password()
    assert Membership.objects.get(user=dora).role == "owner"


def test_it_creates_an_organization_for_someone_who_is_here(alice: User) -> None:
    _run("create_organization", "Second", "--owner", "ALICE@example.com")
    assert User.objects.count() == 1
    assert Membership.objects.get(user=alice).organization.slug == "second"


@pytest.mark.parametrize(("name", "owner"), [("", "a@example.com"), ("x" * 121, "a@example.com"), ("Fine", "nobody")])
def test_it_creates_nothing_from_bad_input(db: None, name: str, owner: str) -> None:
    with pytest.raises(CommandError):
        _run("create_organization", name, "--owner", owner)
    assert not Organization.objects.exists()
    assert not User.objects.exists()


def test_it_creates_a_key_and_prints_it_alone(organization: Organization) -> None:
    for word in (organization.slug, str(organization.pk)):
        printed = _run("create_key", word, "--name", "script")
        assert printed.endswith("\n")
        assert keys.authenticate(printed.strip()).organization_id == organization.pk


def test_it_creates_a_key_that_expires(organization: Organization) -> None:
    _run("create_key", organization.slug, "--name", "short", "--expires-in-days", "7")
    key = ApiKey.objects.get()
    assert key.expires_at is not None
    assert (key.expires_at - key.created_at).days in (6, 7)


def test_it_creates_a_key_that_may_little(organization: Organization) -> None:
    words = ("--name", "small", "--scope", "usage", "--scope", "images", "--rpm", "60", "--concurrent", "2")
    _run("create_key", organization.slug, *words)
    key = ApiKey.objects.get()
    assert key.scopes == ["images", "usage"]
    caps = organization.limits.values_list("meter", "cap", "scope", "scope_id")
    assert sorted(caps) == [("in_flight", 2, "key", key.pk), ("requests", 60, "key", key.pk)]


@pytest.mark.parametrize("words", [("--scope", "all"), ("--rpm", "0"), ("--concurrent", "-1")])
def test_it_refuses_what_no_key_can_have(organization: Organization, words: tuple[str, ...]) -> None:
    with pytest.raises(CommandError):
        _run("create_key", organization.slug, "--name", "x", *words)
    assert not ApiKey.objects.exists()


@pytest.mark.parametrize("days", ["0", "-1", "99999999"])
def test_it_refuses_an_impossible_expiry(organization: Organization, days: str) -> None:
    with pytest.raises(CommandError, match="days"):
        _run("create_key", organization.slug, "--name", "x", f"--expires-in-days={days}")


def test_it_says_when_the_organization_is_missing(db: None) -> None:
    with pytest.raises(CommandError, match="no organization 'nobody'"):
        _run("create_key", "nobody", "--name", "x")


def test_it_says_when_the_name_is_bad(organization: Organization) -> None:
    with pytest.raises(CommandError, match="1 to 80"):
        _run("create_key", organization.slug, "--name", " ")


@pytest.mark.parametrize("spell", ["pxp_{0}", "{0}", "raw"])
def test_it_revokes_a_key_however_it_is_named(api_key: IssuedKey, spell: str) -> None:
    word = api_key.raw if spell == "raw" else spell.format(api_key.row.public_id)
    printed = _run("revoke_key", word)
    assert "is revoked" in printed
    assert api_key.raw not in printed
    with pytest.raises(InvalidApiKey, match="revoked"):
        keys.authenticate(api_key.raw)
    assert "revoked before" in _run("revoke_key", word)


def test_it_does_not_repeat_a_secret_it_does_not_know(api_key: IssuedKey) -> None:
    with pytest.raises(CommandError) as refused:
        _run("revoke_key", "pxp_000000000000.verysecret")
    assert "verysecret" not in str(refused.value)
    keys.authenticate(api_key.raw)


def test_it_prints_no_key_of_a_closed_organization(organization: Organization) -> None:
    Organization.objects.filter(pk=organization.pk).update(suspended_at=timezone.now(), closed_at=timezone.now())
    with pytest.raises(CommandError, match="closed"):
        _run("create_key", organization.slug, "--name", "late")
    assert not ApiKey.objects.exists()


def test_it_says_in_one_line_that_a_word_is_not_text() -> None:
    # Before anything is set up; without the check the database's client ends with a traceback.
    words = [sys.executable, "manage.py", "create_key", os.fsdecode(b"caf\xe9"), "--name", "x"]
    told = subprocess.run(words, cwd=settings.ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert (told.returncode, told.stderr) == (1, "What was typed is not valid UTF-8.\n")
