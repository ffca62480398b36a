"""Provider keys and addresses: encrypted rows before the environment, and never shown."""

from __future__ import annotations

import io
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from imagesapi import catalog, configuration
from imagesapi.models import Provider, ProviderSecret
from imagesapi.values import Connection

CANARY = "sk-canary-4711"

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "FAL_KEY", "FAL_RUN_URL", "FAL_QUEUE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def _empty(db: None) -> None:
    Provider.objects.all().delete()


@pytest.fixture
def openai(_empty: None) -> Provider:
    return Provider.objects.create(slug="openai", name="OpenAI", adapter="openai")


def resolve(provider: Provider) -> Connection:
    rows = ProviderSecret.objects.filter(provider=provider)
    return configuration.connection(provider, {row.name: bytes(row.sealed) for row in rows})


def test_it_is_not_configured_without_a_key(openai: Provider) -> None:
    found = resolve(openai)
    assert not found.configured
    assert not found.custom_endpoint
    assert found.settings["OPENAI_BASE_URL"] == "https://api.openai.com/v1"


def test_it_reads_the_environment(openai: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    monkeypatch.setenv("OPENAI_BASE_URL", "https://api.openai.com/v1/")
    found = resolve(openai)
    assert found.configured
    assert found.settings["OPENAI_API_KEY"] == CANARY
    assert not found.custom_endpoint  # a slash at the end is no other address
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    assert resolve(openai).custom_endpoint


def test_it_prefers_a_stored_secret(openai: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "from the environment")
    configuration.store(openai, "OPENAI_API_KEY", f" {CANARY}\n")
    assert resolve(openai).settings["OPENAI_API_KEY"] == CANARY
    configuration.store(openai, "OPENAI_API_KEY", "")
    assert resolve(openai).settings["OPENAI_API_KEY"] == "from the environment"


def test_it_never_shows_a_secret(openai: Provider) -> None:
    configuration.store(openai, "OPENAI_API_KEY", CANARY)
    assert CANARY not in repr(resolve(openai))
    assert CANARY.encode() not in bytes(ProviderSecret.objects.get().sealed)
    catalog.load()
    assert CANARY not in repr(catalog.snapshot())


def test_it_does_not_fall_back_when_a_stored_secret_cannot_be_opened(
    openai: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "another account")
    configuration.store(openai, "OPENAI_API_KEY", CANARY)
    fal = Provider.objects.create(slug="fal", name="fal", adapter="fal")
    ProviderSecret.objects.update(provider=fal)
    moved = {row.name: bytes(row.sealed) for row in ProviderSecret.objects.all()}
    assert not configuration.connection(fal, {"FAL_KEY": moved["OPENAI_API_KEY"]}).configured
    ProviderSecret.objects.update(provider=openai, sealed=b"damaged")
    found = resolve(openai)
    assert not found.configured
    assert found.settings["OPENAI_API_KEY"] == ""


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("OPENAI_KEY", CANARY, "takes OPENAI_API_KEY, OPENAI_BASE_URL"),
        ("OPENAI_API_KEY", "two\r\nlines", "one line"),
        ("OPENAI_API_KEY", "schlüssel", "printable ASCII"),
        ("OPENAI_BASE_URL", "ftp://example.com", "http or https"),
        ("OPENAI_BASE_URL", "https://user:pass@example.com", "http or https"),
        ("OPENAI_BASE_URL", "example.com", "http or https"),
        ("OPENAI_BASE_URL", "https://example.com:port/", "http or https"),
    ],
)
def test_it_refuses_what_cannot_be_right(openai: Provider, name: str, value: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        configuration.store(openai, name, value)
    assert value not in str(refused.value)
    assert not ProviderSecret.objects.exists()


def test_it_takes_an_unknown_adapter_for_not_configured() -> None:
    ghost = Provider.objects.create(slug="ghost", name="Ghost", adapter="ghost")
    assert resolve(ghost) == Connection()


def test_it_stores_a_secret_from_standard_input(openai: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog.load()
    before = catalog.snapshot()
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{CANARY}\n"))
    out = io.StringIO()
    call_command("set_provider_secret", "openai", "OPENAI_API_KEY", stdout=out)
    assert out.getvalue() == "OPENAI_API_KEY of openai stored\n"
    after = catalog.snapshot()  # at once, in every process
    assert after.version > before.version
    assert all(
        offer.connection.configured for offer in after.models["gpt-image-1.5"].offers if offer.provider == "openai"
    )


def test_it_stores_no_part_of_a_secret(openai: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("x" * 10_001))
    with pytest.raises(CommandError, match="nothing was stored"):
        call_command("set_provider_secret", "openai", "OPENAI_API_KEY")
    assert not ProviderSecret.objects.exists()


def test_it_names_the_known_providers(openai: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(CANARY))
    with pytest.raises(CommandError, match="known are openai"):
        call_command("set_provider_secret", "opneai", "OPENAI_API_KEY")


def test_it_keeps_the_mock_configured(settings: Any) -> None:
    mock = Provider.objects.create(slug="mock", name="Mock", adapter="mock")
    assert resolve(mock).configured
