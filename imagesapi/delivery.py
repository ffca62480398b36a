"""From a provider's pictures to what is delivered: decoded, looked at, converted only if asked, described, and kept."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pybase64

from core import faults, ids
from imagesapi import imaging, pictures, results, store
from imagesapi.admission import Settlement
from imagesapi.providers.base import BadAnswer
from imagesapi.values import Answer, Fitted, ImageRequest, Picture

_LONG_TEXT_CHARS = 2_000


@dataclass(slots=True)
class Kept:
    """One picture on its way to the store and the caller; `data` is let go once it is stored."""

    position: int
    data: bytes
    facts: imaging.Facts
    b64: str | memoryview | None
    revised_prompt: str
    id: uuid.UUID = field(default_factory=ids.new)
    path: str = ""
    size_bytes: int = 0

    @property
    def pixels(self) -> tuple[int, int]:
        return self.facts.width_px, self.facts.height_px

    @property
    def extension(self) -> str:
        return imaging.EXTENSIONS[self.facts.content_type]

    def base64(self) -> str | memoryview:
        """The picture as text: the provider's own where nothing was changed, so that it is not encoded twice."""
        if self.b64 is None:
            self.b64 = pybase64.b64encode_as_string(self.data)
        return self.b64

    def as_row(self) -> dict[str, Any]:
        """Its row in the images table, as JSON."""
        return {
            "id": str(self.id),
            "position": self.position,
            "path": self.path,
            "content_type": self.facts.content_type,
            "width_px": self.facts.width_px,
            "height_px": self.facts.height_px,
            "size_bytes": self.size_bytes,
            "revised_prompt": self.revised_prompt,
        }


def examine(answer: Answer, fitted: Fitted, request: ImageRequest) -> tuple[Kept, ...]:
    """The pictures, each proven to be one. More than were asked for are left out. Raises BadAnswer."""
    if not answer.pictures:
        raise BadAnswer("the provider's answer holds no picture", request_id=answer.request_id)
    try:
        return tuple(
            _examine(picture, position, fitted, request) for position, picture in enumerate(answer.pictures[: fitted.n])
        )
    except (imaging.NotAnImage, ValueError) as error:
        message = f"the provider's answer holds no usable picture: {error}"
        raise BadAnswer(message, request_id=answer.request_id) from error


def _examine(picture: Picture, position: int, fitted: Fitted, request: ImageRequest) -> Kept:
    text = picture.b64
    data = picture.data if picture.data is not None else pybase64.b64decode(text or "", validate=True)
    facts = imaging.identify(data)
    if fitted.convert_to is not None:
        data = pictures.convert(data, to=fitted.convert_to, compression=request.output_compression)
        facts, text = imaging.identify(data), None
    return Kept(position=position, data=data, facts=facts, b64=text, revised_prompt=picture.revised_prompt or "")


def shortened(body: Mapping[str, Any]) -> dict[str, Any]:
    """What was sent, for the log: long text cut, since the prompt is kept whole with what was asked."""
    return {
        name: f"{value[:_LONG_TEXT_CHARS]}…" if isinstance(value, str) and len(value) > _LONG_TEXT_CHARS else value
        for name, value in body.items()
    }


def sent(body: Mapping[str, Any], fitted: Fitted) -> dict[str, Any]:
    """What went to the provider, for the log: the body, and the facts of the pictures that went with it."""
    found = shortened(body)
    if fitted.images:
        found["images"] = [image.as_dict() for image in fitted.images]
    if fitted.mask is not None:
        found["mask"] = fitted.mask.as_dict()
    return found


def keep(settlement: Settlement, images: tuple[Kept, ...]) -> None:
    """Bytes first, then what they come to: whoever finds the result finds its images. Raises store.StoreError."""
    try:
        for image in images:
            image.size_bytes = len(image.data)
            image.path = store.save(image.id, image.data, extension=image.extension)
            settlement.images.append(image.as_row())
            if image.b64 is not None:
                image.data = b""  # the answer hands the text through; a thousand of these at once add up
        faults.point("after_images")
        results.keep(settlement.generation_id, as_document(settlement))
    except store.StoreError:
        for row in settlement.images:
            with contextlib.suppress(OSError):
                store.delete(row["path"])
        raise
    faults.point("after_result")


def as_document(settlement: Settlement) -> dict[str, Any]:
    """A settlement as JSON, for the store."""
    document = {name: getattr(settlement, name) for name in Settlement.__slots__}
    return {**document, "generation_id": str(settlement.generation_id)}


def from_document(document: Mapping[str, Any]) -> Settlement:
    """The settlement that `as_document` wrote."""
    return Settlement(**{**document, "generation_id": uuid.UUID(document["generation_id"])})
