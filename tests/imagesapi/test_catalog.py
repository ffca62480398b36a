"""The catalogue: loading its files, keeping what operators changed, and finding the offers for a name."""

from __future__ import annotations

import datetime as dt
import io
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from core import errors
from imagesapi import catalog, catalogue_files, catalogue_version, configuration, listing, values
from imagesapi.catalogue_files import CatalogueError
from imagesapi.models import CatalogVersion, Model, Offer, PriceLine, Provider

TODAY = dt.date(2026, 11, 22)
Write = Callable[..., Path]

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _no_keys(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.SIMULATE_UNCONFIGURED = False
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "FAL_KEY", "FAL_RUN_URL", "FAL_QUEUE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def loaded(db: None) -> None:
    """The shipped catalogue, which the test database may bring along."""
    catalog.load()


@pytest.fixture
def empty(db: None) -> None:
    """A database without a catalogue, emptied at once: row by row each would raise the catalogue's version."""
    with connection.cursor() as cursor:
        for model in (PriceLine, Offer, Model, Provider):
            cursor.execute(f"DELETE FROM {model._meta.db_table}")
    catalogue_version.increase()


@pytest.fixture
def keys(loaded: None) -> None:
    """Both real providers have a key."""
    give_key("openai", "OPENAI_API_KEY")
    give_key("fal", "FAL_KEY")


def give_key(provider: str, name: str, value: str = "a-key") -> None:
    configuration.store(Provider.objects.get(slug=provider), name, value)


@pytest.fixture
def write(tmp_path: Path, empty: None) -> Write:
    """A data file with one provider, one model and one offer, changed as told."""

    def write(name: str = "a.json", *, price: str = "0.01", valid_from: str = "2026-01-01", **offer: Any) -> Path:
        block = {"basis": "billed", "valid_from": valid_from, "source": "a test", "as_of": "2026-11-22"}
        row = {
            "model": "painter",
            "provider": "studio",
            "wire_id": "painter-1",
            "capabilities": {"max_n": 1, "prompt_max_chars": 100, "sizes": ["1024x1024"]},
            "pricing": {},
            "prices": [{**block, "confidence": "certain", "unit": "image", "price": price}],
        }
        data = {
            "format": "pixelpar-catalogue",
            "format_version": 1,
            "providers": [{"slug": "studio", "name": "Studio", "adapter": "mock"}],
            "models": [{"slug": "painter", "name": "Painter", "released_on": "2026-01-01"}],
            "offers": [{**row, **offer}],
        }
        path = tmp_path / name
        path.write_text(json.dumps(data))
        return path

    return write


def providers_of(found: catalog.Candidates) -> list[str]:
    return sorted(offer.provider for offer in found.offers)


def find(name: str, today: dt.date = TODAY) -> catalog.Candidates:
    return catalog.candidates(catalog.snapshot(), name, today=today)


# Loading


def test_it_loads_the_shipped_files_and_changes_nothing_the_second_time(empty: None) -> None:
    first, second = io.StringIO(), io.StringIO()
    call_command("load_catalog", stdout=first)
    number = catalog.current_version()
    call_command("load_catalog", stdout=second)
    assert "model gpt-image-1 added" in first.getvalue()
    assert "offer fal/gpt-image-1: 11 prices added" in first.getvalue()
    assert second.getvalue() == "nothing changed\n"
    assert catalog.current_version() == number
    line = PriceLine.objects.get(
        offer__model__slug="gpt-image-1", offer__provider__slug="openai", meter="image_output_token"
    )
    assert line.unit_price_picos == 40_000_000


def test_it_adds_a_changed_price_as_a_new_row(write: Write) -> None:
    catalog.load([write()])
    report = catalog.load([write("a.json"), write("b.json", price="0.02", valid_from="2026-12-01")])
    assert report.changes == ["offer studio/painter: 1 prices added"]
    prices = PriceLine.objects.order_by("valid_from").values_list("unit_price_picos", flat=True)
    assert list(prices) == [10_000_000_000, 20_000_000_000]


def test_it_refuses_another_price_from_the_same_day(write: Write) -> None:
    catalog.load([write()])
    with pytest.raises(CatalogueError, match=r"billed price of image .*2026-01-01 .* later valid_from"):
        catalog.load([write(price="0.02", notes="new words")])
    assert Offer.objects.get().notes == ""  # one transaction: nothing of the file stays


def test_it_keeps_what_an_operator_changed(write: Write) -> None:
    catalog.load([write(notes="ours", weight=1)])
    Offer.objects.update(weight=7)
    report = catalog.load([write(notes="ours, revised", weight=2)])
    offer = Offer.objects.get()
    assert (offer.weight, offer.notes) == (7, "ours, revised")
    assert offer.loaded["weight"] == 2
    assert report.changes == ["offer studio/painter: notes changed"]
    assert report.kept == ["offer studio/painter: weight"]


def test_it_keeps_a_row_that_an_operator_made(write: Write) -> None:
    Provider.objects.create(slug="studio", name="Our own studio", adapter="mock")
    catalog.load([write()])
    assert Provider.objects.get().name == "Our own studio"


def test_it_fills_a_field_that_earlier_files_did_not_have(write: Write) -> None:
    catalog.load([write(notes="words")])
    offer = Offer.objects.get()
    del offer.loaded["notes"]
    offer.notes = ""
    offer.save()
    catalog.load([write(notes="words")])
    assert Offer.objects.get().notes == "words"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"price": "free"}, "decimal string"),
        ({"price": "-1"}, "decimal string"),
        ({"price": "0.0000000000001"}, "decimal string"),
        ({"price": "0"}, "price of zero"),
        ({"valid_from": "yesterday"}, "valid_from: not a date"),
        ({"colour": "red"}, "unknown field 'colour'"),
        ({"weight": "3"}, "weight has the wrong type"),
        ({"weight": True}, "weight has the wrong type"),
        ({"provider": "atelier"}, "no such provider"),
        ({"retires_on": "soon"}, "retires_on: not a date"),
        ({"capabilities": {"max_n": 0, "prompt_max_chars": 1}}, "max_n must be"),
        ({"capabilities": {"max_n": 1, "prompt_max_chars": 1, "magic": True}}, "unknown field 'magic'"),
        ({"capabilities": {"max_n": 1, "prompt_max_chars": 1, "size_style": "pixels"}}, "size_rules must give"),
        ({"capabilities": {"max_n": 1, "prompt_max_chars": 1, "qualities": ["low"]}}, "assumed_quality"),
        ({"pricing": {"rounding": {"step_nanos": 5, "direction": "down", "per": "request"}}}, "rounding is by"),
        ({"pricing": {"ceiling_tokens": -5}}, "token counts"),
        ({"pricing": {"discount": 5}}, "unknown field 'discount'"),
        ({"pricing": {"free": True}}, "price of zero"),
    ],
)
def test_it_says_what_is_wrong_with_a_file(write: Write, changes: dict[str, Any], message: str) -> None:
    path = write(**changes)
    with pytest.raises(CommandError, match=message):
        call_command("load_catalog", str(path))


