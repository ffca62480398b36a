"""A child of the workshop: takes pictures on its standard input, one at a time, and hands back what was made of them.

Runs without Django, without secrets and with little memory. Whatever happens here costs one job.
"""

from __future__ import annotations

import io
import os
import resource
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO

from PIL import AvifImagePlugin, GifImagePlugin, Image, ImageChops, JpegImagePlugin, PngImagePlugin, WebPImagePlugin
from PIL.ImageFile import ImageFile

from imagesapi import parcels

Made = tuple[tuple[str, ...], bytes]

# The readers themselves: Image.open would make another kind of a phone's JPEG that carries a second picture.
_READERS: dict[str, Callable[[BinaryIO], ImageFile]] = {
    "png": PngImagePlugin.PngImageFile,
    "jpeg": JpegImagePlugin.JpegImageFile,
    "webp": WebPImagePlugin.WebPImageFile,
    "gif": GifImagePlugin.GifImageFile,
    "avif": AvifImagePlugin.AvifImageFile,
}
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION = 0x0112
_PROFILE_MAX_BYTES = 1024 * 1024
# A progressive JPEG is gone through once for each scan; ten are usual.
_SCANS_MAX = 100
# libwebp's lossless coder, which codes every alpha channel too, takes 45 bytes a pixel: a larger one becomes a PNG.
_LOSSLESS_WEBP_MAX_PIXELS = 8_000_000
# A lossy WebP of much noise in many pixels overflows a field of its format, less so with each of these qualities.
_LOWER_QUALITIES = (90, 80, 65, 50, 30, 10)
_PNG = {"compress_level": 3}  # a third of the time of Pillow's usual level, a tenth larger
_AVIF_CAREFUL_MAX_PIXELS = 4_000_000
_GIF_COLOURS = 255  # and one for what is transparent
_GIF_LOOKED_AT_PIXELS = 500_000
_BAND_PX = 512
_OPEN_FILES_MAX = 16


class Refused(Exception):
    """The bytes are not worked on; the one argument is a word that the workshop knows."""


def _opened(data: bytes, kind: str, *, max_pixels: int, max_frames: int | None) -> ImageFile:
    """The picture decoded in full; what is larger or longer than its head told the workshop is refused before."""
    if kind == "jpeg" and data.count(b"\xff\xda") > _SCANS_MAX:
        raise Refused("scans")
    picture = _READERS[kind](io.BytesIO(data))
    if not 0 < picture.width * picture.height <= max_pixels:
        raise Refused("pixels")
    if max_frames is not None and getattr(picture, "n_frames", 1) > max_frames:
        raise Refused("frames")
    picture.load()
    return picture


def _upright(picture: Image.Image) -> Image.Image:
    """Turned as its EXIF or XMP says. A note that cannot be read turns nothing."""
    orientation = None
    with suppress(Exception):
        orientation = picture.getexif().get(_ORIENTATION)
    way = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return picture if way is None else picture.transpose(way)


def _strip(picture: Image.Image) -> bytes | None:
    """Forget all notes but the transparent colour, which belongs to the pixels; returns a colour profile to keep."""
    profile = picture.info.get("icc_profile")
    transparency = picture.info.get("transparency")
    picture.info = {} if transparency is None else {"transparency": transparency}
    return profile if isinstance(profile, bytes) and 0 < len(profile) <= _PROFILE_MAX_BYTES else None


def prepare(data: bytes, kind: str, *, max_pixels: int) -> Made:
    """A caller's picture: upright, without notes, encoded anew as what it was."""
    picture = _opened(data, kind, max_pixels=max_pixels, max_frames=None if kind == "jpeg" else 1)
    upright = _upright(picture)
    turned = upright is not picture
    profile = _strip(upright)
    if kind == "jpeg":
        made = _as_jpeg(upright, quality=95, profile=profile, keep=not turned)
    elif kind == "png":
        made = _as_png(upright, profile=profile)
    else:
        made = _as_webp_again(upright, lossless=_is_lossless(data), profile=profile)
    return (), made


def _is_lossless(webp: bytes) -> bool:
    """Whether the chunk that holds the pixels is the lossless one."""
    at = 12
    while at + 8 <= len(webp):
        kind = webp[at : at + 4]
        if kind in (b"VP8L", b"VP8 "):
            return kind == b"VP8L"
        length = int.from_bytes(webp[at + 4 : at + 8], "little")
        at += 8 + length + length % 2
    return False


