"""OpenAI's images API: the requests it takes for new and for changed pictures, by one answer or as a stream."""

from __future__ import annotations

from typing import Any, Final

from imagesapi.providers import _multipart, _openai_answers, _openai_streams, _shared
from imagesapi.providers.base import Call, Setting
from imagesapi.values import Answer, Fitted, Offer

SETTINGS: Final = (
    Setting("OPENAI_API_KEY", secret=True, required=True),
    Setting("OPENAI_BASE_URL", default="https://api.openai.com/v1", is_base_url=True),
)

_OPTIONAL: Final = ("quality", "background", "output_compression", "user")
_ONLY_WHEN_GENERATING: Final = ("moderation", "style")
# They would change the form of the answer, or stand beside the files of an edit.
_NEVER_SENT: Final = frozenset(
    {"response_format", "stream", "partial_images", "image", "images", "image[]", "mask", "markup", "input_fidelity"}
)


def build(fitted: Fitted, offer: Offer) -> dict[str, Any]:
    """The body of POST /images/generations, or the text fields of POST /images/edits."""
    able = offer.capabilities
    edits = fitted.operation == "edit"
    body = {
        name: value
        for name, value in fitted.extras.items()
        if name in able.extras and name not in _NEVER_SENT and value is not None
    }
    body.update(model=(edits and offer.edit_wire_id) or offer.wire_id, prompt=fitted.prompt, n=fitted.n)
    if able.sizes or able.size_style != "enum":
        body["size"] = fitted.size
    if able.output_formats:
        body["output_format"] = fitted.output_format
    for name in (*_OPTIONAL, *(("input_fidelity",) if edits else _ONLY_WHEN_GENERATING)):
        value = getattr(fitted, name)
        if value is not None:
            body[name] = value
    if fitted.stream:
        body.update(stream=True, partial_images=fitted.partial_images)
    return body


def run(call: Call) -> Answer:
    """Make the call and return its pictures, or raise a ProviderError."""
    values = call.offer.connection.settings
    secret, request = values["OPENAI_API_KEY"], _request(call)
    if call.fitted.stream:
        with _shared.stream("POST", max_bytes=_openai_streams.max_bytes(call), **request) as stream:
            return _openai_streams.read(stream, call, secret=secret)
    reply = _shared.send("POST", max_bytes=_shared.answer_bytes(call), **request)
    if not 200 <= reply.status < 300:
        _openai_answers.fail(reply, secret=secret)
    return _openai_answers.read(reply, n=call.fitted.n)


def _request(call: Call) -> dict[str, Any]:
    """Where and what to post: JSON, or for an edit a form with its pictures."""
    values, fitted = call.offer.connection.settings, call.fitted
    base = values["OPENAI_BASE_URL"].rstrip("/")
    common = {"deadline": call.deadline, "headers": {"Authorization": f"Bearer {values['OPENAI_API_KEY']}"}}
    if fitted.operation != "edit":
        return {**common, "url": f"{base}/images/generations", "body": call.body}
    name = "image" if len(fitted.images) == 1 else "image[]"
    files = [
        _multipart.file(name, image, stem=f"image-{number}") for number, image in enumerate(fitted.images, start=1)
    ]
    if fitted.mask is not None:
        files.append(_multipart.file("mask", fitted.mask, stem="mask"))
    if fitted.markup is not None:
        files.append(_multipart.file("markup", fitted.markup, stem="markup"))
    content, content_type = _multipart.write(call.body, files=files)
    return {**common, "url": f"{base}/images/edits", "content": content, "content_type": content_type}
