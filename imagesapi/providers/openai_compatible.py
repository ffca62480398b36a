"""Any service that speaks OpenAI's images API: xAI, Together, or a server of the operator's own, each in its dialect.

The dialect and the default address stand in the provider's catalogue row; the settings carry the provider's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pybase64

from imagesapi.providers import _compatible_answers, _multipart, _shared
from imagesapi.providers.base import Call, Setting
from imagesapi.values import Answer, Fitted, InputImage, Offer

DIALECTS: Final = ("plain", "xai", "together")
SETTINGS: Final[tuple[Setting, ...]] = ()  # named after each provider: see settings_for

# What the core decides, or what would change the form of the answer.
_NEVER_SENT: Final = frozenset(
    {
        "model",
        "prompt",
        "n",
        "size",
        "width",
        "height",
        "aspect_ratio",
        "resolution",
        "response_format",
        "stream",
        "partial_images",
        "image",
        "images",
        "image[]",
        "image_url",
        "reference_images",
        "mask",
    }
)
_PLAIN_OPTIONAL: Final = ("quality", "background", "output_compression", "moderation", "style", "user")


def settings_for(slug: str, options: Mapping[str, Any]) -> tuple[Setting, ...]:
    """The settings of one provider: for the slug `together` TOGETHER_API_KEY and TOGETHER_BASE_URL.

    A provider that needs no key and states no address is switched on by its address.
    """
    return (
        Setting(_name(slug, "API_KEY"), secret=True, required=not options.get("key_optional", False)),
        Setting(_name(slug, "BASE_URL"), default=options.get("base_url", ""), required=True, is_base_url=True),
    )


def _name(slug: str, setting: str) -> str:
    return f"{slug.upper().replace('-', '_')}_{setting}"


def _dialect(offer: Offer) -> str:
    word = offer.connection.options.get("dialect", "plain")
    return word if word in DIALECTS else "plain"


def build(fitted: Fitted, offer: Offer) -> dict[str, Any]:
    """The body for new pictures, or the fields of an edit, in the provider's dialect."""
    able = offer.capabilities
    body = {
        name: value
        for name, value in fitted.extras.items()
        if name in able.extras and name not in _NEVER_SENT and value is not None
    }
    edits = fitted.operation == "edit"
    body.update(model=(edits and offer.edit_wire_id) or offer.wire_id, prompt=fitted.prompt, n=fitted.n)
    body.update(_WRITERS[_dialect(offer)](fitted, offer))
    if len(able.output_formats) > 1:  # else there is nothing to choose, and a strict server would not know the word
        body["output_format"] = fitted.output_format
    return body


def _as_plain(fitted: Fitted, offer: Offer) -> dict[str, Any]:
    able = offer.capabilities
    body: dict[str, Any] = {"response_format": "b64_json"}
    if able.sizes or able.size_style != "enum":
        body["size"] = fitted.size
    found = {name: getattr(fitted, name) for name in _PLAIN_OPTIONAL}
    return body | {name: value for name, value in found.items() if value is not None}


def _as_xai(fitted: Fitted, offer: Offer) -> dict[str, Any]:
    """xAI thinks in ratios and tiers; it refuses `size` and `style`."""
    found = {
        "aspect_ratio": fitted.aspect_ratio,
        "resolution": fitted.resolution.lower() if fitted.resolution else None,
        "quality": fitted.quality,
        "user": fitted.user,
    }
    return {"response_format": "b64_json"} | {name: value for name, value in found.items() if value is not None}


def _as_together(fitted: Fitted, offer: Offer) -> dict[str, Any]:
    """Together takes edges apart, and calls base64 by its name."""
    body: dict[str, Any] = {"response_format": "base64"}
    if fitted.pixels is not None:
        body["width"], body["height"] = fitted.pixels
    return body


_WRITERS: Final = {"plain": _as_plain, "xai": _as_xai, "together": _as_together}


def run(call: Call) -> Answer:
    """Make the call and return its pictures, or raise a ProviderError."""
    offer = call.offer
    values = offer.connection.settings
    key, base = values.get(_name(offer.provider, "API_KEY"), ""), values[_name(offer.provider, "BASE_URL")].rstrip("/")
    reply = _shared.send(
        "POST",
        deadline=call.deadline,
        max_bytes=_shared.answer_bytes(call),
        headers={"Authorization": f"Bearer {key}"} if key else {},
        **_request(call, base),
    )
    if not 200 <= reply.status < 300:
        _compatible_answers.fail(reply, secret=key)
    return _compatible_answers.read(reply, n=call.fitted.n, deadline=call.deadline, may_fetch=_allowed(offer, base))


def _request(call: Call, base: str) -> dict[str, Any]:
    """Where and what to post; the pictures of an edit go where the dialect wants them."""
    fitted, body = call.fitted, dict(call.body)
    dialect = _dialect(call.offer)
    if fitted.operation != "edit":
        return {"url": f"{base}/images/generations", "body": body}
    if dialect == "xai":
        pictures = [{"url": _data_uri(image), "type": "image_url"} for image in fitted.images]
        body |= {"image": pictures[0]} if len(pictures) == 1 else {"images": pictures}
        return {"url": f"{base}/images/edits", "body": body}
    if dialect == "together":
        return {"url": f"{base}/images/generations", "body": body | _together_pictures(call)}
    name = "image" if len(fitted.images) == 1 else "image[]"
    files = [
        _multipart.file(name, image, stem=f"image-{number}") for number, image in enumerate(fitted.images, start=1)
    ]
    if fitted.mask is not None:
        files.append(_multipart.file("mask", fitted.mask, stem="mask"))
    content, content_type = _multipart.write(body, files=files)
    return {"url": f"{base}/images/edits", "content": content, "content_type": content_type}


def _together_pictures(call: Call) -> dict[str, Any]:
    """One picture as `image_url`, several as `reference_images`, unless the offer names the field."""
    edits = call.offer.capabilities.edits
    addresses = [_data_uri(image) for image in call.fitted.images]
    field = edits.image_field if edits is not None else ""
    if field == "reference_images" or (not field and len(addresses) > 1):
        return {"reference_images": addresses}
    return {field or "image_url": addresses[0]}


def _data_uri(image: InputImage) -> str:
    return f"data:{image.content_type};base64,{pybase64.b64encode_as_string(image.data)}"


def _allowed(offer: Offer, base: str) -> _compatible_answers.MayFetch:
    """Result files come over https from the hosts of the catalogue row, or from the very place that was asked."""
    hosts = tuple(offer.connection.options.get("result_hosts", ()))
    home = _shared.place(f"{base}/")

    def may_fetch(address: str) -> bool:
        place = _shared.place(address) if len(address) <= _shared.MAX_ADDRESS_CHARS else None
        if place is None:
            return False
        scheme, host, port = place
        listed = any(host == known or (known.startswith(".") and host.endswith(known)) for known in hosts)
        return place == home or (listed and scheme == "https" and port == 443)

    return may_fetch