def transparency(data: bytes, kind: str, *, max_pixels: int) -> Made:
    """The lowest alpha there is; 255 where everything is opaque."""
    alpha = _alpha(_opened(data, kind, max_pixels=max_pixels, max_frames=None))
    return (str(alpha.getextrema()[0]) if alpha is not None else "255",), b""


def _alpha(picture: Image.Image) -> Image.Image | None:
    if not picture.has_transparency_data:
        return None
    return (picture if picture.mode in ("RGBA", "LA") else picture.convert("RGBA")).getchannel("A")


def mask(data: bytes, kind: str, *, max_pixels: int, polarity: str) -> Made:
    """A mask as PNG: "alpha" stays as it is, "white" becomes white where it was transparent, on black."""
    picture = _opened(data, kind, max_pixels=max_pixels, max_frames=None)
    _strip(picture)
    if polarity == "alpha":
        return (), _as_png(picture, profile=None)
    alpha = _alpha(picture) or Image.new("L", picture.size, 255)
    return (), _as_png(ImageChops.invert(alpha), profile=None)


def convert(data: bytes, kind: str, *, max_pixels: int, to: str, quality: int) -> Made:
    """A picture as another kind; of a moving one its first frame. `quality` 1 to 100 where the kind knows it."""
    picture = _upright(_opened(data, kind, max_pixels=max_pixels, max_frames=None))
    profile = _strip(picture)
    if picture.mode == "CMYK" and to != "jpeg":
        picture, profile = picture.convert("RGB"), None  # a profile for inks does not fit
    if to == "jpeg":
        made = _as_jpeg(_on_white(picture), quality=quality, profile=profile, keep=False)
    elif to == "webp":
        made = _as_webp(picture, quality=quality, profile=profile)
    elif to == "avif":
        made = _as_avif(picture, quality=quality, profile=profile)
    elif to == "gif":
        made = _as_gif(picture)
    else:
        made = _as_png(picture, profile=profile)
    return (), made


def _on_white(picture: Image.Image) -> Image.Image:
    """Without transparency, in a mode that a JPEG can have. In bands, so that no second whole copy is needed."""
    if not picture.has_transparency_data:
        return picture if picture.mode in ("RGB", "L", "CMYK") else picture.convert(_without_alpha(picture))
    ground = Image.new("RGB", picture.size, "white")
    for top in range(0, picture.height, _BAND_PX):
        band = picture.crop((0, top, picture.width, min(top + _BAND_PX, picture.height))).convert("RGBA")
        ground.paste(band, (0, top), mask=band)
    return ground


def _without_alpha(picture: Image.Image) -> str:
    return "L" if picture.mode in ("1", "L", "LA", "I", "I;16", "I;16B", "F") else "RGB"


def _as_rgb_or_rgba(picture: Image.Image) -> Image.Image:
    wanted = "RGBA" if picture.has_transparency_data else "RGB"
    return picture if picture.mode == wanted else picture.convert(wanted)


def _as_png(picture: Image.Image, *, profile: bytes | None) -> bytes:
    file = io.BytesIO()
    if picture.mode == "CMYK":
        picture, profile = picture.convert("RGB"), None
    picture.save(file, "PNG", icc_profile=profile, **_PNG)
    return file.getvalue()


def _as_jpeg(picture: Image.Image, *, quality: int, profile: bytes | None, keep: bool) -> bytes:
    """`keep`: with the tables it came with, so that its pixels hardly change."""
    file = io.BytesIO()
    if keep:
        with suppress(ValueError, OSError):
            picture.save(file, "JPEG", quality="keep", icc_profile=profile)
            return file.getvalue()
        file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality, icc_profile=profile)
    return file.getvalue()


def _as_webp_again(picture: Image.Image, *, lossless: bool, profile: bytes | None) -> bytes:
    large = picture.width * picture.height > _LOSSLESS_WEBP_MAX_PIXELS
    if large and (lossless or picture.has_transparency_data):
        return _as_png(picture, profile=profile)
    if not lossless:
        return _as_webp(picture, quality=95, profile=profile)
    file = io.BytesIO()
    # Here `quality` is effort. `exact` keeps the colours that are under transparent pixels.
    picture.save(file, "WEBP", lossless=True, quality=20, method=1, exact=True, icc_profile=profile)
    return file.getvalue()


