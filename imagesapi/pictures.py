"""Pictures that callers send, made ready for providers, and conversions of pictures: all decoding in the workshop."""

from __future__ import annotations

import hashlib
from typing import Final, Literal

from core import errors, load
from imagesapi import imaging, workshop
from imagesapi.values import InputImage

UPLOAD_MAX_BYTES: Final = 50 * 1024 * 1024
UPLOAD_MAX_PIXELS: Final = 32_000_000
UPLOAD_MAX_SIDE_PX: Final = 16_384
UPLOAD_MAX_RATIO: Final = 64  # of the longer side to the shorter
UPLOAD_KINDS: Final = ("png", "jpeg", "webp")
CONVERTIBLE: Final = ("png", "jpeg", "webp", "avif", "gif")

# An upload of all the pixels there may be takes up to 400 MB and 8 seconds of a core.
_UPLOAD_MEMORY_BYTES = 768 * 1024 * 1024
_UPLOAD_LIMIT_S = 20
_UPLOAD_PATIENCE_S = 15.0
# A provider's picture is paid for: it may take longer, and an AVIF of 40 megapixels does, with 1.4 GB.
_CONVERSION_MEMORY_BYTES = 2 * 1024 * 1024 * 1024
_CONVERSION_LIMIT_S = 60
_CONVERSION_PATIENCE_S = 60.0
_USUAL_QUALITIES = {"jpeg": 95, "webp": 95, "avif": 90}


def prepare(data: bytes, *, param: str) -> InputImage:
    """A caller's picture checked, decoded in full, turned upright, and encoded anew without any metadata.

    Raises errors.InvalidRequest (400, naming `param` and what is allowed), and errors.Overloaded.
    """
    kind = _checked(data, param)
    try:
        _, made = _upload_job("prepare", kind, data=data)
        facts = imaging.look(made)
    except (workshop.Refused, imaging.NotAnImage) as error:
        raise _invalid(f"The picture in '{param}' cannot be used: {error}.", param) from error
    return _input(made, facts)


def _checked(data: bytes, param: str) -> str:
    """The kind of an upload, after all that can be told without decoding it."""
    if not data:
        raise _invalid(f"'{param}' is empty; send the bytes of a PNG, JPEG or WebP picture.", param)
    kind = imaging.kind(data)
    if kind not in UPLOAD_KINDS:
        found = kind.upper() if kind else "none of these"
        raise errors.InvalidRequest(
            f"'{param}' must be a PNG, JPEG or WebP picture; going by its bytes it is {found}.",
            param=param,
            code="unsupported_file_mimetype",
        )
    if len(data) > UPLOAD_MAX_BYTES:
        raise _invalid(f"'{param}' has {len(data)} bytes; a picture may have {UPLOAD_MAX_BYTES}.", param)
    try:
        facts = imaging.look(data)
    except imaging.NotAnImage as error:
        raise _invalid(f"The picture in '{param}' cannot be used: {error}.", param) from error
    _check_dimensions(facts.width_px, facts.height_px, param)
    return kind


def _check_dimensions(width_px: int, height_px: int, param: str) -> None:
    longer, shorter = max(width_px, height_px), min(width_px, height_px)
    told = f"'{param}' is {width_px}x{height_px} pixels"
    if longer > UPLOAD_MAX_SIDE_PX:
        raise _invalid(f"{told}; a side may have {UPLOAD_MAX_SIDE_PX}.", param)
    if width_px * height_px > UPLOAD_MAX_PIXELS:
        raise _invalid(f"{told}; a picture may have {UPLOAD_MAX_PIXELS // 1_000_000} megapixels.", param)
    if longer > shorter * UPLOAD_MAX_RATIO:
        raise _invalid(f"{told}; the longer side may be {UPLOAD_MAX_RATIO} times the shorter.", param)


def check_mask(mask: InputImage, first: InputImage) -> None:
    """Whether a mask fits the picture it is for. Raises errors.InvalidRequest."""
    wrong = _overlay_trouble(mask, first, kinds=("png", "webp"))
    if wrong:
        raise errors.InvalidRequest(
            f"'mask' {wrong}; it must be a PNG of the first image's size, fully transparent where to edit.",
            param="mask",
            code="invalid_mask",
        )


