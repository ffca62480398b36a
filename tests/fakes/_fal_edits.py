"""What fal's edit endpoints want: pictures as data URIs in the field of the model, and a mask in black and white."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pybase64
from PIL import Image

_DATA_URI = re.compile(r"data:(image/(?:png|jpeg|webp));base64,([A-Za-z0-9+/=]+)")
_MOST_IMAGES = 16


@dataclass(frozen=True, slots=True)
class Rules:
    """The names of the fields; no mask field means there is no mask, no fidelities that there is no such choice."""

    field: str = "image_urls"
    mask_field: str = ""
    fidelities: tuple[str, ...] = ()


class Wrong(Exception):
    """One field against the rules."""

    def __init__(self, field: str, message: str, kind: str) -> None:
        super().__init__(message)
        self.field, self.message, self.kind = field, message, kind


def check(rules: Rules, asked: Mapping[str, Any]) -> None:
    given = asked.get(rules.field)
    if given is None:
        raise Wrong(rules.field, "Field required", "missing")
    addresses = given if rules.field.endswith("s") else [given]
    if not isinstance(addresses, list) or not addresses:
        raise Wrong(rules.field, "Input should be a valid list", "list_type")
    if len(addresses) > _MOST_IMAGES:
        raise Wrong(rules.field, f"List should have at most {_MOST_IMAGES} items", "too_long")
    images = [_image(rules.field, address) for address in addresses]
    if asked.get(rules.mask_field) is not None:
        mask = _image(rules.mask_field, asked[rules.mask_field])
        if mask.size != images[0].size or mask.has_transparency_data:
            raise Wrong(rules.mask_field, "The mask is black and white, as large as the image.", "value_error")
    told = asked.get("input_fidelity")
    if rules.fidelities and told is not None and told not in rules.fidelities:
        raise Wrong("input_fidelity", "Input should be 'low' or 'high'", "literal_error")


def _image(field: str, address: Any) -> Image.Image:
    match = _DATA_URI.fullmatch(address) if isinstance(address, str) else None
    if match is None:
        raise Wrong(field, "Failed to download the file.", "file_download_error")
    try:
        image = Image.open(io.BytesIO(pybase64.b64decode(match[2], validate=True)))
        image.load()
    except (OSError, ValueError, SyntaxError) as error:
        raise Wrong(field, "Failed to load the image.", "image_load_error") from error
    if Image.MIME[image.format or ""] != match[1]:
        raise Wrong(field, "Failed to load the image.", "image_load_error")
    return image
