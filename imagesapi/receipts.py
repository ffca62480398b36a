"""The itemised proof of one charge, as it is stored with the request and shown by the API and the pages."""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from typing import Any

from core import money
from imagesapi.estimates import Estimate, Item
from imagesapi.parameters import NUMBER_END
from imagesapi.routing import Candidate
from imagesapi.values import Answer, Fitted, ImageRequest, Offer, Usage

VERSION = 1
_PARAMETERS = ("n", "size", "quality", "background", "output_format", "output_compression", "moderation", "style")
_parameters = attrgetter(*_PARAMETERS)
_NAMES = {
    "image": "image",
    "megapixel": "megapixels",
    "text_input_token": "prompt tokens",
    "image_input_token": "input image tokens",
    "image_output_token": "image tokens",
    "text_output_token": "text tokens written",
    "input_image": "input images",
    "input_megapixel": "input megapixels",
}


def compose(
    request: ImageRequest, candidate: Candidate, answer: Answer, cost: Estimate, *, charged_nanos: int
) -> dict[str, Any]:
    """The receipt of a completed request. It holds no prompt: it outlives a purge of the payloads."""
    offer = candidate.offer
    items = [_item(item) for item in cost.items]
    receipt = {
        "version": VERSION,
        "model": offer.model,
        "provider": offer.provider,
        "provider_name": offer.provider_name,
        "executed_model": candidate.executed_model,
        "simulated": offer.simulated,
        "asked": _asked(request),
        "sent": _present(candidate.fitted),
        "effective": dict(answer.effective),
        "items": items,
        "rounding": _rounding(cost),
        "total": money.decimal(cost.total_nanos),
        "priced_at": cost.at.isoformat(),
        "currency": "USD",
        "charged": money.decimal(charged_nanos),
        "held_for_this_offer": money.decimal(candidate.worst_case.total_nanos),
        "evidence": _evidence(answer),
    }
    if cost.list_price is not None:
        listed = cost.list_price
        receipt["list_price"] = {
            "items": [_item(item) for item in listed.items],
            "rounding": _rounding(listed),
            "total": money.decimal(listed.total_nanos),
        }
    if cost.total_nanos > charged_nanos:
        receipt["absorbed"] = money.decimal(cost.total_nanos - charged_nanos)
    receipt["explanation"] = _explanation(cost, items, offer, charged_nanos)
    return receipt


def components(estimate: Estimate) -> list[dict[str, Any]]:
    """The items as a dry run shows them, in JSON numbers."""
    return [
        {
            "type": "input" if "input" in item.meter else "output",
            "metric": item.meter,
            "quantity": _number(item.quantity_micros),
            "billable_quantity": _number(item.billable_quantity_micros),
            "unit_price": float(money.decimal_picos(item.unit_price_picos)),
            "total_cost": float(money.decimal_attos(item.amount_attos)),
        }
        for item in estimate.items
    ]


def _item(item: Item) -> dict[str, Any]:
    return {
        # What a provider told has no name of its own: its source says whose word it is.
        "label": " · ".join([_NAMES.get(item.meter, item.source), *item.conditions.values()]),
        "meter": item.meter,
        "conditions": dict(item.conditions),
        "quantity": _quantity(item.quantity_micros),
        "billable_quantity": _quantity(item.billable_quantity_micros),
        "unit_price": money.decimal_picos(item.unit_price_picos),
        "amount": money.decimal_attos(item.amount_attos),
        "estimated": item.estimated,
        "price_line": item.price_line_id or None,
        "source": item.source,
        "as_of": item.as_of.isoformat(),
    }


def _rounding(cost: Estimate) -> list[dict[str, str]]:
    """Each step from the exact sum to the charge, the provider's before ours."""
    steps, rounding = [], cost.rounding
    if rounding.provider_step_nanos:
        steps.append(
            {
                "by": "provider",
                "rule": f"each request up to the next ${money.decimal(rounding.provider_step_nanos)}",
                "from": money.decimal_attos(rounding.exact_attos),
                "to": money.decimal_attos(rounding.after_provider_attos),
            }
        )
    steps.append(
        {
            "by": "platform",
            "rule": "half-even to the nano-dollar, once",
            "from": money.decimal_attos(rounding.after_provider_attos),
            "to": money.decimal(cost.total_nanos),
        }
    )
    return steps


def _explanation(cost: Estimate, items: list[dict[str, Any]], offer: Offer, charged_nanos: int) -> str:
    """The sum in one line, for people."""
    parts = [
        f"{item['billable_quantity']} {item['label']} × ${item['unit_price']}"
        f"{' (estimated)' if item['estimated'] else ''}"
        for item in items
    ]
    text = f"{' + '.join(parts) or 'nothing billed'} = ${money.decimal_attos(cost.rounding.exact_attos)}"
    if cost.list_price is not None:
        text += f" (${money.decimal(cost.list_price.total_nanos)} by its list prices)"
    if cost.rounding.provider_step_nanos:
        step, after = cost.rounding.provider_step_nanos, cost.rounding.after_provider_attos
        rounded = money.decimal_attos(after)
        text += f", which {offer.provider_name} rounds up to ${rounded} (steps of ${money.decimal(step)})"
    if cost.total_nanos > charged_nanos:
        text += f"; charged ${money.decimal(charged_nanos)}, the rest was absorbed by the platform"
    return text


def _asked(request: ImageRequest) -> dict[str, Any]:
    return {"model": request.model, **_present(request)}


def _present(of: ImageRequest | Fitted) -> dict[str, Any]:
    return {name: value for name, value in zip(_PARAMETERS, _parameters(of), strict=True) if value is not None}


def _evidence(answer: Answer) -> dict[str, Any]:
    """What the provider itself said: its request id, its counts, and whatever the adapter kept."""
    found: dict[str, Any] = {"provider_request_id": answer.request_id, **answer.evidence}
    if answer.usage is not None:
        found.setdefault("usage", _usage(answer.usage))
    if answer.billable_units_micros is not None:
        found.setdefault("billable_units", _quantity(answer.billable_units_micros))
    cleaned: dict[str, Any] = _storable(found)
    return cleaned


def _storable(value: Any) -> Any:
    """The same without what a provider may send and PostgreSQL's JSON cannot hold or give back: NUL characters, and
    numbers beyond 64 bits, which stay as text."""
    match value:
        case str():
            return value.replace("\0", "")
        case int() | float():
            return str(value) if abs(value) >= NUMBER_END else value
        case Mapping():
            return {_storable(name): _storable(entry) for name, entry in value.items()}
        case list() | tuple():
            return [_storable(entry) for entry in value]
    return value


def _usage(usage: Usage) -> Mapping[str, Any]:
    return {
        "text_input_tokens": usage.text_input_tokens,
        "image_input_tokens": usage.image_input_tokens,
        "image_output_tokens": usage.image_output_tokens,
        "text_output_tokens": usage.text_output_tokens,
    }


def _quantity(micros: int) -> str:
    """Micro-units as a decimal string without zeros at its end: 1_500_000 is "1.5", 2_000_000 is "2"."""
    whole, fraction = divmod(micros, money.MICROS_PER_UNIT)
    text = f"{fraction:06d}".rstrip("0")
    return f"{whole}.{text}" if text else str(whole)


def _number(micros: int) -> int | float:
    whole, rest = divmod(micros, money.MICROS_PER_UNIT)
    return float(_quantity(micros)) if rest else whole