def _as_webp(picture: Image.Image, *, quality: int, profile: bytes | None) -> bytes:
    for tried in (quality, *(lower for lower in _LOWER_QUALITIES if lower < quality)):
        file = io.BytesIO()
        with suppress(ValueError):
            _as_rgb_or_rgba(picture).save(file, "WEBP", quality=tried, method=2, icc_profile=profile)
            return file.getvalue()
    raise Refused("webp")


def _as_avif(picture: Image.Image, *, quality: int, profile: bytes | None) -> bytes:
    file = io.BytesIO()
    large = picture.width * picture.height > _AVIF_CAREFUL_MAX_PIXELS
    _as_rgb_or_rgba(picture).save(
        file, "AVIF", quality=quality, speed=10 if large else 8, max_threads=2, icc_profile=profile or b""
    )
    return file.getvalue()


def _as_gif(picture: Image.Image) -> bytes:
    """Colours chosen for this picture, from a smaller one where it is large; half-transparent pixels become opaque."""
    alpha = _alpha(picture)
    flat = _on_white(picture).convert("RGB")
    step = max(1, round((flat.width * flat.height / _GIF_LOOKED_AT_PIXELS) ** 0.5))
    palette = flat.reduce(step).quantize(_GIF_COLOURS, method=Image.Quantize.MEDIANCUT)
    drawn = flat.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
    file = io.BytesIO()
    if alpha is None:
        drawn.save(file, "GIF")
    else:
        drawn.paste(_GIF_COLOURS, mask=alpha.point([255] * 128 + [0] * 128))
        drawn.save(file, "GIF", transparency=_GIF_COLOURS, optimize=False)
    return file.getvalue()


def work(words: tuple[str, ...], data: bytes) -> Made:
    """Do one job: its name, the kind of the bytes, the most pixels, and what the job needs besides."""
    job, kind, max_pixels, *rest = words
    if job == "prepare":
        return prepare(data, kind, max_pixels=int(max_pixels))
    if job == "transparency":
        return transparency(data, kind, max_pixels=int(max_pixels))
    if job == "mask":
        return mask(data, kind, max_pixels=int(max_pixels), polarity=rest[0])
    return convert(data, kind, max_pixels=int(max_pixels), to=rest[0], quality=int(rest[1]))


def _answer(words: tuple[str, ...], data: bytes) -> Made:
    """What a job came to. Hostile bytes raise anything, and none of it is a reason to end."""
    try:
        told, made = work(words, data)
    except Refused as error:
        return ("refused", str(error)), b""
    except MemoryError:
        return ("refused", "memory"), b""
    except Exception:  # noqa: BLE001 - see above
        return ("refused", "broken"), b""
    return ("made", *told), made


def _limit(memory_bytes: int, seconds: int) -> None:
    """For one job. The alarm ends us, also in the middle of a decoder, if the workshop could not."""
    with suppress(OSError, ValueError):
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, most))
    signal.alarm(seconds)


def _harden() -> None:
    """Nothing here writes files, opens many, or leaves a picture behind in a core dump."""
    for limit, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, _OPEN_FILES_MAX),
    ):
        with suppress(OSError, ValueError):
            resource.setrlimit(limit, (most, most))
    # Ctrl-C reaches the whole terminal: the server finishes what it has, and so do we. Our end is that of our input.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.nice(5)


def main() -> None:
    """Work until the input ends."""
    with open(0, "rb", closefd=False) as inbox, open(os.dup(1), "wb") as outbox:
        os.dup2(2, 1)  # whatever prints must not talk to the workshop
        Image.MAX_IMAGE_PIXELS = None  # our own limit is smaller and comes with each job
        _harden()
        outbox.write(parcels.head(("ready",), 0))
        outbox.flush()
        while len(found := inbox.read(parcels.HEAD_BYTES)) == parcels.HEAD_BYTES:
            words_bytes, data_bytes = parcels.lengths(found)
            memory_bytes, seconds, *words = inbox.read(words_bytes).decode("ascii").split(" ")
            _limit(int(memory_bytes), int(seconds))
            told, made = _answer(tuple(words), inbox.read(data_bytes))
            signal.alarm(0)
            outbox.write(parcels.head(told, len(made)))
            outbox.write(made)
            outbox.flush()
            del made  # not kept until the next job


if __name__ == "__main__":
    main()
