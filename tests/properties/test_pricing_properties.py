"""For every shipped offer and any request: the hold covers the charge, parts sum to the whole, rounded once (T-05)."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core import errors, money
from imagesapi import counting, pricing, receipts, tariff, tokens
from imagesapi.estimates import ATTOS_PER_NANO, Estimate
from imagesapi.routing import Candidate
from imagesapi.values import Answer, Fitted, ImageRequest, InputImage, Offer, Picture, Usage
from tests.imagesapi.offers import NOON, catalogue

ALL = sorted(catalogue())
TELLING = sorted(name for name, offer in catalogue().items() if offer.pricing.get("reported_cost"))
relaxed = settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)


@dataclasses.dataclass(frozen=True)
class Case:
    """A request at an offer, and what came of each of its calls: pictures delivered and made, None for a failure."""

    offer: Offer
    fitted: Fitted
    calls: tuple[tuple[int, int] | None, ...]
    quality: str | None  # what the provider really took for "auto"
    size: str

    @property
    def delivered(self) -> list[tuple[int, int]]:
        width, _, height = self.size.partition("x")
        return [(int(width), int(height))] * sum(call[0] for call in self.calls if call)

    @property
    def succeeded(self) -> list[tuple[int, int]]:
        return [call for call in self.calls if call]

    def answer(self, **changes: Any) -> Answer:
        told = [{"pictures": kept, "pictures_received": made} for kept, made in self.succeeded]
        return Answer(
            pictures=[Picture(b64="AA==") for _ in self.delivered],
            evidence={"calls": told}
            if len(self.calls) > 1
            else {"pictures_received": sum(m for _, m in self.succeeded)},
            effective={"quality": self.quality or "", "size": self.size},
            **changes,
        )

    def actual(self, answer: Answer) -> Estimate:
        return pricing.actual(self.offer, self.fitted, answer, NOON, self.delivered)


@st.composite
def cases(draw: st.DrawFn, names: list[str] = ALL) -> Case:
    """A request that the offer takes, and an ending with at least one picture."""
    offer = catalogue()[draw(st.sampled_from(names))]
    able = offer.capabilities
    asked, size = draw(_sizes(offer))
    asked_quality = draw(st.sampled_from(able.qualities)) if able.qualities else None
    qualities = [word for word in able.qualities if word != "auto"]
    real = asked_quality if asked_quality != "auto" else draw(st.sampled_from(qualities))
    fitted = Fitted(
        prompt=draw(st.text(max_size=60)),
        n=draw(st.integers(1, 10)),
        quality=asked_quality,
        background=None,
        output_format="png",
        partial_images=draw(st.integers(0, able.partial_images_max)),
        **asked,
        **draw(_inputs(offer)),
    )
    planned = [end - start for start, end in counting.chunks(fitted.n, able.max_n)]
    calls = tuple(draw(_ending(count)) for count in planned)
    if not any(calls):
        calls = ((planned[0], planned[0]), *calls[1:])
    return Case(offer, fitted, calls, real, size)


@st.composite
def _ending(draw: st.DrawFn, count: int) -> tuple[int, int] | None:
    kept = draw(st.integers(0, count))
    return (kept, draw(st.integers(kept, count))) if kept else None


@st.composite
def _sizes(draw: st.DrawFn, offer: Offer) -> tuple[dict[str, Any], str]:
    """What is asked, and the size that is made."""
    able = offer.capabilities
    if able.size_style == "ratio":
        tier = draw(st.sampled_from(sorted(able.ratio_sizes)))
        ratio, size = draw(st.sampled_from(sorted(able.ratio_sizes[tier].items())))
        return {"size": size, "resolution": tier, "aspect_ratio": ratio}, size
    listed = [size for size in able.sizes if size != "auto"] or ["1024x1024", "1536x1024", "1024x1536"]
    if able.size_style != "enum":
        listed += ["2048x1152", "1088x1920"]
    real = draw(st.sampled_from(listed))
    told = "auto" in able.sizes and able.reports_usage and real in ("1024x1024", "1536x1024", "1024x1536")
    return {"size": draw(st.sampled_from([real, "auto"])) if told else real}, real


@st.composite
def _inputs(draw: st.DrawFn, offer: Offer) -> dict[str, Any]:
    """Nothing, or the pictures of an edit, as far as the offer has a price for them."""
    edits = offer.capabilities.edits
    if edits is None or (offer.capabilities.generates and draw(st.booleans())):
        return {}
    edge = st.integers(16, 4_096)
    image = st.builds(lambda w, h: InputImage("image/png", w, h, sha256=""), edge, edge)
    most = min(edits.max_images, offer.pricing.get("input_images_included", edits.max_images))
    extra = {"mask": draw(st.none() | image)} if edits.mask else {}
    fidelity = draw(st.sampled_from([None, *edits.input_fidelities]))
    images = tuple(draw(st.lists(image, min_size=1, max_size=most)))
    return {"operation": "edit", "images": images, "input_fidelity": fidelity, **extra}


def ceilings(case: Case, made: int) -> Usage:
    """The most a provider may report for `made` pictures, by what the catalogue states."""
    stated, fitted = case.offer.pricing, case.fitted
    given_count = len(fitted.images) + (fitted.mask is not None)
    each = tokens.input_tokens_ceiling(stated, fidelity=fitted.input_fidelity) or 0
    known = tokens.output_tokens(stated, quality=case.quality or "", size=case.size)
    if known is None or stated.get("output_tokens_estimated"):
        ceiling = stated.get("ceiling_tokens", 0)
        known = ceiling[case.quality] if isinstance(ceiling, dict) else ceiling
    prompt = len(fitted.prompt.encode()) + stated.get("prompt_overhead_tokens", 0)
    return Usage(
        text_input_tokens=made * (prompt + 41 * given_count),
        image_input_tokens=made * given_count * each,
        image_output_tokens=made * (known + 100 * fitted.partial_images),
        text_output_tokens=made * stated.get("text_output_ceiling_tokens", 0),
    )


@relaxed
@given(case=cases())
def test_it_holds_at_least_what_it_charges_by_its_own_count(case: Case) -> None:
    held = pricing.worst_case(case.offer, case.fitted, NOON).total_nanos
    assert held >= pricing.expected(case.offer, case.fitted, NOON).total_nanos
    assert held >= case.actual(case.answer()).total_nanos


@relaxed
@given(case=cases(), data=st.data())
def test_it_holds_at_least_what_a_provider_reports_within_the_ceilings(case: Case, data: st.DataObject) -> None:
    most = ceilings(case, sum(made for _, made in case.succeeded))
    counts = {
        field.name: data.draw(st.integers(0, getattr(most, field.name)) | st.just(getattr(most, field.name)))
        for field in dataclasses.fields(Usage)
    }
    held = pricing.worst_case(case.offer, case.fitted, NOON).total_nanos
    assert held >= case.actual(case.answer(usage=Usage(**counts))).total_nanos


@relaxed
@given(case=cases(TELLING), data=st.data())
def test_it_charges_the_cost_that_the_provider_tells(case: Case, data: st.DataObject) -> None:
    held = pricing.worst_case(case.offer, case.fitted, NOON).total_nanos
    picos = data.draw(st.integers(1, held * money.PICOS_PER_NANO))
    found = case.actual(case.answer(reported_cost_picos=picos))
    (item,) = found.items
    assert (item.meter, item.unit_price_picos, item.estimated) == ("reported", picos, False)
    assert found.list_price is not None
    assert found.total_nanos <= held
    made = counting.made(case.fitted, case.answer(), delivered=len(case.delivered))
    if made == len(case.delivered):
        assert found.total_nanos == money.divide_half_even(picos, money.PICOS_PER_NANO)


@relaxed
@given(case=cases())
def test_it_sums_parts_to_the_total_and_rounds_once(case: Case) -> None:
    found = case.actual(case.answer())
    exact, step = found.rounding.exact_attos, found.rounding.provider_step_nanos * ATTOS_PER_NANO
    assert exact == sum(item.amount_attos for item in found.items)
    assert 2 * abs(found.total_nanos * ATTOS_PER_NANO - found.rounding.after_provider_attos) <= ATTOS_PER_NANO
    calls = [kept for kept, _ in case.succeeded]
    assert exact <= found.rounding.after_provider_attos <= exact + len(calls) * step
    alone = [
        dataclasses.replace(case, fitted=dataclasses.replace(case.fitted, n=count), calls=((count, count),))
        for count in calls
    ]
    parts = [one.actual(one.answer()) for one in alone]
    assert sum(part.rounding.exact_attos for part in parts) == exact
    assert sum(part.rounding.after_provider_attos for part in parts) == found.rounding.after_provider_attos


@relaxed
@given(case=cases())
def test_it_writes_a_receipt_that_adds_up(case: Case) -> None:
    candidate = Candidate(case.offer, case.fitted, {}, pricing.worst_case(case.offer, case.fitted, NOON))
    request = ImageRequest(operation=case.fitted.operation, model=case.offer.model, prompt=case.fitted.prompt)
    answer = case.answer()
    cost = case.actual(answer)
    found = receipts.compose(request, candidate, answer, cost, charged_nanos=cost.total_nanos)
    assert found["charged"] == found["total"]
    assert all(
        found["rounding"][at]["to"] == found["rounding"][at + 1]["from"] for at in range(len(found["rounding"]) - 1)
    )


@pytest.mark.parametrize("name", ALL)
def test_it_states_what_the_given_pictures_of_every_edit_cost_or_refuses(name: str) -> None:
    """No offer lets pictures through that nobody priced: without its ceiling it is refused."""
    offer = catalogue()[name]
    if offer.capabilities.edits is None or offer.pricing.get("free"):
        return
    image = InputImage("image/png", 512, 512, sha256="")
    size = next(iter(offer.capabilities.ratio_sizes.get("1K", {}).values()), "1024x1024")
    quality = next((word for word in offer.capabilities.qualities if word != "auto"), None)
    fitted = Fitted("a fox", 1, size, quality, None, "png", operation="edit", images=(image,))
    pricing.worst_case(offer, fitted, NOON)
    stripped = {key: value for key, value in offer.pricing.items() if key != "image_input_ceiling_tokens"}
    lines = tariff.lines(offer, NOON, operation="edit")
    if "image_input_token" in lines or "image_output_token" in lines:
        with pytest.raises(errors.Unpriced, match="pictures given"):
            pricing.worst_case(dataclasses.replace(offer, pricing=stripped), fitted, NOON)
