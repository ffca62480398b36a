"""Worst case, expected and actual cost: integers, one rounding, and a hold that always covers the charge (T-05)."""

from __future__ import annotations

import dataclasses
import datetime as dt
import itertools

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from core import errors, money
from imagesapi import pricing, tokens
from imagesapi.estimates import ATTOS_PER_NANO
from imagesapi.values import Answer, Fitted, Offer, Picture, PriceLine, Usage
from tests.imagesapi.offers import NOON, catalogue, fitted

ALL = sorted(catalogue())
# Output tokens of one picture as OpenAI's guide, the public calculator and a reseller's measurements give them.
RECORDED = {
    "gpt-image-1": {("low", "1024x1024"): 272, ("medium", "1024x1536"): 1584, ("high", "1536x1024"): 6208},
    "gpt-image-1-mini": {("low", "1024x1024"): 272, ("medium", "1024x1024"): 1056, ("high", "1024x1536"): 6240},
    "gpt-image-1.5": {("low", "1024x1024"): 272, ("high", "1024x1536"): 6240},
    "gpt-image-2": {("low", "1024x1024"): 196, ("medium", "2048x2048"): 3568, ("high", "3840x2160"): 13342},
    "gpt-image-2.5-sunburst": {("low", "1024x640"): 107, ("xhigh", "2560x1440"): 3276, ("max", "2048x2048"): 14272},
    "gpt-image-2.5-flare": {("medium", "1024x768"): 301, ("max", "3840x2160"): 13342},
    "gpt-image-2.6-flare": {("low", "1536x1024"): 664, ("high", "1536x1024"): 1353, ("high", "3840x2160"): 3337},
    "gpt-image-2.6-sunburst": {("auto", "auto"): 5800},
}


def delivered(request: Fitted, count: int | None = None) -> list[tuple[int, int]]:
    return [request.pixels or (1024, 1024)] * (request.n if count is None else count)


def answer(count: int, **changes: object) -> Answer:
    return Answer(pictures=[Picture(b64="AA==") for _ in range(count)], **changes)  # type: ignore[arg-type]


def usage(image_output: int, text_input: int = 5, text_output: int = 0) -> Usage:
    return Usage(text_input, 0, image_output, text_output)


def sizes_of(offer: Offer) -> list[dict[str, str]]:
    """Sizes the offer makes, as a fitted request says them."""
    able = offer.capabilities
    if able.size_style == "ratio":
        return [
            {"size": size, "resolution": tier, "aspect_ratio": ratio}
            for tier, row in able.ratio_sizes.items()
            for ratio, size in row.items()
        ]
    if able.size_style == "enum":
        return [{"size": size} for size in able.sizes or ("1024x1024",)]
    free = ["1024x1024", "1536x1024", "1024x1536", "2048x1152", "1088x1920", "2048x2048"]
    rules = able.size_rules
    fits = [size for size in free if max(map(int, size.split("x"))) <= rules["max_edge_px"]]
    return [{"size": size} for size in (*able.sizes, *fits)]


def requests(offer: Offer) -> list[Fitted]:
    able = offer.capabilities
    qualities = able.qualities or (None,)
    common = {"operation": "generation" if able.generates else "edit"}
    return [
        fitted(quality=quality, n=n, **size, **common)
        for quality, size, n in itertools.product(qualities, sizes_of(offer), {1, 2, able.max_n})
    ]


def test_it_prices_gpt_image_1_by_the_tokens_that_openai_reports() -> None:
    found = pricing.actual(
        catalogue()["openai/gpt-image-1"], fitted(), answer(1, usage=usage(272, 13)), NOON, [(1024, 1024)]
    )
    assert found.total_nanos == 10_880_000 + 13 * 5_000
    assert [(item.meter, item.quantity_micros, item.estimated) for item in found.items] == [
        ("text_input_token", 13_000_000, False),
        ("image_output_token", 272_000_000, False),
    ]


def test_it_rounds_gpt_image_1_at_fal_up_to_the_next_cent() -> None:
    found = pricing.actual(catalogue()["fal/gpt-image-1"], fitted(), answer(1), NOON, [(1024, 1024)])
    assert found.total_nanos == 20_000_000
    assert found.rounding.exact_attos == (11_000_000 + 3 * 2_000) * ATTOS_PER_NANO
    assert found.rounding.provider_step_nanos == money.NANOS_PER_CENT
    by_meter = {item.meter: item for item in found.items}
    assert by_meter["image"].amount_attos == 11_000_000 * ATTOS_PER_NANO
    assert not by_meter["image"].estimated
    assert by_meter["text_input_token"].estimated


