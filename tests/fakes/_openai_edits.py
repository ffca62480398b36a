"""OpenAI's rules for the form of images/edits: its fields as text, its files by their true types, masks and markup."""

from __future__ import annotations

import io
from typing import Any

from PIL import Image

from tests.fakes import _openai
from tests.fakes._exchange import Part, Reply, Seen
from tests.fakes._openai import Refused

KNOWN = (_openai.KNOWN | {"input_fidelity"}) - {"moderation"}
_FILE_FIELDS = ("image", "image[]", "mask", "markup")
_FORMATS = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP"}
_WHOLE = ("n", "output_compression", "partial_images")
_MOST_IMAGES = 16
_MOST_BYTES = 50 * 1024 * 1024
_TOKENS_PER_IMAGE = {"low": 194, "high": 4354}


def edit(seen: Seen, *, key: str, retired: frozenset[str], at_least_bytes: int = 0) -> Reply:
    """POST /images/edits, as a form."""
    try:
        _openai.authenticate(seen, key=key)
        if not seen.headers.get("content-type", "").startswith("multipart/form-data") or not seen.parts:
            raise Refused(400, "Invalid multipart body.", code="invalid_multipart_form")
        asked = _openai.settled(_fields(seen), retired, known=KNOWN)
        images = _images(seen, asked)
    except Refused as refused:
        return _openai.headed(refused.reply)
    tokens = len(images) * _TOKENS_PER_IMAGE[asked.get("input_fidelity", "low")]
    return _openai.headed(_openai.draw(asked, at_least_bytes, kind="image_edit", image_tokens=tokens))


def _fields(seen: Seen) -> dict[str, Any]:
    """The text fields with their types; each may come once."""
    found: dict[str, Any] = {}
    for part in seen.parts:
        if part.filename is not None:
            continue
        if part.name in found or part.name in _FILE_FIELDS:
            raise _wrong(part.name, "Expected a file." if part.name in _FILE_FIELDS else "Duplicate parameter.")
        text = part.data.decode()
        if part.name in _WHOLE:
            found[part.name] = int(text) if text.isdecimal() else text
        elif part.name == "stream":
            found[part.name] = {"true": True, "false": False}.get(text, text)
        else:
            found[part.name] = text
    return found


def _wrong(name: str, message: str, code: str = "invalid_value") -> Refused:
    return Refused(400, message, param=name, code=code)


def _images(seen: Seen, asked: dict[str, Any]) -> list[Part]:
    files: dict[str, list[Part]] = {}
    for part in seen.files:
        if part.name not in _FILE_FIELDS:
            raise _wrong(part.name, f"Unknown parameter: '{part.name}'.", "unknown_parameter")
        files.setdefault(part.name, []).append(part)
    images = files.get("image", []) + files.get("image[]", [])
    if not images:
        raise _wrong("image", "Missing required parameter: 'image'.", "missing_required_parameter")
    if len(files.get("image", [])) > 1 or len(images) > _MOST_IMAGES:
        raise _wrong("image", f"Expected at most {_MOST_IMAGES} images as 'image[]', or one as 'image'.")
    sizes = [_size_of(part) for part in images]
    _check_fidelity(asked)
    _check_overlays(files, asked, first=sizes[0])
    return images


def _size_of(part: Part) -> tuple[int, int]:
    if part.content_type not in _FORMATS:
        message = f"Invalid file '{part.filename}': unsupported mimetype ('{part.content_type}')."
        raise _wrong(part.name, message, "unsupported_file_mimetype")
    if len(part.data) >= _MOST_BYTES:
        raise _wrong(part.name, "The image must be under 50 MB.")
    try:
        with Image.open(io.BytesIO(part.data), formats=[_FORMATS[part.content_type]]) as image:
            return image.size
    except (OSError, SyntaxError) as error:
        raise _wrong(part.name, "The file is no valid image.", "invalid_image_file") from error


def _check_fidelity(asked: dict[str, Any]) -> None:
    told, model = asked.get("input_fidelity"), asked["model"]
    if told is None:
        return
    if model in _openai.NEW_FAMILY:
        message = f"The model '{model}' does not support 'input_fidelity'."
        raise _wrong("input_fidelity", message, "invalid_input_fidelity_model")
    allowed = ("low",) if model == "gpt-image-1-mini" else ("low", "high")
    if told not in allowed:
        raise _wrong("input_fidelity", f"Supported values are: {', '.join(allowed)}.")


def _check_overlays(files: dict[str, list[Part]], asked: dict[str, Any], *, first: tuple[int, int]) -> None:
    """Mask and markup: one PNG each with an alpha channel and the first image's size, and not both."""
    for name in ("mask", "markup"):
        for number, part in enumerate(files.get(name, [])):
            if number or part.content_type != "image/png":
                raise _wrong(name, f"Expected one PNG as {name}.")
            if _size_of(part) != first:
                raise _wrong(name, f"The {name} must have the size of the first image.", "invalid_image_file")
            with Image.open(io.BytesIO(part.data)) as image:
                if not image.has_transparency_data:
                    raise _wrong(name, f"The {name} needs an alpha channel.", "invalid_image_file")
    if "markup" in files and ("mask" in files or not asked["model"].startswith(("gpt-image-2.5", "gpt-image-2.6"))):
        raise _wrong("markup", "This model takes no markup, or none beside a mask.", "unknown_parameter")
