"""Real pictures of one colour in any size and format, drawn once and kept."""

from __future__ import annotations

import functools
import io
import struct
import zlib

import pybase64
from PIL import Image

_COLOURS = ((200, 60, 60), (60, 160, 80), (60, 90, 200), (220, 180, 60), (140, 80, 170))
_PNG_END_BYTES = 12


@functools.lru_cache(maxsize=128)
def draw(width: int, height: int, output_format: str, number: int = 0, transparent: bool = False) -> bytes:
    """The picture with this number in its answer; neighbours differ in colour."""
    colour = _COLOURS[number % len(_COLOURS)]
    if transparent and output_format != "jpeg":
        image = Image.new("RGBA", (width, height), (*colour, 0))
    else:
        image = Image.new("RGB", (width, height), colour)
    file = io.BytesIO()
    image.save(file, format=output_format.upper(), **({"compress_level": 1} if output_format == "png" else {}))
    return file.getvalue()


@functools.lru_cache(maxsize=128)
def as_base64(
    width: int, height: int, output_format: str, number: int = 0, transparent: bool = False, at_least_bytes: int = 0
) -> str:
    data = draw(width, height, output_format, number, transparent)
    if output_format == "png" and len(data) < at_least_bytes:
        data = _padded(data, at_least_bytes)
    return pybase64.b64encode(data).decode()


def _padded(png: bytes, size_bytes: int) -> bytes:
    """The same picture with a private chunk that every reader skips, so that it weighs what a real one does."""
    filling = bytes(range(256)) * ((size_bytes - len(png)) // 256 + 1)
    chunk = b"paDd" + filling
    chunk = struct.pack(">I", len(filling)) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return png[:-_PNG_END_BYTES] + chunk + png[-_PNG_END_BYTES:]
