"""What bytes are: type and dimensions, read from the head alone; nothing is ever decoded here."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

CONTENT_TYPES = {
    "png": "image/png",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "gif": "image/gif",
    "avif": "image/avif",
}
EXTENSIONS = {
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/webp": "webp",
    "image/gif": "gif",
    "image/avif": "avif",
}
MAX_PIXELS = 40_000_000


class NotAnImage(ValueError):
    """The bytes are no picture of a kind we serve."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a picture's own head says."""

    content_type: str
    width_px: int
    height_px: int


def kind(data: bytes) -> str | None:
    """The sort of picture that the first bytes announce, a key of CONTENT_TYPES, or None."""
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return "png"
    if data[:3] == b"\xff\xd8\xff":
        return "jpeg"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return "gif"
    if data[4:8] == b"ftyp" and _is_avif(data):
        return "avif"
    return None


def look(data: bytes) -> Facts:
    """Type and dimensions from the head, however large. Raises NotAnImage."""
    found = kind(data)
    if found is None:
        raise NotAnImage("these bytes are no PNG, JPEG, WebP, GIF or AVIF")
    try:
        width_px, height_px = _DIMENSIONS[found](data)
    except (struct.error, IndexError) as error:
        raise NotAnImage("the picture ends in the middle of its head") from error
    if not width_px * height_px:
        raise NotAnImage("the picture has no pixels")
    return Facts(content_type=CONTENT_TYPES[found], width_px=width_px, height_px=height_px)


def identify(data: bytes) -> Facts:
    """As `look`, for pictures of a size that we take from providers. Raises NotAnImage."""
    facts = look(data)
    if facts.width_px * facts.height_px > MAX_PIXELS:
        raise NotAnImage(f"a picture of {facts.width_px}x{facts.height_px} pixels is not taken")
    return facts


def _png_dimensions(data: bytes) -> tuple[int, int]:
    if data[12:16] != b"IHDR":
        raise NotAnImage("a PNG without its head")
    width_px, height_px = struct.unpack(">II", data[16:24])
    return width_px, height_px


def _gif_dimensions(data: bytes) -> tuple[int, int]:
    width_px, height_px = struct.unpack("<HH", data[6:10])
    return width_px, height_px


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
    chunk = data[12:16]
    if chunk == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if chunk == b"VP8L" and data[20] == 0x2F:
        (bits,) = struct.unpack("<I", data[21:25])
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if chunk == b"VP8 ":
        width, height = struct.unpack("<HH", data[26:30])
        return width & 0x3FFF, height & 0x3FFF
    raise NotAnImage("a WebP without a picture")


def _is_avif(data: bytes) -> bool:
    """Its own brand, or among those it is compatible with."""
    end = min(int.from_bytes(data[:4]), 256)
    brands = {data[at : at + 4] for at in (8, *range(16, end, 4))}
    return bool(brands & {b"avif", b"avis"})


def _avif_dimensions(data: bytes) -> tuple[int, int]:
    """The largest extent that is told: beside the whole picture there may be those of its tiles and of its alpha."""
    found = (0, 0)
    for start, end in _boxes(data, b"meta", 0, len(data)):
        for inside in _boxes(data, b"iprp", start + 4, end):
            for properties in _boxes(data, b"ipco", *inside):
                for at, _ in _boxes(data, b"ispe", *properties):
                    width_px, height_px = struct.unpack(">II", data[at + 4 : at + 12])
                    found = max(found, (width_px, height_px), key=lambda pixels: pixels[0] * pixels[1])
    if found == (0, 0):
        raise NotAnImage("an AVIF without a picture")
    return found


def _boxes(data: bytes, name: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Where the contents of the boxes of this name start and end, among those that follow each other here."""
    while start + 8 <= end:
        size, head = int.from_bytes(data[start : start + 4]), 8
        if size == 1:
            size, head = int.from_bytes(data[start + 8 : start + 16]), 16
        stop = end if size == 0 else start + size
        if stop < start + head or stop > end:
            return
        if data[start + 4 : start + 8] == name:
            yield start + head, stop
        start = stop


_DIMENSIONS: dict[str, Callable[[bytes], tuple[int, int]]] = {
    "png": _png_dimensions,
    "jpeg": _jpeg_dimensions,
    "webp": _webp_dimensions,
    "gif": _gif_dimensions,
    "avif": _avif_dimensions,
}
