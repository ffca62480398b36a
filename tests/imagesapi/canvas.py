"""Pictures for tests of uploads: with a top and a left, with secrets in their notes, and hostile ones."""

from __future__ import annotations

import base64
import io
import random
import struct
import zlib
from typing import Any

from PIL import Image, PngImagePlugin

CORNERS = ((220, 30, 30), (30, 200, 30), (30, 30, 220), (230, 220, 40))  # top left, top right, bottom left and right
SECRET = "47.3769N-8.5417E"
_GPS, _ORIENTATION, _DESCRIPTION = 0x8825, 0x0112, 0x010E
_STORED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def picture(color: str = "red", *, size: tuple[int, int] = (64, 48), form: str = "PNG", mode: str = "RGB") -> bytes:
    """Of one colour."""
    out = io.BytesIO()
    Image.new(mode, size, color).save(out, form)
    return out.getvalue()


def mask(*, size: tuple[int, int] = (64, 48)) -> bytes:
    """Transparent, to be painted, in its left half."""
    image = Image.new("RGBA", size, (0, 0, 0, 255))
    image.paste((0, 0, 0, 0), (0, 0, size[0] // 2, size[1]))
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def data_uri(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def cornered(width: int = 48, height: int = 32, mode: str = "RGB") -> Image.Image:
    """One colour in each quarter."""
    image = Image.new("RGB", (width, height))
    for number, colour in enumerate(CORNERS):
        left, top = (number % 2) * width // 2, (number // 2) * height // 2
        image.paste(colour, (left, top, left + width // 2, top + height // 2))
    return image.convert(mode)


def corners(data: bytes) -> tuple[tuple[int, ...], ...]:
    """The colours in the middles of the quarters, as they are stored: no orientation is applied."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    width, height = image.size
    places = [(x, y) for y in (height // 4, 3 * height // 4) for x in (width // 4, 3 * width // 4)]
    return tuple(image.getpixel(place) for place in places)  # type: ignore[misc]


def encoded(image: Image.Image, kind: str, **how: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind.upper(), **how)
    return file.getvalue()


def taken_by_a_phone(kind: str, orientation: int, *, lossless: bool = False) -> bytes:
    """`cornered`, stored turned as a camera was held, with a place in every sort of note that the kind has."""
    image = cornered()
    if orientation in _STORED:
        image = image.transpose(_STORED[orientation])
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    exif[_DESCRIPTION] = SECRET
    exif[_GPS] = {1: "N", 2: (47.0, 22.0, 36.0), 3: "E", 4: (8.0, 32.0, 30.0), 29: SECRET}
    xmp = f"<x:xmpmeta xmlns:x='adobe:ns:meta/'><place>{SECRET}</place></x:xmpmeta>".encode()
    if kind == "png":
        notes = PngImagePlugin.PngInfo()
        notes.add_text("Comment", SECRET)
        notes.add_text("Place", SECRET, zip=True)
        notes.add_itxt("XML:com.adobe.xmp", xmp.decode())
        return encoded(image, kind, exif=exif, pnginfo=notes, dpi=(300, 300))
    if kind == "jpeg":
        return encoded(image, kind, exif=exif, xmp=xmp, comment=SECRET, quality=95)
    return encoded(image, kind, exif=exif.tobytes(), xmp=xmp, lossless=lossless, quality=95)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def with_chunk(png: bytes, name: bytes, data: bytes) -> bytes:
    """With one more chunk, right after the head."""
    return png[:33] + chunk(name, data) + png[33:]


def larger_head(png: bytes, width: int, height: int) -> bytes:
    """A second head, which some readers believe."""
    return with_chunk(png, b"IHDR", struct.pack(">II", width, height) + png[24:29])


def moving(kind: str, frames: int) -> bytes:
    images = [Image.new("RGB", (64, 64), (number % 256, 255 - number % 256, 90)) for number in range(frames)]
    return encoded(images[0], kind, save_all=True, append_images=images[1:], duration=40)


def seeds() -> list[bytes]:
    """Small pictures of every kind that callers send, each a way into another part of a decoder."""
    rgb, rgba = cornered(), cornered(mode="RGBA")
    rgba.putalpha(cornered(mode="L"))
    return [
        encoded(rgb, "png"),
        encoded(rgba, "png"),
        encoded(rgb.quantize(16), "png", transparency=3),
        encoded(cornered(mode="I;16"), "png"),
        taken_by_a_phone("png", 6),
        encoded(rgb, "jpeg", quality=80),
        encoded(rgb, "jpeg", progressive=True),
        encoded(cornered(mode="CMYK"), "jpeg"),
        taken_by_a_phone("jpeg", 5),
        encoded(rgb, "webp"),
        encoded(rgba, "webp", lossless=True),
        taken_by_a_phone("webp", 8),
    ]


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Bytes changed, cut out, repeated, put in or left off at the end; often with its checksums made right again."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at, length = rng.randrange(len(changed)), rng.choice((1, 1, 2, 4, 32))
        way = rng.randrange(6)
        if way <= 2:
            changed[at : at + length] = rng.choice((rng.randbytes(length), b"\x00" * length, b"\xff" * length))
        elif way == 3:
            del changed[at : at + length]
        elif way == 4:
            changed[at:at] = changed[at : at + length] * rng.choice((1, 8))
        elif len(changed) > 64:
            del changed[rng.randrange(32, len(changed)) :]
    found = bytes(changed) or b"\x00"
    return _with_right_sums(found) if rng.random() < 0.7 else found


def _with_right_sums(data: bytes) -> bytes:
    """A PNG's checksums for what its chunks hold now, or no decoder would ever look into them."""
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        return data
    parts, at = [data[:8]], 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4])
        if at + 12 + length > len(data):
            break
        parts.append(chunk(data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return b"".join(parts) + data[at:]
