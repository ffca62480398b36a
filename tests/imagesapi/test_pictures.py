"""What callers send becomes a plain upright picture or a clear 400; what providers send is converted as asked."""

from __future__ import annotations

import io
import random
import struct
import time
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops, ImageCms, ImageStat

from core import errors
from imagesapi import imaging, pictures, workshop
from imagesapi.values import InputImage
from tests.imagesapi import canvas

PEAK_MAX_BYTES = 256 * 1024 * 1024
NOTES = (b"Exif", b"eXIf", b"EXIF", b"XMP ", b"xmpmeta", b"tEXt", b"zTXt", b"iTXt", b"pHYs")


@pytest.fixture(autouse=True, scope="module")
def _children_end() -> Iterator[None]:
    yield
    workshop.close()


def prepared(data: bytes) -> InputImage:
    return pictures.prepare(data, param="image")


def refused(data: bytes, *, code: str = "invalid_image_file") -> str:
    """The message of the refusal, which is a 400 that names the parameter."""
    with pytest.raises(errors.InvalidRequest) as caught:
        pictures.prepare(data, param="image[]")
    assert (caught.value.status, caught.value.error_code, caught.value.param) == (400, code, "image[]")
    return caught.value.message


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def assert_upright(data: bytes) -> None:
    for found, drawn in zip(canvas.corners(data), canvas.CORNERS, strict=True):
        assert all(abs(one - other) < 24 for one, other in zip(found, drawn, strict=True)), (found, drawn)


# Orientation and notes (I4)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
def test_it_turns_pictures_upright(kind: str, orientation: int) -> None:
    made = prepared(canvas.taken_by_a_phone(kind, orientation))
    assert (made.content_type, made.pixels) == (f"image/{kind}", (48, 32))
    assert_upright(made.data)


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
def test_it_forgets_where_a_picture_was_taken(kind: str, orientation: int) -> None:
    sent = canvas.taken_by_a_phone(kind, orientation, lossless=orientation == 6)
    assert canvas.SECRET.encode() in sent
    made = prepared(sent).data
    assert canvas.SECRET.encode() not in made
    assert [note for note in NOTES if note in made] == []
    assert dict(opened(made).getexif()) == {}


def test_it_keeps_a_colour_profile_of_usual_size() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for kind in ("jpeg", "png", "webp"):
        made = prepared(canvas.encoded(canvas.cornered(), kind, icc_profile=profile))
        assert opened(made.data).info["icc_profile"] == profile
    made = prepared(canvas.encoded(canvas.cornered(), "jpeg", icc_profile=bytes(1_200_000)))
    assert "icc_profile" not in opened(made.data).info


def test_it_knows_its_own_picture() -> None:
    made = prepared(canvas.encoded(canvas.cornered(), "png"))
    assert prepared(made.data).sha256 == made.sha256


# What stays as it was


def test_png_keeps_every_pixel() -> None:
    see_through = canvas.cornered(mode="RGBA")
    see_through.putalpha(canvas.cornered(mode="L"))
    palette = canvas.cornered().quantize(8)
    for image, how in (
        (see_through, {}),
        (palette, {"transparency": 2}),
        (canvas.cornered(mode="L"), {}),
        (canvas.cornered(mode="1"), {}),
        (canvas.cornered(mode="I;16"), {}),
    ):
        sent = canvas.encoded(image, "png", **how)
        made = opened(prepared(sent).data)
        assert made.mode == opened(sent).mode
        assert made.convert("RGBA").tobytes() == opened(sent).convert("RGBA").tobytes()


def test_lossless_webp_stays_lossless() -> None:
    image = canvas.cornered(mode="RGBA")
    image.putalpha(canvas.cornered(mode="L"))
    for how in ({"lossless": True}, {"lossless": True, "exact": True, "xmp": b"<x/>"}):
        sent = canvas.encoded(image, "webp", **how)
        made = prepared(sent)
        assert made.content_type == "image/webp"
        assert opened(made.data).tobytes() == opened(sent).tobytes()


def test_jpeg_hardly_changes() -> None:
    for quality in (30, 75, 98):
        sent = canvas.encoded(canvas.cornered(640, 480), "jpeg", quality=quality)
        made = prepared(sent)
        assert opened(made.data).quantization == opened(sent).quantization  # type: ignore[attr-defined]
        change = ImageStat.Stat(ImageChops.difference(opened(made.data), opened(sent)))
        assert max(change.mean) < 0.5


