"""OpenAI's answer with what only we can say; kept without its pictures, so that it can be given again."""

from __future__ import annotations

import datetime as dt
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import pybase64

from accounts.callers import Caller
from core import errors, ids, money
from imagesapi import links, store
from imagesapi.admission import Try
from imagesapi.delivery import Kept
from imagesapi.models import Generation, Image
from imagesapi.values import Answer, ImageRequest, Usage


@dataclass(frozen=True, slots=True)
class Recipient:
    """How an answer is wanted: with `url`, `b64_json`, or both (blank), and with links that live so long."""

    response_format: str
    link_life_minutes: int

    @classmethod
    def of(cls, caller: Caller, request: ImageRequest) -> Recipient:
        return cls(request.response_format or caller.default_response_format, caller.link_life_minutes)


def compose(
    generation_id: uuid.UUID,
    *,
    created_at: dt.datetime,
    answer: Answer,
    images: Sequence[Kept],
    tries: Sequence[Try],
    charged_nanos: int,
    recipient: Recipient,
) -> dict[str, Any]:
    """The answer to a request for images; where a picture goes as text there is null until `with_pictures`."""
    expires_at_s = int(time.time()) + recipient.link_life_minutes * 60
    fitted = tries[-1].candidate.fitted
    first = images[0].facts
    document: dict[str, Any] = {
        "id": ids.public("req", generation_id),
        "created": int(created_at.timestamp()),
        "data": [_item(image, recipient.response_format, expires_at_s) for image in images],
        "background": answer.effective.get("background", fitted.background or "auto"),
        "output_format": first.content_type.removeprefix("image/"),
        "quality": answer.effective.get("quality", fitted.quality or "auto"),
        "size": f"{first.width_px}x{first.height_px}",
    }
    if answer.usage is not None:
        document["usage"] = usage(answer.usage)
    document["metadata"] = _metadata(tries, charged_nanos)
    return document


def usage(counted: Usage) -> dict[str, Any]:
    """Token counts in OpenAI's shape."""
    return {
        "input_tokens": counted.input_tokens,
        "output_tokens": counted.output_tokens,
        "total_tokens": counted.input_tokens + counted.output_tokens,
        "input_tokens_details": {"text_tokens": counted.text_input_tokens, "image_tokens": counted.image_input_tokens},
        "output_tokens_details": {
            "image_tokens": counted.image_output_tokens,
            "text_tokens": counted.text_output_tokens,
        },
    }


def _item(image: Kept, chosen: str, expires_at_s: int) -> dict[str, Any]:
    item: dict[str, Any] = {}
    if chosen != "b64_json":
        item["url"] = links.make(image.id, expires_at_s=expires_at_s)
        item["expires_at"] = expires_at_s
    if chosen != "url":
        item["b64_json"] = None
    if image.revised_prompt:
        item["revised_prompt"] = image.revised_prompt
    return item


def _metadata(tries: Sequence[Try], charged_nanos: int) -> dict[str, Any]:
    offer, fitted = tries[-1].candidate.offer, tries[-1].candidate.fitted
    return {
        "model": offer.model,
        "executed_model": tries[-1].candidate.executed_model,
        "provider": offer.provider,
        "provider_name": offer.provider_name,
        "simulated": offer.simulated,
        "cost": money.json_number(charged_nanos),
        "cost_currency": "USD",
        "attempts": [attempt.as_dict() for attempt in tries],
        "adjustments": [change.as_dict() for change in fitted.adjustments],
    }


def with_pictures(document: dict[str, Any], images: Sequence[Kept]) -> dict[str, Any]:
    """The same answer with the pictures in their places."""
    for item, image in zip(document["data"], images, strict=True):
        if "b64_json" in item:
            item["b64_json"] = image.base64()
    return document


def to_keep(document: Mapping[str, Any]) -> str:
    """The answer as text, before its pictures are put in."""
    return orjson.dumps(document).decode()


def size_bytes(written: str, document: Mapping[str, Any], images: Sequence[Kept]) -> int:
    """How large the answer is as JSON once its pictures, null in `written`, are put in as text."""
    texts = [image for item, image in zip(document["data"], images, strict=True) if "b64_json" in item]
    lengths = (len(image.b64) if image.b64 is not None else -(-len(image.data) // 3) * 4 for image in texts)
    return len(written.encode()) + sum(length + len('""') - len("null") for length in lengths)


def again(generation: Generation, *, with_text: bool = True) -> dict[str, Any] | None:
    """The answer of a completed request as it was given, or None where none was kept.

    Without `with_text` the pictures stay out, for lists and polls that have links. Raises Gone after a purge.
    """
    if generation.purged_at is not None:
        raise errors.Gone("The answer of this request was purged.")
    if generation.answer is None:
        return None
    document: dict[str, Any] = orjson.loads(generation.answer)
    rows = Image.objects.filter(organization_id=generation.organization_id, generation=generation)
    paths = {row.position: row for row in rows}
    for position, item in enumerate(document["data"]):
        if "b64_json" in item and with_text:
            item["b64_json"] = _text(paths.get(position))
    return document


def _text(image: Image | None) -> str:
    if image is None or image.deleted_at is not None:
        raise errors.Gone("A picture of this answer was deleted.")
    try:
        with store.open_image(image.path) as handle:
            return pybase64.b64encode_as_string(handle.read())
    except FileNotFoundError as error:
        raise errors.Gone("A picture of this answer is no longer stored.") from error