def test_it_refuses_what_is_no_catalogue(tmp_path: Path) -> None:
    for text in ("{", "[]", '{"format": "other"}'):
        path = tmp_path / "x.json"
        path.write_text(text)
        with pytest.raises(CatalogueError, match=r"x\.json"):
            catalog.load([path])


def test_it_lets_one_name_lead_to_one_model() -> None:
    found = catalogue_files.read()
    names = [*found.models, *(alias for row in found.models.values() for alias in row["aliases"])]
    assert len(names) == len(set(names))


# The snapshot


def test_it_reads_the_catalogue_again_only_when_the_version_rose(loaded: None, django_assert_num_queries: Any) -> None:
    first = catalog.snapshot()
    with django_assert_num_queries(0):
        assert catalog.snapshot(first.version) is first
    offer = Offer.objects.get(model__slug="gpt-image-1", provider__slug="fal")
    offer.weight = 3
    offer.save()
    second = catalog.snapshot(catalog.current_version())
    assert second.offers[offer.pk].weight == 3
    assert first.offers[offer.pk].weight == 0
    # A request that read its number before the change neither goes back nor makes everyone read again.
    with django_assert_num_queries(1):
        assert catalog.snapshot(first.version) is second


def test_it_never_gives_one_version_number_twice(loaded: None) -> None:
    from django.db import transaction

    numbers = [catalog.current_version()]
    for _ in range(2):
        with transaction.atomic():
            Provider.objects.get(slug="fal").save()
            numbers.append(catalog.current_version())
            transaction.set_rollback(True)
    assert len(set(numbers)) == 3


def test_it_keeps_only_prices_that_can_still_be_needed(loaded: None) -> None:
    offer = Offer.objects.get(model__slug="flux.1-dev", provider__slug="fal")
    old = offer.price_lines.get()
    for days, picos in ((-30, 1), (-10, 2), (10, 3)):
        PriceLine.objects.create(
            offer=offer,
            meter=old.meter,
            conditions={},
            unit_price_picos=picos,
            basis="billed",
            valid_from=dt.datetime.now(dt.UTC) + dt.timedelta(days=days),
            source="a test",
            as_of=TODAY,
            confidence="certain",
        )
    kept = catalog.snapshot().offers[offer.pk].prices
    assert [line.unit_price_picos for line in kept] == [2, 3]