def check_markup(markup: InputImage, first: InputImage) -> None:
    """Whether a markup fits the picture it is for. Raises errors.InvalidRequest."""
    wrong = _overlay_trouble(markup, first, kinds=("png",))
    if wrong:
        raise errors.InvalidRequest(
            f"'markup' {wrong}; it must be a PNG of the first image's size, transparent where nothing is drawn.",
            param="markup",
            code="invalid_markup",
        )


def _overlay_trouble(overlay: InputImage, first: InputImage, *, kinds: tuple[str, ...]) -> str | None:
    kind = _kind(overlay)
    if kind not in kinds:
        return f"is a {kind.upper()}"
    if overlay.pixels != first.pixels:
        own, other = (f"{image.width_px}x{image.height_px}" for image in (overlay, first))
        return f"is {own} pixels and the first image {other}"
    try:
        (lowest_alpha,), _ = _upload_job("transparency", kind, data=overlay.data)
    except workshop.Refused as error:
        return f"cannot be used: {error}"
    if lowest_alpha == "255":
        return "has no transparent pixels"
    return "has no fully transparent pixels" if lowest_alpha != "0" else None


def mask_for(mask: InputImage, kind: Literal["alpha", "white"]) -> InputImage:
    """OpenAI's mask (transparent where to edit) as the PNG that an offer takes: the same, or white on opaque black.

    Raises imaging.NotAnImage and errors.Overloaded.
    """
    if kind == "alpha" and mask.content_type == "image/png":
        return mask
    try:
        _, made = _upload_job("mask", _kind(mask), kind, data=mask.data)
    except workshop.Refused as error:
        raise imaging.NotAnImage(f"the mask cannot be used: {error}") from error
    return _input(made, imaging.look(made))


def convert(data: bytes, *, to: str, compression: int | None) -> bytes:
    """A picture as one of CONVERTIBLE; `compression` is OpenAI's 0 to 100. Raises imaging.NotAnImage.

    Transparent pixels become white where the new kind has none. Of a moving picture the first frame is taken.
    """
    facts = imaging.identify(data)
    quality = compression if compression is not None else _USUAL_QUALITIES.get(to, 100)
    words = ("convert", facts.content_type.removeprefix("image/"), str(imaging.MAX_PIXELS), to, str(max(quality, 1)))
    try:
        _, made = workshop.run(
            *words,
            data=data,
            memory_bytes=_CONVERSION_MEMORY_BYTES,
            limit_s=_CONVERSION_LIMIT_S,
            patience_s=_CONVERSION_PATIENCE_S,
        )
    except (workshop.Refused, workshop.Unavailable) as error:
        raise imaging.NotAnImage(f"the picture could not be made a {to.upper()}: {error}") from error
    return made


def _upload_job(job: str, kind: str, *more: str, data: bytes) -> tuple[tuple[str, ...], bytes]:
    """Raises workshop.Refused, and errors.Overloaded where nobody was free for it."""
    try:
        return workshop.run(
            *(job, kind, str(UPLOAD_MAX_PIXELS), *more),
            data=data,
            memory_bytes=_UPLOAD_MEMORY_BYTES,
            limit_s=_UPLOAD_LIMIT_S,
            patience_s=_UPLOAD_PATIENCE_S,
        )
    except workshop.Unavailable as error:
        raise load.refusal() from error


def _kind(image: InputImage) -> str:
    return image.content_type.removeprefix("image/")


def _input(data: bytes, facts: imaging.Facts) -> InputImage:
    return InputImage(
        content_type=facts.content_type,
        width_px=facts.width_px,
        height_px=facts.height_px,
        sha256=hashlib.sha256(data).hexdigest(),
        data=data,
    )


def _invalid(message: str, param: str) -> errors.InvalidRequest:
    return errors.InvalidRequest(message, param=param, code="invalid_image_file")
