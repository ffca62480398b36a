"""Providers that share an adapter: settings named after each, rows that an operator writes, and their whole way."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from billing.models import Transfer
from imagesapi import catalog, catalogue_files, configuration
from imagesapi.models import Generation, Provider
from imagesapi.providers import openai_compatible
from imagesapi.values import Connection
from tests.fakes.providers import TOGETHER_KEY, XAI_KEY, ProviderFake
from tests.imagesapi import adapters
from tests.imagesapi.conftest import Caller


@pytest.fixture
def loaded(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XAI_API_KEY", "XAI_BASE_URL", "TOGETHER_API_KEY", "TOGETHER_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    catalog.load()


def connection(slug: str) -> Connection:
    return configuration.connection(Provider.objects.get(slug=slug), {})


def test_it_is_off_until_a_provider_has_its_own_key(loaded: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not connection("xai").configured
    monkeypatch.setenv("XAI_API_KEY", XAI_KEY)
    found = connection("xai")
    assert (found.configured, found.custom_endpoint) == (True, False)
    assert found.settings == {"XAI_API_KEY": XAI_KEY, "XAI_BASE_URL": "https://api.x.ai/v1"}
    assert found.options["dialect"] == "xai"
    assert not connection("together").configured
    monkeypatch.setenv("TOGETHER_API_KEY", TOGETHER_KEY)
    assert connection("together").settings["TOGETHER_BASE_URL"] == "https://api.together.xyz/v1"


def test_it_keeps_a_secret_under_the_providers_own_name(loaded: None) -> None:
    provider = Provider.objects.get(slug="xai")
    configuration.store(provider, "XAI_API_KEY", XAI_KEY)
    with pytest.raises(ValueError, match="it takes XAI_API_KEY, XAI_BASE_URL"):
        configuration.store(provider, "TOGETHER_API_KEY", "no")


def test_it_serves_a_local_server_from_a_file_of_the_operator(
    loaded: None, fake: ProviderFake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The example of docs/providers.md, as it stands there."""
    text = (Path(__file__).parents[2] / "docs" / "providers.md").read_text()
    example = next(part for part in text.split("```json\n")[1:]).partition("```")[0]
    data = json.loads(example)
    data["providers"][0]["options"]["base_url"] = fake.local_url
    path = tmp_path / "local.json"
    path.write_text(json.dumps(data))
    out = io.StringIO()
    call_command("load_catalog", str(path), stdout=out)
    assert "provider my-server added" in out.getvalue()
    monkeypatch.setattr(catalog, "_current", None)
    offer = next(one for one in catalog.snapshot().offers.values() if one.provider == "my-server")
    assert offer.connection.configured
    call = adapters.call(openai_compatible, offer, quality=None, size="512x512")
    assert openai_compatible.run(call).pictures
    catalog._current = None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dialect": "klingon"}, "dialect must be one of plain, xai, together"),
        ({"base_url": "ftp://x"}, "base_url must be"),
        ({"base_url": 7}, "wrong type"),
        ({"result_hosts": "x.ai"}, "wrong type"),
        ({"key": "secret"}, "unknown field 'key'"),
    ],
)
def test_it_refuses_options_that_mean_nothing(tmp_path: Path, options: Any, message: str) -> None:
    row = {"slug": "x", "name": "X", "adapter": "openai_compatible", "options": options}
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"format": "pixelpar-catalogue", "format_version": 1, "providers": [row]}))
    with pytest.raises(catalogue_files.CatalogueError, match=message):
        catalogue_files.read([path])


@pytest.fixture
def grok(caller: Caller, fake: ProviderFake, monkeypatch: pytest.MonkeyPatch) -> Caller:
    """A caller of a server with a key for xAI."""
    monkeypatch.setenv("XAI_API_KEY", XAI_KEY)
    monkeypatch.setenv("XAI_BASE_URL", fake.xai_url)
    return caller


@pytest.mark.django_db
def test_it_charges_exactly_what_xai_tells(grok: Caller, fake: ProviderFake) -> None:
    asked = {"model": "grok-imagine-image-2.0", "prompt": "a red fox", "size": "1024x1024", "quality": "low", "n": 2}
    answer = grok.send(asked)
    assert answer.status_code == 200, answer.content
    assert len(answer.json()["data"]) == 2
    receipt = Generation.objects.get().receipt or {}
    assert receipt["charged"] == "0.08"
    assert receipt["items"][0]["label"] == "cost as reported by xAI"
    assert receipt["list_price"]["total"] == "0.08"
    assert receipt["evidence"]["usage"] == {"cost_in_usd_ticks": 800_000_000}
    (charge,) = Transfer.objects.exclude(kind="grant")
    assert charge.amount_nanos == 80_000_000
    assert [seen.json["aspect_ratio"] for seen in fake.requests] == ["1:1"]


@pytest.mark.django_db
def test_it_tells_the_caller_of_a_block_and_charges_nothing(grok: Caller, fake: ProviderFake) -> None:
    fake.xai.hold_back = 1
    answer = grok.send({"model": "grok-imagine-image", "prompt": "a red fox"})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "moderation_blocked"
    assert not Transfer.objects.exclude(kind="grant").exists()