def test_it_leaves_out_an_offer_that_an_edit_broke(loaded: None) -> None:
    offer = Offer.objects.get(model__slug="gpt-image-2", provider__slug="fal")
    offer.capabilities = {"max_n": "many"}
    offer.save()
    found = catalog.snapshot()
    assert offer.pk not in found.offers
    assert [offer.provider for offer in found.models["gpt-image-2"].offers] == ["openai"]


@pytest.mark.parametrize("late", ["provider", "model"])
def test_it_reads_again_what_came_while_it_read(loaded: None, monkeypatch: pytest.MonkeyPatch, late: str) -> None:
    """The tables are read one after the other: what is in a later one may belong to what an earlier one lacked."""
    number = catalog.current_version()
    shown = catalog.snapshot().models.keys()
    kind: Any = Provider if late == "provider" else Model

    class Rows:
        """Those from before an offer, its provider and its model were made."""

        def order_by(self, *_: str) -> list[Any]:
            before = list(kind.objects.order_by("slug"))
            model = Model.objects.create(slug="sketch-1", name="Sketch", released_on=dt.date(2026, 1, 1))
            studio = Provider.objects.create(slug="studio", name="Our studio", adapter="mock")
            Offer.objects.create(model=model, provider=studio, wire_id="x")
            return before

        all = order_by

    with monkeypatch.context() as patch:
        patch.setattr(catalog, kind.__name__, type("Earlier", (), {"objects": Rows()}))
        found = catalog._read(number)
    assert found.version == number
    assert all(offer.provider != "studio" for offer in found.offers.values())
    assert catalog.current_version() != number
    assert catalog.snapshot().models.keys() == {*shown, "sketch-1"}


def test_it_reads_once_for_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []

    def read(version: int) -> catalog.Snapshot:
        reads.append(version)
        time.sleep(0.05)
        return catalog.Snapshot(version, {}, {}, {}, frozenset(), values.Connection())

    monkeypatch.setattr(catalog, "_current", None)
    monkeypatch.setattr(catalog, "_read", read)
    monkeypatch.setattr(catalog, "current_version", lambda: 5)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(catalog.snapshot, [5] * 8))
    assert reads == [5]
    assert all(snapshot is found[0] for snapshot in found)


# Life-cycle


@pytest.mark.parametrize(
    ("name", "day", "expected"),
    [
        ("openai/gpt-image-1", "2026-10-22", "deprecated"),
        ("openai/gpt-image-1", "2026-10-23", "retired"),
        ("fal/gpt-image-1", "2026-10-22", "active"),
        ("fal/gpt-image-1", "2026-10-23", "deprecated"),
        ("fal/gpt-image-1", "2030-01-01", "deprecated"),
        ("openai/gpt-image-1.5", "2026-11-22", "deprecated"),
        ("openai/gpt-image-1-mini", "2026-12-01", "retired"),
        ("openai/gpt-image-2", "2026-12-01", "active"),
        ("openai/dall-e-3", "2026-05-12", "retired"),
    ],
)
def test_it_computes_the_state_from_the_date(loaded: None, name: str, day: str, expected: str) -> None:
    provider, _, model = name.partition("/")
    offers = catalog.snapshot().models[model].offers
    offer = next(offer for offer in offers if offer.provider == provider)
    assert catalog.state(offer, dt.date.fromisoformat(day)) == expected


# Candidates


def test_it_finds_offers_by_slug_alias_and_pin(keys: None) -> None:
    assert providers_of(find("gpt-image-2")) == ["fal", "openai"]
    by_alias = find("gpt-image-2-2026-04-21")
    assert (by_alias.model, by_alias.redirected_from) == ("gpt-image-2", None)
    assert providers_of(find("fal/gpt-image-2")) == ["fal"]
    assert providers_of(find("openai/gpt-image-2-2026-04-21")) == ["openai"]


def test_it_skips_a_retired_offer(keys: None) -> None:
    assert providers_of(find("gpt-image-1")) == ["fal"]
    assert providers_of(find("gpt-image-1", dt.date(2026, 10, 22))) == ["fal", "openai"]


def test_it_names_the_nearest_model_for_an_unknown_one(keys: None) -> None:
    for name, near in (("gpt-image1", "gpt-image-1"), ("GPT-IMAGE-2", "gpt-image-2"), ("fal/flux-schnell", "flux.1")):
        with pytest.raises(errors.ModelNotFound, match=f"Did you mean {near}"):
            find(name)
    with pytest.raises(errors.ModelNotFound) as refused:
        find("x" * 100_000)
    assert len(refused.value.message) < 300


