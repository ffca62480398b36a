"""Changes given pictures for the mock: repainted in the colours of a prompt where a mask allows it, or enlarged."""

from __future__ import annotations

import io
import random

from PIL import Image, ImageFilter, ImageOps

from imagesapi.providers import mock_brushes, mock_palette
from imagesapi.values import InputImage

_SATURATION_OF_STYLE = {"vivid": 1.25, "natural": 0.65}
_LEVELS_OF_DETAIL = {1: 3, 2: 4, 3: 6, 4: 8, 5: 10}
# How much of the given picture stays visible.
_KEPT = {"high": 0.55}
_KEPT_OTHERWISE = 0.25
_COARSEST_SHARE = 48


def _opened(image: InputImage) -> Image.Image:
    """A given picture as RGBA."""
    return Image.open(io.BytesIO(image.data)).convert("RGBA")


def repaint(
    images: tuple[InputImage, ...],
    prompt: str,
    *,
    seed: str,
    variation: int,
    size: tuple[int, int],
    detail: int,
    style: str | None,
    fidelity: str | None,
    mask: InputImage | None,
    mask_is_white: bool,
    markup: InputImage | None,
    transparent: bool,
) -> Image.Image:
    """The first picture in the prompt's colours, changed only where the mask allows it; the others sway them.

    The same arguments give the same pixels.
    """
    first = _fitted(_opened(images[0]), size)
    if markup is not None:
        first.alpha_composite(_fitted(_opened(markup), size))
    own = f"{seed}/{prompt}/{variation}/{'/'.join(image.sha256 for image in images)}"
    rng = random.Random(own)
    palette = mock_palette.choose(prompt, rng, saturation=_SATURATION_OF_STYLE.get(style or "", 1.0))
    before = _flat(first)
    painted = _painted(before, palette, levels=_LEVELS_OF_DETAIL.get(detail, 4), turned=variation % 2 == 1)
    after = Image.blend(painted, before, _KEPT.get(fidelity or "", _KEPT_OTHERWISE))
    if mask is not None:
        after = Image.composite(before, after, _kept(_fitted(_opened(mask), size), white=mask_is_white))
    if transparent:
        after.putalpha(first.getchannel("A"))
    return after


def enlarge(image: InputImage, *, by: int, transparent: bool) -> Image.Image:
    """A picture `by` times as wide and high."""
    source = _opened(image)
    flat = source if transparent else _flat(source)
    return flat.resize((source.width * by, source.height * by), mock_brushes.SMOOTH)


def unfinished(image: Image.Image, *, done: float) -> Image.Image:
    """A picture on its way: coarse squares that become finer, `done` being 0 to 1."""
    share = max(2, round(_COARSEST_SHARE * (1 - done)))
    small = image.resize((max(1, image.width // share), max(1, image.height // share)), Image.Resampling.BOX)
    return small.resize(image.size, Image.Resampling.NEAREST)


def _kept(mask: Image.Image, *, white: bool) -> Image.Image:
    """What stays as it is: where a mask is opaque, or of the other kind where it is black."""
    return ImageOps.invert(mask.convert("L")) if white else mask.getchannel("A")


def _fitted(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Cut to the shape of the result and brought to its size, first of all: nothing large is worked on."""
    return image if image.size == size else ImageOps.fit(image, size, mock_brushes.SMOOTH)


def _flat(image: Image.Image) -> Image.Image:
    """Without transparency, on white."""
    ground = Image.new("RGBA", image.size, (255, 255, 255, 255))
    ground.alpha_composite(image)
    return ground.convert("RGB")


def _painted(image: Image.Image, palette: mock_palette.Palette, *, levels: int, turned: bool) -> Image.Image:
    """Few tones, each in a colour of the palette, with the edges drawn in."""
    ramp = palette.ramp
    grey = ImageOps.autocontrast(image.convert("L").filter(ImageFilter.MedianFilter(3)))
    steps = [round(tone * levels / 256) / levels for tone in range(256)]
    colours = [mock_palette.along(ramp, 1 - step if turned else step) for step in steps]
    tables = [[colour[part] for colour in colours] for part in range(3)]
    painted = Image.merge("RGB", [grey.point(table) for table in tables])
    edges = grey.filter(ImageFilter.FIND_EDGES).point(lambda tone: min(255, tone * 2))
    return Image.composite(Image.new("RGB", image.size, ramp[0]), painted, edges)
