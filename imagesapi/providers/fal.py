"""fal.ai: models called by one long run or through its queue, the pictures inline; one grammar for all its models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pybase64

from imagesapi.providers import _fal_answers, _fal_queue, _shared
from imagesapi.providers.base import Call, Setting
from imagesapi.values import Answer, Fitted, InputImage, Offer

SETTINGS: Final = (
    Setting("FAL_KEY", secret=True, required=True),
    *(Setting(name, default=address, is_base_url=True) for name, address in _fal_answers.BASE_URLS.items()),
    Setting("FAL_MODE", default="run"),  # "run" or "queue"
)

_OWN_FIELDS: Final = frozenset(
    {
        "prompt", "image_size", "num_images", "quality", "background", "output_format", "sync_mode", "openai_api_key",
        "image_url", "image_urls", "mask_url", "mask_image_url", "input_fidelity",
    }
)  # fmt: skip
_PICTURES_FIELD: Final = "image_urls"


def build(fitted: Fitted, offer: Offer) -> dict[str, Any]:
    """The flat input object of a model; every picture comes inline, so nothing is left in fal's storage."""
    able = offer.capabilities
    body = {
        name: value
        for name, value in fitted.extras.items()
        if name in able.extras and name not in _OWN_FIELDS and value is not None
    }
    body.update(prompt=fitted.prompt, sync_mode=True)
    if able.max_n > 1:
        body["num_images"] = fitted.n
    if able.size_style == "enum":
        if able.sizes:
            body["image_size"] = fitted.size
    else:
        pixels = fitted.pixels
        body["image_size"] = {"width": pixels[0], "height": pixels[1]} if pixels else "auto"
    if able.output_formats:
        body["output_format"] = fitted.output_format
    if fitted.quality is not None:
        body["quality"] = fitted.quality
    if fitted.background is not None:
        body["background"] = fitted.background
    fidelities = able.edits.input_fidelities if fitted.operation == "edit" and able.edits else ()
    if fidelities:
        # fal's own default is the costlier one; whoever asks for nothing gets OpenAI's.
        body["input_fidelity"] = fitted.input_fidelity or fidelities[0]
    return body


def run(call: Call) -> Answer:
    """Make the call, by one run or through the queue as FAL_MODE says, and return its pictures."""
    values = call.offer.connection.settings
    edits = call.fitted.operation == "edit"
    wire_id = (edits and call.offer.edit_wire_id) or call.offer.wire_id
    body = {**call.body, **_pictures(call)} if edits else call.body
    if values.get("FAL_MODE") == "queue":
        return _fal_queue.run(call, wire_id, body)
    reply = _shared.send(
        "POST",
        f"{values['FAL_RUN_URL'].rstrip('/')}/{wire_id}",
        deadline=call.deadline,
        max_bytes=_shared.answer_bytes(call),
        headers=_fal_queue.authorization(values),
        body=body,
    )
    return _fal_answers.read(reply, values, n=call.fitted.n, deadline=call.deadline)


def resume(offer: Offer, reference: Mapping[str, Any], deadline: float) -> Answer | None:
    """The answer of a job submitted before a crash, None while it runs or cannot be asked about."""
    return _fal_queue.resume(offer, reference, deadline)


def _pictures(call: Call) -> dict[str, Any]:
    """An edit's pictures as data URIs in the fields the offer names: `image_urls mask_url`, the mask's being second."""
    edits = call.offer.capabilities.edits
    field, _, mask_field = (edits.image_field if edits and edits.image_field else _PICTURES_FIELD).partition(" ")
    addresses = [_data_uri(image) for image in call.fitted.images]
    found: dict[str, Any] = {field: addresses if field.endswith("s") else addresses[0]}
    if call.fitted.mask is not None and mask_field:
        found[mask_field] = _data_uri(call.fitted.mask)
    return found


def _data_uri(image: InputImage) -> str:
    return f"data:{image.content_type};base64,{pybase64.b64encode_as_string(image.data)}"