def test_jpeg_of_inks_keeps_its_colours() -> None:
    assert_upright(prepared(canvas.encoded(canvas.cornered(mode="CMYK"), "jpeg", quality=95)).data)


def test_it_takes_a_phones_jpeg_with_a_second_picture_in_it() -> None:
    sent = canvas.encoded(canvas.cornered(), "mpo", save_all=True, append_images=[Image.new("RGB", (24, 16))])
    made = prepared(sent)
    assert (made.content_type, made.pixels) == ("image/jpeg", (48, 32))
    assert b"MPF" not in made.data
    assert made.data.count(b"\xff\xd8\xff") == 1


# What is refused (I1, I2)


@pytest.mark.parametrize("kind", ["gif", "tiff", "bmp", "ico", "ppm", "avif", "eps", "pdf"])
def test_it_refuses_other_kinds(kind: str) -> None:
    assert "PNG, JPEG or WebP" in refused(canvas.encoded(canvas.cornered(), kind), code="unsupported_file_mimetype")


@pytest.mark.parametrize(
    "data", [b"\x00", b"hello", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"RIFF\x00\x00\x00\x00"]
)
def test_it_refuses_what_is_no_picture(data: bytes) -> None:
    refused(data, code="unsupported_file_mimetype")


def test_it_refuses_an_empty_file() -> None:
    assert "empty" in refused(b"")


def test_it_refuses_a_file_that_is_too_large() -> None:
    data = canvas.encoded(canvas.cornered(), "png")
    assert str(pictures.UPLOAD_MAX_BYTES) in refused(data + bytes(pictures.UPLOAD_MAX_BYTES))


def test_it_refuses_truncated_files() -> None:
    for data in canvas.seeds():
        for share in (0.1, 0.3, 0.6):
            cut = data[: max(12, int(len(data) * share))]
            assert "cannot be used" in refused(cut), (data[:12], share)


def bombs() -> dict[str, tuple[bytes, str]]:
    """Small files that ask for much, and a word of the refusal."""
    small = canvas.encoded(canvas.cornered(), "png")
    black = zlib.compress(bytes(48 * 1024 * 1024), 9)
    scans = canvas.encoded(canvas.cornered(), "jpeg", progressive=True)
    at = scans.rindex(b"\xff\xda")
    webp_head = struct.pack("<I", (16_383) | (16_383 << 14))
    return {
        "13000x13000": (canvas.encoded(Image.new("1", (13_000, 13_000)), "png"), "megapixels"),
        "88 megapixels": (canvas.encoded(Image.new("1", (8_000, 11_000)), "png"), "megapixels"),
        "jpeg": (canvas.encoded(Image.new("L", (7_000, 7_000)), "jpeg"), "megapixels"),
        "webp": (b"RIFF\x20\0\0\0WEBPVP8L\x14\0\0\0\x2f" + webp_head + bytes(16), "megapixels"),
        "a line": (canvas.encoded(Image.new("1", (16_385, 500)), "png"), "16384"),
        "a thread": (canvas.encoded(Image.new("1", (16_000, 1)), "png"), "64 times"),
        "two heads": (canvas.larger_head(small, 30_000, 30_000), "more pixels"),
        "moving png": (canvas.moving("png", 40), "moving"),
        "moving webp": (canvas.moving("webp", 40), "moving"),
        "zTXt": (canvas.with_chunk(small, b"zTXt", b"a\0\0" + black), "damaged"),
        "iTXt": (canvas.with_chunk(small, b"iTXt", b"a\0\1\0\0\0" + black), "damaged"),
        "iCCP": (canvas.with_chunk(small, b"iCCP", b"a\0\0" + black), "damaged"),
        "scans": (scans[:at] + scans[at:-2] * 200 + scans[-2:], "scans"),
    }


def test_it_refuses_bombs_at_once_and_with_little_memory() -> None:
    workshop.close()
    for name, (data, word) in bombs().items():
        assert len(data) < 600_000, name
        started = time.monotonic()
        assert word in refused(data), name
        assert time.monotonic() - started < 2, name
    assert peak_bytes() < PEAK_MAX_BYTES


def test_it_refuses_a_moving_gif_by_its_kind() -> None:
    refused(canvas.moving("gif", 40), code="unsupported_file_mimetype")


def test_it_takes_the_largest_picture_within_its_memory() -> None:
    workshop.close()
    exif = Image.Exif()
    exif[0x0112] = 6
    made = prepared(canvas.encoded(Image.new("L", (8_000, 4_000), 200), "png", exif=exif, compress_level=1))
    assert made.pixels == (4_000, 8_000)
    assert peak_bytes() < PEAK_MAX_BYTES


