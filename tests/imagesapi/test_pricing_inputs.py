"""Prices of given pictures, of unfinished ones, of several calls, and costs that a provider tells itself."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any

import pytest

from core import errors, money
from imagesapi import pricing, receipts, tokens
from imagesapi.estimates import Estimate
from imagesapi.providers import fal
from imagesapi.routing import Candidate
from imagesapi.values import Answer, ImageRequest, InputImage, Offer, Picture, PriceLine, Usage
from tests.imagesapi.offers import NOON, catalogue, fitted

SQUARE = InputImage("image/png", 1024, 1024, sha256="")


def picture(width: int, height: int) -> InputImage:
    return InputImage("image/png", width, height, sha256="")


def quantities(found: Estimate) -> dict[str, int]:
    return {item.meter: item.quantity_micros // money.MICROS_PER_UNIT for item in found.items}


def answer(count: int, **changes: Any) -> Answer:
    return Answer(pictures=[Picture(b64="AA==") for _ in range(count)], **changes)


def edit(**changes: Any) -> Any:
    return fitted(**{"operation": "edit", "images": (SQUARE,), **changes})


def line(meter: str, picos: int, **conditions: str) -> PriceLine:
    return PriceLine(7, meter, conditions, picos, "billed", NOON - dt.timedelta(days=1), "a test", NOON.date())


def per_picture(*lines: PriceLine, **stated: Any) -> Offer:
    base = catalogue()["fal/flux.1-dev"]
    return dataclasses.replace(base, prices=(line("image", 40_000_000_000), *lines), pricing=stated)


# Given pictures in tokens


@pytest.mark.parametrize(
    ("pixels", "fidelity", "expected"),
    [
        ((1024, 1024), None, 65 + 129),
        ((1025, 1024), None, 65 + 129),  # as billed: scaled down first, then whole tiles
        ((512, 513), None, 65 + 2 * 129),
        ((1536, 1024), "low", 65 + 2 * 129),
        ((300, 200), "low", 65 + 129),
        ((1024, 1024), "high", 65 + 129 + 4160),
        ((1024, 1536), "high", 65 + 2 * 129 + 6240),
    ],
)
def test_it_counts_the_tiles_of_a_given_picture(pixels: tuple[int, int], fidelity: str | None, expected: int) -> None:
    offer = catalogue()["openai/gpt-image-1"]
    assert tokens.input_tokens(offer.pricing, pixels, fidelity=fidelity) == expected
    found = pricing.expected(offer, edit(images=(picture(*pixels),), input_fidelity=fidelity), NOON)
    assert quantities(found)["image_input_token"] == expected


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [((1024, 1024), 1024), ((512, 512), 1024), ((100, 100), 49), ((4000, 3000), 1536), ((3000, 100), 1536)],
)
def test_it_counts_the_patches_of_a_given_picture(pixels: tuple[int, int], expected: int) -> None:
    offer = catalogue()["openai/gpt-image-2"]
    assert tokens.input_tokens(offer.pricing, pixels, fidelity=None) == expected


def test_it_holds_the_ceiling_of_everything_drawn_that_is_sent_for_each_picture_made() -> None:
    offer = catalogue()["openai/gpt-image-1"]
    request = edit(images=(SQUARE, SQUARE), mask=SQUARE, n=3)
    found = quantities(pricing.worst_case(offer, request, NOON))
    assert found["image_input_token"] == 3 * 3 * 1400
    assert found["text_input_token"] == 3 * (len("a red fox") + 32 + 3 * tokens.INPUT_OVERHEAD_TOKENS)
    high = quantities(pricing.worst_case(offer, edit(input_fidelity="high"), NOON))
    assert high["image_input_token"] == 7640
    # Where fidelity cannot be chosen and none is documented, the dearest counts.
    latest = catalogue()["openai/chatgpt-image-latest"]
    assert quantities(pricing.worst_case(latest, edit(), NOON))["image_input_token"] == 7640


def test_it_expects_given_pictures_anew_for_each_where_the_provider_reads_them_anew() -> None:
    newer, older = catalogue()["openai/gpt-image-2"], catalogue()["openai/gpt-image-1"]
    assert quantities(pricing.expected(newer, edit(n=3), NOON))["image_input_token"] == 3 * 1024
    assert quantities(pricing.expected(older, edit(n=3), NOON))["image_input_token"] == 194


def test_it_charges_given_pictures_by_reported_usage_and_else_estimates_them() -> None:
    offer = catalogue()["openai/gpt-image-1"]
    found = pricing.actual(offer, edit(), answer(1, usage=Usage(20, 323, 272)), NOON, [(1024, 1024)])
    assert found.total_nanos == 20 * 5_000 + 323 * 10_000 + 272 * 40_000
    at_fal = catalogue()["fal/gpt-image-1"]
    found = pricing.actual(at_fal, edit(), answer(1), NOON, [(1024, 1024)])
    by_meter = {item.meter: item for item in found.items}
    assert by_meter["image_input_token"].quantity_micros == 135 * 10**6
    assert by_meter["image_input_token"].estimated
    assert found.total_nanos == 20_000_000  # 0.011 + 135 tokens at 0.000005, up to the next cent
    found = pricing.actual(at_fal, edit(input_fidelity="high"), answer(1), NOON, [(1024, 1024)])
    assert found.total_nanos == 30_000_000  # 0.011 + 3050 tokens


def test_it_prices_the_fidelity_that_fal_is_sent() -> None:
    """fal's own default is the costlier one, so the adapter always says one, and the price is that one's."""
    choices = 0
    for name, offer in catalogue().items():
        edits = offer.capabilities.edits
        if offer.provider != "fal" or edits is None or not edits.input_fidelities:
            continue
        sent = fal.build(edit(), offer)
        assert offer.pricing["assumed_input_fidelity"] == sent["input_fidelity"], name
        choices += 1
    assert choices == 2


def test_it_refuses_an_edit_whose_pictures_have_no_price() -> None:
    offer = catalogue()["openai/gpt-image-1"]
    stated = {key: value for key, value in offer.pricing.items() if key != "image_input_ceiling_tokens"}
    with pytest.raises(errors.Unpriced, match="pictures given") as refused:
        pricing.worst_case(dataclasses.replace(offer, pricing=stated), edit(), NOON)
    assert refused.value.param == "image"
    no_rate = tuple(one for one in offer.prices if one.meter != "image_input_token")
    with pytest.raises(errors.Unpriced, match="pictures given"):
        pricing.expected(dataclasses.replace(offer, prices=no_rate), edit(), NOON)
    with pytest.raises(errors.Unpriced, match="pictures given"):
        pricing.worst_case(catalogue()["fal/gpt-image-2"], edit(images=(SQUARE, SQUARE)), NOON)


# Given pictures by the piece and by the megapixel, prices by operation and tier


def test_it_takes_the_prices_of_the_operation() -> None:
    offer = catalogue()["fal/gpt-image-2"]
    assert pricing.expected(offer, fitted(quality="low"), NOON).total_nanos == 6_000_000
    assert pricing.expected(offer, edit(quality="low"), NOON).total_nanos == 15_000_000
    wide = edit(quality="high", size="1920x1088")  # the nearest row of the edit's own table
    assert pricing.expected(offer, wide, NOON).total_nanos == 158_000_000
    assert pricing.starting_nanos(offer, NOON) == 6_000_000


def test_it_takes_the_prices_of_the_tier() -> None:
    offer = catalogue()["xai/grok-imagine-image-2.0"]
    small, large = {"resolution": "1K"}, {"resolution": "2K", "size": "2048x2048"}
    assert pricing.expected(offer, fitted(quality="low", **small), NOON).total_nanos == 40_000_000
    assert pricing.expected(offer, fitted(quality="low", **large), NOON).total_nanos == 60_000_000
    assert pricing.expected(offer, fitted(quality="medium", **small), NOON).total_nanos == 60_000_000


def test_it_adds_given_pictures_beyond_those_included() -> None:
    offer = per_picture(line("input_image", 5_000_000_000), input_images_included=1)
    assert pricing.expected(offer, edit(n=4), NOON).total_nanos == 4 * 40_000_000
    both = pricing.expected(offer, edit(images=(SQUARE, SQUARE), n=4), NOON)
    assert both.total_nanos == 4 * 40_000_000 + 5_000_000
    # Each call is given them again.
    again = pricing.expected(offer, edit(images=(SQUARE, SQUARE), n=8), NOON)
    assert again.total_nanos == 8 * 40_000_000 + 2 * 5_000_000
    made = pricing.actual(offer, edit(images=(SQUARE, SQUARE), n=8), answer(8), NOON, [(1024, 1024)] * 8)
    assert made.total_nanos == again.total_nanos


def test_it_counts_the_megapixels_of_given_pictures() -> None:
    rounding = {"input_megapixel": {"step_micros": 1_000_000, "direction": "up", "per": "image"}}
    offer = per_picture(line("input_megapixel", 1_000_000_000), quantity_rounding=rounding)
    found = pricing.expected(offer, edit(images=(picture(1000, 1001), picture(500, 500))), NOON)
    assert found.total_nanos == 40_000_000 + (2 + 1) * 1_000_000


# Unfinished pictures


def test_it_counts_a_hundred_tokens_for_each_unfinished_picture() -> None:
    offer = catalogue()["openai/gpt-image-1"]
    request = fitted(n=2, partial_images=3)
    assert quantities(pricing.worst_case(offer, request, NOON))["image_output_token"] == 2 * (272 + 300)
    assert quantities(pricing.expected(offer, request, NOON))["image_output_token"] == 2 * (272 + 300)
    silent = pricing.actual(offer, request, answer(2), NOON, [(1024, 1024)] * 2)
    assert quantities(silent)["image_output_token"] == 2 * (272 + 300)
    told = pricing.actual(offer, request, answer(2, usage=Usage(9, 0, 2 * 272 + 100)), NOON, [(1024, 1024)] * 2)
    assert quantities(told)["image_output_token"] == 2 * 272 + 100  # fewer came than were asked for
    own = dataclasses.replace(offer, pricing={**offer.pricing, "partial_image_tokens": 7})
    assert quantities(pricing.expected(own, request, NOON))["image_output_token"] == 2 * (272 + 21)


# Several calls


def test_it_charges_the_calls_that_succeeded_each_with_its_prompt_and_rounding() -> None:
    offer = catalogue()["fal/gpt-image-1"]
    request = fitted(n=10)  # calls of four, four and two pictures
    told = [{"pictures": 2}, {"pictures": 4}]  # one of four failed, and one delivered half
    found = pricing.actual(offer, request, answer(6, evidence={"calls": told}), NOON, [(1024, 1024)] * 6)
    prompts = next(item for item in found.items if item.meter == "text_input_token")
    assert prompts.quantity_micros == 2 * 3 * 10**6
    assert found.total_nanos == 30_000_000 + 50_000_000


def test_it_leaves_out_what_the_calls_made_and_nobody_received() -> None:
    offer = dataclasses.replace(catalogue()["openai/gpt-image-1"])
    told = [{"pictures": 1, "pictures_received": 2}, {"pictures": 2}]
    said = answer(3, usage=Usage(20, 0, 4 * 272), evidence={"calls": told})
    found = pricing.actual(offer, fitted(n=4), said, NOON, [(1024, 1024)] * 3)
    assert quantities(found)["image_output_token"] == 3 * 272
    assert quantities(found)["text_input_token"] == 20


@pytest.mark.parametrize("told", ["three", [7], [{"pictures": "4"}], [{"pictures": 1}], []])
def test_it_divides_pictures_as_it_would_call_where_the_calls_are_not_told(told: Any) -> None:
    offer = catalogue()["fal/gpt-image-1"]
    found = pricing.actual(offer, fitted(n=6), answer(6, evidence={"calls": told}), NOON, [(1024, 1024)] * 6)
    assert found.total_nanos == 50_000_000 + 30_000_000


# Costs that a provider tells


def grok(picos: int | None, *, count: int = 1, **evidence: Any) -> Estimate:
    offer = catalogue()["xai/grok-imagine-image"]
    request = fitted(quality=None, n=count, resolution="1K")
    said = answer(count, reported_cost_picos=picos, evidence=evidence)
    return pricing.actual(offer, request, said, NOON, [(1024, 1024)] * count)


def test_it_charges_the_told_cost_and_shows_the_list_price_beside_it() -> None:
    found = grok(22_000_000_000)
    assert found.total_nanos == 22_000_000
    assert found.list_price is not None
    assert found.list_price.total_nanos == 20_000_000
    offer = catalogue()["xai/grok-imagine-image"]
    candidate = Candidate(offer, fitted(quality=None), {}, found)
    request = ImageRequest(operation="generation", model=offer.model, prompt="a red fox")
    receipt = receipts.compose(request, candidate, answer(1), found, charged_nanos=found.total_nanos)
    assert [(item["label"], item["amount"], item["price_line"]) for item in receipt["items"]] == [
        ("cost as reported by xAI", "0.022", None)
    ]
    assert receipt["list_price"]["total"] == "0.02"
    assert receipt["list_price"]["items"][0]["label"] == "image"
    assert receipt["explanation"] == "1 cost as reported by xAI × $0.022 = $0.022 ($0.02 by its list prices)"


def test_it_rounds_a_told_cost_once_to_the_even_nano() -> None:
    assert grok(22_000_000_500).total_nanos == 22_000_000
    assert grok(22_000_001_500).total_nanos == 22_000_002
    assert grok(22_000_001_501).total_nanos == 22_000_002


@pytest.mark.parametrize("picos", [None, 0, -5, 200_000_000_001, 10**18])
def test_it_charges_the_list_price_where_the_told_cost_cannot_be_true(picos: int | None) -> None:
    found = grok(picos)
    assert (found.total_nanos, found.list_price) == (20_000_000, None)


def test_it_believes_only_offers_that_tell_their_cost() -> None:
    offer = catalogue()["openai/gpt-image-1"]
    said = answer(1, usage=Usage(5, 0, 272), reported_cost_picos=1)
    assert pricing.actual(offer, fitted(), said, NOON, [(1024, 1024)]).total_nanos == 272 * 40_000 + 25_000


def test_it_charges_the_delivered_share_of_a_told_cost() -> None:
    offer = catalogue()["xai/grok-imagine-image"]
    said = answer(3, reported_cost_picos=80_000_000_000, evidence={"pictures_received": 4})
    found = pricing.actual(offer, fitted(quality=None, n=4), said, NOON, [(1024, 1024)] * 3)
    assert found.total_nanos == 60_000_000
    assert found.items[0].billable_quantity_micros == 750_000


def test_it_holds_a_stated_ceiling_for_given_pictures_that_only_the_told_cost_prices() -> None:
    offer = catalogue()["xai/grok-imagine-image"]
    request = edit(quality=None, images=(SQUARE, SQUARE), n=2)
    assert pricing.worst_case(offer, request, NOON).total_nanos == 2 * (20_000_000 + 2 * 10_000_000)
    assert pricing.expected(offer, request, NOON).total_nanos == 2 * 20_000_000
