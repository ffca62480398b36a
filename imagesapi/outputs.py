"""OpenAI's shape plus what only we can say: cost, attempts, adjustments, links with their life."""

from __future__ import annotations

import time
from typing import Any

from accounts.callers import Caller
from core import ids, money
from imagesapi import links, receipts
from imagesapi.delivery import Kept
from imagesapi.gateway import Outcome
from imagesapi.routing import Plan
from imagesapi.values import ImageRequest


def images(outcome: Outcome, *, caller: Caller, request: ImageRequest) -> dict[str, Any]:
    """The answer of `images/generations`."""
    chosen = request.response_format or caller.default_response_format
    expires_at_s = int(time.time()) + caller.link_life_minutes * 60
    answer, fitted = outcome.answer, outcome.candidate.fitted
    first = outcome.images[0].facts
    document: dict[str, Any] = {
        "id": ids.public("req", outcome.generation_id),
        "created": int(outcome.created_at.timestamp()),
        "data": [_item(image, chosen, expires_at_s) for image in outcome.images],
        "background": answer.effective.get("background", fitted.background or "auto"),
        "output_format": first.content_type.removeprefix("image/"),
        "quality": answer.effective.get("quality", fitted.quality or "auto"),
        "size": f"{first.width_px}x{first.height_px}",
    }
    if answer.usage is not None:
        usage = answer.usage
        document["usage"] = {
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "total_tokens": usage.input_tokens + usage.output_tokens,
            "input_tokens_details": {
                "text_tokens": usage.text_input_tokens,
                "image_tokens": usage.image_input_tokens,
            },
            "output_tokens_details": {
                "image_tokens": usage.image_output_tokens,
                "text_tokens": usage.text_output_tokens,
            },
        }
    document["metadata"] = _metadata(outcome)
    return document


def _item(image: Kept, chosen: str, expires_at_s: int) -> dict[str, Any]:
    item: dict[str, Any] = {}
    if chosen != "b64_json":
        item["url"] = links.make(image.id, expires_at_s=expires_at_s)
        item["expires_at"] = expires_at_s
    if chosen != "url":
        item["b64_json"] = image.base64()
    if image.revised_prompt:
        item["revised_prompt"] = image.revised_prompt
    return item


def _metadata(outcome: Outcome) -> dict[str, Any]:
    offer = outcome.candidate.offer
    return {
        "model": offer.model,
        "executed_model": offer.executed_model,
        "provider": offer.provider,
        "provider_name": offer.provider_name,
        "simulated": offer.simulated,
        "cost": money.json_number(outcome.charged_nanos),
        "cost_currency": "USD",
        "attempts": [attempt.as_dict() for attempt in outcome.tries],
        "adjustments": [change.as_dict() for change in outcome.candidate.fitted.adjustments],
    }


def headers(outcome: Outcome, *, started_s: float) -> dict[str, str]:
    """What scripts read without parsing the body; `started_s` is on time.monotonic()'s clock."""
    offer = outcome.candidate.offer
    return {
        "x-request-id": ids.public("req", outcome.generation_id),
        "x-pixelpar-provider": offer.provider,
        "x-pixelpar-model": offer.executed_model,
        "x-pixelpar-cost": money.decimal(outcome.charged_nanos),
        "openai-processing-ms": str(round((time.monotonic() - started_s) * 1000)),
    }


def dry_run(plan: Plan) -> dict[str, Any]:
    """What a request would cost. By agreement with its readers no key here is named as an image answer's would be."""
    expected = plan.first.expected
    return {
        "estimated": True,
        "model": plan.model,
        "provider": plan.first.offer.provider,
        "simulated": plan.simulated,
        "total_cost_micros": money.micros_up(expected.total_nanos),
        "hold_micros": money.micros_up(plan.hold_nanos),
        "currency": "USD",
        "components": receipts.components(expected),
        "adjustments": [change.as_dict() for change in plan.first.fitted.adjustments],
        "metadata": {"cost": money.json_number(expected.total_nanos), "cost_currency": "USD"},
    }