def test_it_rounds_each_of_several_calls_as_the_provider_does() -> None:
    offer = catalogue()["fal/gpt-image-1"]
    six = fitted(n=6)  # two calls: four pictures and two
    assert pricing.expected(offer, six, NOON).total_nanos == 50_000_000 + 30_000_000
    assert pricing.actual(offer, six, answer(6), NOON, delivered(six)).total_nanos == 80_000_000


@pytest.mark.parametrize("name", ALL)
def test_it_expects_no_more_than_it_holds(name: str) -> None:
    offer = catalogue()[name]
    for request in requests(offer):
        worst = pricing.worst_case(offer, request, NOON)
        assert worst.total_nanos >= pricing.expected(offer, request, NOON).total_nanos
        assert worst.total_nanos > 0 or offer.pricing.get("free")


@pytest.mark.parametrize("name", ALL)
def test_it_never_charges_more_than_it_held_without_reported_usage(name: str) -> None:
    offer = catalogue()[name]
    for request in requests(offer):
        held = pricing.worst_case(offer, request, NOON)
        for count in {1, request.n}:
            found = pricing.actual(offer, request, answer(request.n), NOON, delivered(request, count))
            assert found.total_nanos <= held.total_nanos, (request, found)


@pytest.mark.parametrize("model", sorted(RECORDED))
def test_it_never_charges_more_than_it_held_for_recorded_usages(model: str) -> None:
    offer = catalogue()[f"openai/{model}"]
    written = 200 if "text_output_ceiling_tokens" in offer.pricing else 0
    for ((quality, size), each), n in itertools.product(RECORDED[model].items(), (1, 3, 10)):
        said = answer(n, usage=usage(n * each, text_input=25, text_output=n * written))
        for request in (fitted(quality=quality, size=size, n=n), fitted(quality="auto", size=size, n=n)):
            found = pricing.actual(offer, request, said, NOON, delivered(request))
            assert found.total_nanos <= pricing.worst_case(offer, request, NOON).total_nanos