def test_it_says_who_offers_a_model_pinned_to_the_wrong_provider(keys: None) -> None:
    with pytest.raises(
        errors.ModelNotFound, match=r"openai does not offer flux\.1-dev; it is offered by fal, replicate\."
    ):
        find("openai/flux.1-dev")


def test_it_names_the_successor_of_a_retired_model(keys: None) -> None:
    with pytest.raises(errors.ModelRetired, match=r"retired on 2026-05-12\. Use gpt-image-2 instead"):
        find("dall-e-3")
    with pytest.raises(errors.ModelRetired, match="2026-10-23"):
        find("openai/gpt-image-1")


def test_it_redirects_only_where_the_operator_said_so(keys: None) -> None:
    model = Model.objects.get(slug="dall-e-3")
    model.redirects = True
    model.save()
    found = find("dall-e-3")
    assert (found.model, found.redirected_from) == ("gpt-image-2", "dall-e-3")
    assert providers_of(find("openai/dall-e-3")) == ["openai"]


def test_it_ends_a_circle_of_redirects(keys: None) -> None:
    Model.objects.filter(slug="dall-e-3").update(redirects=True, successor="dall-e-2")
    circle = Model.objects.get(slug="dall-e-2")
    circle.redirects, circle.successor = True, "dall-e-3"
    circle.save()
    with pytest.raises(errors.ModelRetired):
        find("dall-e-3")


def test_it_keeps_a_retired_model_at_an_address_the_operator_chose(keys: None) -> None:
    give_key("openai", "OPENAI_BASE_URL", "https://images.example.com/v1")
    assert providers_of(find("gpt-image-1")) == ["fal", "openai"]


def test_it_never_routes_to_a_provider_without_a_key(loaded: None) -> None:
    with pytest.raises(errors.NotConfigured, match="offered by fal, openai, which this server has no key for"):
        find("gpt-image-2")
    give_key("fal", "FAL_KEY")
    assert providers_of(find("gpt-image-2")) == ["fal"]
    with pytest.raises(errors.NotConfigured):
        find("openai/gpt-image-2")


def test_it_lets_the_mock_stand_in_where_nothing_is_configured(loaded: None, settings: Any) -> None:
    settings.SIMULATE_UNCONFIGURED = True
    found = find("gpt-image-1")
    assert providers_of(found) == ["fal", "openai"]  # a simulated offer outlives the public endpoint
    assert all(offer.simulated and offer.adapter == "mock" for offer in found.offers)
    real = catalog.snapshot().offers
    assert all(offer.prices == real[offer.id].prices for offer in found.offers)


def test_it_never_mixes_real_and_simulated_offers(loaded: None, settings: Any) -> None:
    settings.SIMULATE_UNCONFIGURED = True
    give_key("fal", "FAL_KEY")
    found = find("gpt-image-1")
    assert [(offer.provider, offer.simulated) for offer in found.offers] == [("fal", False)]
    pinned = find("openai/gpt-image-1")
    assert [(offer.provider, offer.simulated) for offer in pinned.offers] == [("openai", True)]


def test_it_always_offers_the_mock_model(loaded: None) -> None:
    found = find("mock-image")
    assert [(offer.provider, offer.simulated) for offer in found.offers] == [("mock", False)]


def test_it_forgets_what_the_operator_switched_off(keys: None) -> None:
    fal = Provider.objects.get(slug="fal")
    fal.enabled = False
    fal.save()
    assert providers_of(find("gpt-image-2")) == ["openai"]
    model = Model.objects.get(slug="gpt-image-2")
    model.enabled = False
    model.save()
    with pytest.raises(errors.ModelNotFound):
        find("gpt-image-2")


def test_it_has_a_version_before_anything_is_loaded(empty: None) -> None:
    CatalogVersion.objects.all().delete()
    assert catalog.current_version() == 0
    assert catalog.snapshot(0).models == {}


@pytest.mark.parametrize(
    ("name", "can", "takes"),
    [
        ("gpt-image-1", ["generation", "editing", "inpainting", "streaming"], ["text", "image"]),
        ("flux.1-schnell", ["generation"], ["text"]),
        ("mock-upscale", ["editing", "upscaling"], ["text", "image"]),
    ],
)
def test_it_tells_what_a_model_can_do(keys: None, name: str, can: list[str], takes: list[str]) -> None:
    document = listing.model(catalog.snapshot(), name)
    assert document["capabilities"] == can
    assert document["modalities"] == {"input": takes, "output": ["image"]}
