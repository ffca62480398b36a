"""What bytes are (type and dimensions, read from the head alone), and conversion where a caller asked for it."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass

import PIL.Image

CONTENT_TYPES = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp", "gif": "image/gif"}
EXTENSIONS = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp", "image/gif": "gif"}
_MAX_PIXELS = 40_000_000


class NotAnImage(ValueError):
    """The bytes are no picture of a kind we serve."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a picture's own head says."""

    content_type: str
    width_px: int
    height_px: int


def identify(data: bytes) -> Facts:
    """Type and dimensions from the head; nothing is decoded. Raises NotAnImage."""
    try:
        if data[:8] == b"\x89PNG\r\n\x1a\n" and data[12:16] == b"IHDR":
            return _facts("image/png", *struct.unpack(">II", data[16:24]))
        if data[:3] == b"\xff\xd8\xff":
            return _facts("image/jpeg", *_jpeg_dimensions(data))
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _facts("image/webp", *_webp_dimensions(data))
        if data[:6] in (b"GIF87a", b"GIF89a"):
            return _facts("image/gif", *struct.unpack("<HH", data[6:10]))
    except (struct.error, IndexError) as error:
        raise NotAnImage("the picture ends in the middle of its head") from error
    raise NotAnImage("these bytes are no PNG, JPEG, WebP or GIF")


def _facts(content_type: str, width_px: int, height_px: int) -> Facts:
    if not 0 < width_px * height_px <= _MAX_PIXELS:
        raise NotAnImage(f"a picture of {width_px}x{height_px} pixels is not taken")
    return Facts(content_type=content_type, width_px=width_px, height_px=height_px)


def _jpeg_dimensions(data: bytes) -> tuple[int, int]:
    """Walk the segments to the frame header (SOF0 to SOF15 without DHT, JPG and DAC)."""
    at = 2
    while data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:
            at += 2
            continue
        (length,) = struct.unpack(">H", data[at + 2 : at + 4])
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return width, height
        if marker == 0xDA or length < 2:
            break
        at += 2 + length
    raise NotAnImage("a JPEG without a frame header")


def _webp_dimensions(data: bytes) -> tuple[int, int]:
    kind = data[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L" and data[20] == 0x2F:
        (bits,) = struct.unpack("<I", data[21:25])
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        width, height = struct.unpack("<HH", data[26:30])
        return width & 0x3FFF, height & 0x3FFF
    raise NotAnImage("a WebP without a picture")


def convert(data: bytes, *, to: str, compression: int | None) -> bytes:
    """Re-encode a picture as png, jpeg or webp; `compression` is OpenAI's 0 to 100. Raises NotAnImage."""
    try:
        with PIL.Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP")) as picture:
            picture.load()
            out = io.BytesIO()
            if to == "jpeg" and picture.mode != "RGB":
                ground = PIL.Image.new("RGB", picture.size, "white")
                rgba = picture.convert("RGBA")
                ground.paste(rgba, mask=rgba.getchannel("A"))
                ground.save(out, "JPEG", quality=compression if compression is not None else 95)
            elif to == "png":
                picture.save(out, "PNG")
            else:
                picture.save(out, to.upper(), quality=compression if compression is not None else 95)
            return out.getvalue()
    except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError) as error:
        raise NotAnImage("the picture could not be decoded") from error