@given(
    name=st.sampled_from(ALL),
    prompt=st.text(min_size=1, max_size=200).filter(lambda text: text.isprintable()),
    n=st.integers(1, 10),
    data=st.data(),
)
def test_it_holds_at_least_what_any_prompt_and_size_cost(name: str, prompt: str, n: int, data: st.DataObject) -> None:
    offer = catalogue()[name]
    able = offer.capabilities
    size: dict[str, str] = {}
    if able.size_style in ("enum", "ratio"):
        size = data.draw(st.sampled_from(sizes_of(offer)))
    else:
        rules = able.size_rules
        step = rules["step_px"]
        width = step * data.draw(st.integers(-(-256 // step), rules["max_edge_px"] // step))
        most = min(rules["max_edge_px"], rules["max_ratio"] * width, rules["max_pixels"] // width)
        least = max(-(-width // rules["max_ratio"]), -(-rules["min_pixels"] // width))
        assume(least + step <= most)
        size["size"] = f"{width}x{step * data.draw(st.integers(-(-least // step), most // step))}"
    quality = data.draw(st.sampled_from(able.qualities)) if able.qualities else None
    operation = "generation" if able.generates else "edit"
    request = fitted(prompt=prompt, n=n, quality=quality, operation=operation, **size)
    held = pricing.worst_case(offer, request, NOON).total_nanos
    assert held >= pricing.expected(offer, request, NOON).total_nanos
    assert held >= pricing.actual(offer, request, answer(n), NOON, delivered(request)).total_nanos


@given(price=st.integers(0, 10**13), quantities=st.lists(st.integers(0, 10**12), min_size=1, max_size=10))
def test_it_rounds_once_so_that_the_images_of_a_request_sum_to_its_total(price: int, quantities: list[int]) -> None:
    offer = one_line_offer("text_output_token", price)
    together = pricing.actual(
        offer, fitted(), answer(1, usage=usage(1, text_input=0, text_output=sum(quantities) % 10**9)), NOON, [(8, 8)]
    )
    exact = sum(item.amount_attos for item in together.items)
    assert together.rounding.exact_attos == exact
    payable = min(exact, money.MAX_NANOS * ATTOS_PER_NANO)  # what no column of money can hold is the most that one can
    assert 2 * abs(together.total_nanos * ATTOS_PER_NANO - payable) <= ATTOS_PER_NANO


@given(price=st.integers(1, 10**13), n=st.integers(1, 10))
def test_it_sums_single_images_to_the_price_of_all(price: int, n: int) -> None:
    offer = one_line_offer("image", price)
    every = pricing.expected(offer, fitted(n=n), NOON)
    one = pricing.expected(offer, fitted(n=1), NOON)
    assert every.rounding.exact_attos == n * one.rounding.exact_attos
    assert abs(every.total_nanos * 1000 - n * price) <= 500


def one_line_offer(meter: str, picos: int) -> Offer:
    """An offer with one price per `meter`, and a free token per picture so that it is priced."""
    base = catalogue()["openai/gpt-image-1"]
    line = PriceLine(1, meter, {}, picos, "billed", NOON - dt.timedelta(days=1), "a test", NOON.date())
    lines = (line,) if meter == "image" else (line, dataclasses.replace(line, id=2, meter="image", unit_price_picos=0))
    return dataclasses.replace(base, prices=lines, pricing={"assumed_quality": "low"})


def test_it_breaks_ties_to_the_even_nano() -> None:
    assert pricing.expected(one_line_offer("image", 1_500), fitted(), NOON).total_nanos == 2
    assert pricing.expected(one_line_offer("image", 2_500), fitted(), NOON).total_nanos == 2


def test_it_counts_whole_megapixels_of_each_picture() -> None:
    offer = catalogue()["fal/flux.1-schnell"]
    wide = fitted(size="1040x1024", quality=None, n=3)
    found = pricing.actual(offer, wide, answer(3), NOON, delivered(wide))
    assert found.total_nanos == 3 * 2 * 3_000_000
    assert found.items[0].billable_quantity_micros == 6_000_000
    assert 3_000_000 < found.items[0].quantity_micros < 6_000_000


def test_it_takes_the_providers_own_count_of_billable_units() -> None:
    offer = catalogue()["fal/flux.1-dev"]
    request = fitted(quality=None, n=2)
    told = answer(2, billable_units_micros=3_000_000)
    assert pricing.actual(offer, request, told, NOON, delivered(request)).total_nanos == 75_000_000
    for nonsense in (0, -5, 10**18):
        told = answer(2, billable_units_micros=nonsense)
        assert pricing.actual(offer, request, told, NOON, delivered(request)).total_nanos == 50_000_000


def test_it_takes_the_nearest_row_for_a_size_outside_the_table() -> None:
    offer = catalogue()["fal/gpt-image-2"]
    found = pricing.expected(offer, fitted(size="1920x1088", quality="high"), NOON)
    assert found.items[0].conditions == {"quality": "high", "size": "1920x1080"}
    assert found.total_nanos == 158_000_000
    upright = pricing.expected(offer, fitted(size="2160x3840", quality="high"), NOON)
    assert upright.total_nanos == 401_000_000


def test_it_holds_the_dearest_quality_and_size_for_auto() -> None:
    offer = catalogue()["openai/gpt-image-1"]
    found = pricing.worst_case(offer, fitted(quality="auto", size="auto"), NOON)
    prompt = tokens.prompt_tokens_ceiling("a red fox") + 32
    assert found.total_nanos == 6240 * 40_000 + prompt * 5_000
    newer = catalogue()["openai/gpt-image-2"]
    assert pricing.worst_case(newer, fitted(quality=None, size="auto"), NOON).items[-1].quantity_micros == 14272 * 10**6


def test_it_holds_a_stated_ceiling_where_no_table_is_firm() -> None:
    offer = catalogue()["openai/gpt-image-2.6-flare"]
    assert pricing.worst_case(offer, fitted(n=2), NOON).items[-1].quantity_micros == 2 * 3200 * 10**6
    # Each ceiling is above the largest picture that the estimate gives.
    for quality, ceiling in offer.pricing["ceiling_tokens"].items():
        assert ceiling > (tokens.output_tokens(offer.pricing, quality=quality, size="2880x2880") or 0)


def test_it_charges_only_for_delivered_pictures() -> None:
    offer = catalogue()["openai/gpt-image-1"]
    request = fitted(n=4)
    said = answer(4, usage=usage(4 * 272, text_input=10))
    assert pricing.actual(offer, request, said, NOON, delivered(request, 3)).total_nanos == 3 * 10_880_000 + 50_000
    assert pricing.actual(offer, request, said, NOON, []).total_nanos == 0
    # Two of four were unusable: the usage is still for four.
    said = answer(2, usage=usage(4 * 272, text_input=10), evidence={"pictures_received": 4})
    assert pricing.actual(offer, request, said, NOON, delivered(request, 2)).total_nanos == 2 * 10_880_000 + 50_000
    at_fal = catalogue()["fal/gpt-image-2"]
    assert pricing.actual(at_fal, request, answer(4), NOON, delivered(request, 3)).total_nanos == 3 * 6_000_000


def test_it_charges_the_effective_quality_and_size() -> None:
    offer = catalogue()["openai/gpt-image-1"]
    request = fitted(quality="auto", size="auto")
    said = answer(1, effective={"quality": "high", "size": "1536x1024"})
    found = pricing.actual(offer, request, said, NOON, [(1536, 1024)])
    assert found.items[-1].quantity_micros == 6208 * 10**6
    assert found.items[-1].estimated
    # What a provider says is believed only where it can be true.
    said = answer(1, effective={"quality": "sublime", "size": "-5x1"})
    found = pricing.actual(offer, fitted(quality="medium"), said, NOON, [(1024, 1024)])
    assert found.items[-1].quantity_micros == 1056 * 10**6


@pytest.mark.parametrize("image_output", [-1, 0, 10**10])
def test_it_estimates_where_reported_usage_cannot_be_true(image_output: int) -> None:
    offer = catalogue()["openai/gpt-image-1"]
    found = pricing.actual(offer, fitted(), answer(1, usage=usage(image_output)), NOON, [(1024, 1024)])
    assert found.items[-1].quantity_micros == 272 * 10**6
    assert found.items[-1].estimated


def test_it_refuses_an_offer_without_a_price() -> None:
    offer = catalogue()["openai/gpt-image-1"]
    with pytest.raises(errors.Unpriced, match="has no price"):
        pricing.worst_case(dataclasses.replace(offer, prices=()), fitted(), NOON)
    prompt_only = tuple(line for line in offer.prices if line.meter == "text_input_token")
    with pytest.raises(errors.Unpriced):
        pricing.worst_case(dataclasses.replace(offer, prices=prompt_only), fitted(), NOON)
    listed_only = tuple(line for line in offer.prices if line.basis == "listed")
    with pytest.raises(errors.Unpriced):
        pricing.worst_case(dataclasses.replace(offer, prices=listed_only), fitted(), NOON)
    with pytest.raises(errors.Unpriced, match="quality low and size 1024x1024"):
        pricing.worst_case(dataclasses.replace(offer, pricing={}), fitted(), NOON)
    with pytest.raises(errors.Unpriced):
        pricing.worst_case(catalogue()["fal/gpt-image-1"], fitted(size="512x512"), NOON)


def test_it_uses_the_price_valid_when_the_call_was_sent() -> None:
    offer = catalogue()["fal/flux.1-dev"]
    later = dataclasses.replace(
        offer.prices[0], id=999, unit_price_picos=30_000_000_000, valid_from=NOON + dt.timedelta(hours=1)
    )
    offer = dataclasses.replace(offer, prices=(later, *offer.prices))
    before = pricing.actual(offer, fitted(quality=None), answer(1), NOON, [(1024, 1024)])
    after = pricing.actual(offer, fitted(quality=None), answer(1), NOON + dt.timedelta(hours=1), [(1024, 1024)])
    assert (before.total_nanos, after.total_nanos) == (25_000_000, 30_000_000)
    assert after.items[0].price_line_id == 999
    with pytest.raises(errors.Unpriced):
        pricing.expected(offer, fitted(quality=None), dt.datetime(2020, 1, 1, tzinfo=dt.UTC))


def test_it_remembers_prices_no_longer_than_they_hold() -> None:
    """Moments in any order, before, at and after each change, and another offer under the same number."""
    base = catalogue()["fal/flux.1-dev"]
    hour = dt.timedelta(hours=1)
    lines = tuple(
        dataclasses.replace(base.prices[0], id=number, unit_price_picos=number * 10**9, valid_from=NOON + number * hour)
        for number in (3, 1, 2)
    )
    offer = dataclasses.replace(base, prices=lines)
    second = dt.timedelta(seconds=1)

    def charged(of: Offer, moment: dt.datetime) -> int:
        return pricing.actual(of, fitted(quality=None), answer(1), moment, [(1024, 1024)]).total_nanos

    for number in (1, 3, 2, 1, 2, 3):
        starts = NOON + number * hour
        assert charged(offer, starts) == charged(offer, starts + hour - second) == number * 10**6
        assert charged(base, starts) == 25_000_000
    with pytest.raises(errors.Unpriced):
        charged(offer, NOON + hour - second)


def test_it_shows_the_list_price_of_the_cheapest_picture() -> None:
    starting = {name: pricing.starting_nanos(offer, NOON) for name, offer in catalogue().items()}
    assert starting["openai/gpt-image-1"] == starting["fal/gpt-image-1"] == 11_000_000
    assert starting["fal/flux.1-schnell"] == 3_000_000
    assert starting["openai/gpt-image-2.5-flare"] == 5_880_000
    assert starting["mock/mock-image"] == 0
    assert all(price is not None for price in starting.values())
    unpriced = dataclasses.replace(catalogue()["openai/gpt-image-2"], prices=())
    assert pricing.starting_nanos(unpriced, NOON) is None