def peak_bytes() -> int:
    """The most memory that any child has had; nothing is known of it on other systems than Linux."""
    peaks = [0]
    for pid in workshop.children():
        status = Path(f"/proc/{pid}/status")
        lines = status.read_text().splitlines() if status.exists() else []
        peaks += [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")]
    return max(peaks)


# Polyglots (I3) and noise (I5)


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_it_cuts_off_what_is_no_picture(kind: str) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as writer:
        writer.writestr("evil.txt", "payload")
    picture = canvas.encoded(canvas.cornered(), kind)
    for tail in (b"<html><script>alert(1)</script></html>", archive.getvalue()):
        made = prepared(picture + tail).data
        assert b"<script>" not in made
        assert b"evil.txt" not in made
        assert not zipfile.is_zipfile(io.BytesIO(made))
        assert_upright(made)


def outlast(count: int, seed: int) -> dict[str, int]:
    """Send mutated pictures; each is taken or refused with a 400, and no child is lost."""
    rng, seeds = random.Random(seed), canvas.seeds()
    ended = {"taken": 0, "refused": 0}
    for _ in range(count):
        data = canvas.mutated(rng.choice(seeds), rng)
        try:
            made = prepared(data)
        except errors.InvalidRequest as error:
            if "decoding it failed" in error.message:
                pytest.fail(f"a child was lost with {data.hex()}")
            ended["refused"] += 1
        else:
            assert imaging.look(made.data).content_type == made.content_type
            ended["taken"] += 1
    return ended


def test_it_outlasts_mutated_pictures() -> None:
    ended = outlast(2_000, 5)
    assert min(ended.values()) > 200


@pytest.mark.prove
def test_it_outlasts_ten_thousand_mutated_pictures() -> None:
    print(f"\n10 000 mutated pictures: {outlast(10_000, 7)}, 0 children lost")


# Masks and markups


def layer(size: tuple[int, int] = (48, 32), *, alpha: int = 0, kind: str = "png", **how: Any) -> InputImage:
    """Opaque but for its left half."""
    image = Image.new("RGBA", size, (10, 20, 30, 255))
    image.paste((10, 20, 30, alpha), (0, 0, size[0] // 2, size[1]))
    return prepared(canvas.encoded(image if kind != "jpeg" else image.convert("RGB"), kind, **how))


def first() -> InputImage:
    return prepared(canvas.taken_by_a_phone("jpeg", 6))


def test_a_mask_fits_the_upright_picture() -> None:
    pictures.check_mask(layer(), first())
    pictures.check_mask(layer(kind="webp"), first())
    pictures.check_mask(layer(kind="webp", lossless=True), first())
    pictures.check_markup(layer(), first())


def test_a_mask_may_be_transparent_by_its_palette() -> None:
    image = Image.new("P", (48, 32), 1)
    image.putpalette([0, 0, 0, 255, 255, 255])
    image.paste(0, (0, 0, 20, 20))
    mask = prepared(canvas.encoded(image, "png", transparency=0))
    pictures.check_mask(mask, first())
    assert opened(pictures.mask_for(mask, "white").data).getpixel((3, 3)) == 255


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"size": (32, 48)}, ("32x48", "48x32")),
        ({"alpha": 255}, ("no transparent pixels",)),
        ({"alpha": 100}, ("no fully transparent pixels",)),
        ({"kind": "jpeg"}, ("JPEG",)),
    ],
)
def test_it_refuses_a_mask_that_does_not_fit(how: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        pictures.check_mask(layer(**how), first())
    assert (caught.value.error_code, caught.value.param) == ("invalid_mask", "mask")
    assert all(word in caught.value.message for word in words)


@pytest.mark.parametrize("how", [{"size": (10, 10)}, {"alpha": 255}, {"kind": "webp"}])
def test_it_refuses_a_markup_that_does_not_fit(how: dict[str, Any]) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        pictures.check_markup(layer(**how), first())
    assert (caught.value.error_code, caught.value.param) == ("invalid_markup", "markup")


def test_a_mask_turns_into_white_on_black() -> None:
    made = pictures.mask_for(layer(), "white")
    image = opened(made.data)
    assert (made.content_type, made.pixels, image.mode) == ("image/png", (48, 32), "L")
    assert (image.getpixel((5, 5)), image.getpixel((40, 5))) == (255, 0)


def test_a_mask_of_openais_kind_is_a_png() -> None:
    mask = layer()
    assert pictures.mask_for(mask, "alpha") is mask
    made = pictures.mask_for(layer(kind="webp"), "alpha")
    assert made.content_type == "image/png"
    assert opened(made.data).getchannel("A").getextrema() == (0, 255)


# Conversions


def given(kind: str) -> bytes:
    if kind == "gif":
        return canvas.moving("gif", 3)
    image = canvas.cornered(64, 64)
    if kind != "jpeg":
        image.putalpha(Image.linear_gradient("L").resize((64, 64)))
    return canvas.encoded(image, kind)


@pytest.mark.parametrize("source", pictures.CONVERTIBLE)
@pytest.mark.parametrize("to", pictures.CONVERTIBLE)
def test_it_converts_every_kind_into_every_other(source: str, to: str) -> None:
    made = pictures.convert(given(source), to=to, compression=None)
    assert imaging.identify(made) == imaging.Facts(content_type=f"image/{to}", width_px=64, height_px=64)
    assert opened(made).size == (64, 64)
    if source != "gif" and to not in ("gif", "jpeg"):
        assert opened(made).mode == ("RGB" if source == "jpeg" else "RGBA")


def test_transparent_becomes_white_where_it_must() -> None:
    image = Image.new("RGBA", (20, 20), (200, 0, 0, 0))
    image.paste((0, 0, 200, 255), (10, 0, 20, 20))
    made = opened(pictures.convert(canvas.encoded(image, "png"), to="jpeg", compression=90)).convert("RGB")
    assert all(level > 245 for level in made.getpixel((2, 10)))  # type: ignore[union-attr]
    gif = opened(pictures.convert(canvas.encoded(image, "png"), to="gif", compression=None)).convert("RGBA")
    left, right = gif.getpixel((2, 10)), gif.getpixel((15, 10))
    assert left[3] == 0  # type: ignore[index]
    assert right == (0, 0, 200, 255)


def test_a_gif_is_close_to_the_picture() -> None:
    assert_upright(pictures.convert(canvas.encoded(canvas.cornered(900, 900), "png"), to="gif", compression=None))


@pytest.mark.parametrize("to", ["jpeg", "webp", "avif"])
def test_it_compresses_as_it_is_told(to: str) -> None:
    noise = canvas.encoded(Image.effect_noise((96, 96), 60).convert("RGB"), "png")
    sizes = [len(pictures.convert(noise, to=to, compression=level)) for level in (0, 50, 100)]
    assert sizes[0] < sizes[1] < sizes[2]


def test_it_converts_a_provider_picture_upright() -> None:
    assert_upright(pictures.convert(canvas.taken_by_a_phone("jpeg", 8), to="png", compression=None))


@pytest.mark.parametrize("data", [b"", b"<html>", canvas.encoded(canvas.cornered(), "png")[:80], bytes(2_000)])
def test_it_converts_no_rubbish(data: bytes) -> None:
    with pytest.raises(imaging.NotAnImage):
        pictures.convert(data, to="webp", compression=None)


def test_it_converts_nothing_beyond_forty_megapixels() -> None:
    with pytest.raises(imaging.NotAnImage, match="8000x5001"):
        pictures.convert(canvas.encoded(Image.new("1", (8_000, 5_001)), "png"), to="jpeg", compression=None)


# Heads


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("size", [(1, 1), (31, 17), (600, 40)])
def test_it_reads_the_head_of_an_avif(size: tuple[int, int], mode: str) -> None:
    data = canvas.encoded(Image.new(mode, size), "avif", speed=10)
    assert imaging.identify(data) == imaging.Facts("image/avif", *size)
    assert imaging.EXTENSIONS["image/avif"] == "avif"
    with pytest.raises(imaging.NotAnImage):
        imaging.identify(data[:60])


def test_it_knows_a_moving_avif() -> None:
    assert imaging.identify(canvas.moving("avif", 2)) == imaging.Facts("image/avif", 64, 64)


def test_a_mutated_head_is_a_picture_or_none() -> None:
    rng = random.Random(3)
    heads = [*canvas.seeds(), given("avif"), given("gif")]
    for _ in range(3_000):
        data = canvas.mutated(rng.choice(heads), rng)
        try:
            facts = imaging.identify(data)
        except imaging.NotAnImage:
            continue
        assert facts.width_px * facts.height_px > 0
