"""Brushes for the mock's pictures: fast Pillow tricks on small canvases, everything drawn from seeded generators."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import cast

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageMath

from imagesapi.providers import mock_palette
from imagesapi.providers.mock_palette import Colour, Palette

Point = tuple[float, float]
SMOOTH = Image.Resampling.BICUBIC
OVERSAMPLE = 2
_RAMP_PX = 256
_FIELD_PX = 240
_INNER = (36, 36, 204, 204)  # what stays filled when the field is turned


@dataclass(frozen=True, slots=True)
class Canvas:
    """What a scene paints on. `detail` is 1 (sketch) to 5; it adds features and never moves the ones before it."""

    width: int
    height: int
    detail: int
    seed: str
    palette: Palette

    @property
    def size(self) -> tuple[int, int]:
        return self.width, self.height

    @property
    def unit(self) -> int:
        """The short edge, so that shapes keep their form in any format."""
        return min(self.width, self.height)

    def rng(self, name: str) -> random.Random:
        """A generator of its own for each feature: one more star does not move a mountain."""
        return random.Random(f"{self.seed}/{name}")


def vertical(size: tuple[int, int], stops: Sequence[Colour]) -> Image.Image:
    """Evenly spaced colours from top to bottom."""
    column = Image.new("RGB", (1, _RAMP_PX))
    column.putdata([mock_palette.along(stops, row / (_RAMP_PX - 1)) for row in range(_RAMP_PX)])
    return column.resize(size, Image.Resampling.BILINEAR)


def mesh(size: tuple[int, int], colours: Sequence[Colour], rng: random.Random, cells: int = 4) -> Image.Image:
    """Colours flowing into each other in all directions."""
    small = Image.new("RGB", (cells, cells))
    small.putdata([rng.choice(colours) for _ in range(cells * cells)])
    return small.resize((64, 64), SMOOTH).filter(ImageFilter.GaussianBlur(5)).resize(size, SMOOTH)


def field(
    size: tuple[int, int], rng: random.Random, *, cells: tuple[float, float], octaves: int = 2, turned: bool = False
) -> Image.Image:
    """Smooth noise from 0 to 255 in mode F; `cells` counts its hills across and down, `turned` hides their grid."""
    small = (_FIELD_PX, _FIELD_PX)
    total = Image.new("F", small)
    for octave in range(octaves):
        grid = max(2, round(cells[0] * 2**octave)) + 2, max(2, round(cells[1] * 2**octave)) + 2
        noise = Image.frombytes("L", grid, rng.randbytes(grid[0] * grid[1])).convert("F")
        total = _added(total, noise.resize(small, SMOOTH), 0.5**octave)
    if turned:
        total = total.rotate(rng.uniform(20, 70), SMOOTH).crop(_INNER).reduce(2)
    low, high = cast("tuple[float, float]", total.getextrema())
    gain = 255 / max(high - low, 1e-6)
    return total.point(lambda value: value * gain - low * gain).resize(size, SMOOTH)


def _added(first: Image.Image, second: Image.Image, gain: float) -> Image.Image:
    total: Image.Image = ImageMath.lambda_eval(lambda given: given["a"] + given["b"] * gain, a=first, b=second)
    return total


def level(noise: Image.Image, *, low: float, high: float) -> Image.Image:
    """A mask of a field: 0 at `low` and below, 255 at `high` and above."""
    gain = 255 / (high - low)
    return noise.point(lambda value: value * gain - low * gain).convert("L")


def mapped(noise: Image.Image, colour_at: Callable[[float], Colour]) -> Image.Image:
    """A field coloured by its value (0 to 1)."""
    indexed = noise.convert("L")
    indexed.putpalette([part for value in range(256) for part in colour_at(value / 255)])
    return indexed.convert("RGB")


def stencil(size: tuple[int, int], shapes: Iterable[Sequence[Point]]) -> Image.Image:
    """A mask of filled polygons with smooth edges."""
    mask = Image.new("L", (size[0] * OVERSAMPLE, size[1] * OVERSAMPLE))
    draw = ImageDraw.Draw(mask)
    for shape in shapes:
        draw.polygon([(x * OVERSAMPLE, y * OVERSAMPLE) for x, y in shape], fill=255)
    return mask.reduce(OVERSAMPLE)


def fill(image: Image.Image, shapes: Sequence[Sequence[Point]], stops: Sequence[Colour]) -> None:
    """Paint polygons with a vertical gradient, touching only the part of the image where they are."""
    points = [point for shape in shapes for point in shape]
    if not points:
        return
    left, right = (min(max(math.floor(edge(x for x, _ in points)), 0), image.width) for edge in (min, max))
    top, bottom = (min(max(math.floor(edge(y for _, y in points)), 0), image.height) for edge in (min, max))
    size = min(right + 1, image.width) - left, min(bottom + 1, image.height) - top
    if min(size) <= 0:
        return
    mask = stencil(size, [[(x - left, y - top) for x, y in shape] for shape in shapes])
    image.paste(vertical(size, stops), (left, top), mask)


def disc(radius: float) -> Image.Image:
    """A round mask with a smooth edge."""
    side = max(2, math.ceil(radius * 2))
    finer = 4 if side < 100 else OVERSAMPLE
    mask = Image.new("L", (side * finer, side * finer))
    ImageDraw.Draw(mask).ellipse((1, 1, side * finer - 2, side * finer - 2), fill=255)
    return mask.reduce(finer)


def halo(radius: float, *, power: float, strength: float) -> Image.Image:
    """A round mask that fades outwards; a higher power is more of a point."""
    fading = Image.radial_gradient("L").point(
        [round(255 * strength * max(0.0, 1 - value / 180) ** power) for value in range(256)]
    )
    side = max(1, round(radius * 2))
    return fading.resize((side, side), Image.Resampling.BILINEAR)


def shine(image: Image.Image, centre: Point, light: Colour, mask: Image.Image) -> None:
    """Add light through a mask that sits around `centre`."""
    left, top = round(centre[0] - mask.width / 2), round(centre[1] - mask.height / 2)
    box = max(left, 0), max(top, 0), min(left + mask.width, image.width), min(top + mask.height, image.height)
    if box[0] >= box[2] or box[1] >= box[3]:
        return
    seen = mask.crop((box[0] - left, box[1] - top, box[2] - left, box[3] - top))
    glow = Image.merge("RGB", [seen.point([value * part // 255 for value in range(256)]) for part in light])
    image.paste(ImageChops.screen(image.crop(box), glow), box[:2])


def stamp(image: Image.Image, centre: Point, colour: Colour | Image.Image, mask: Image.Image) -> None:
    """Paint a colour (or a picture of the mask's size) through a mask that sits around `centre`."""
    image.paste(colour, (round(centre[0] - mask.width / 2), round(centre[1] - mask.height / 2)), mask)


def cover(
    image: Image.Image, outline: Sequence[Point], stops: Sequence[Colour], *, reach: float | None = None
) -> Image.Image:
    """Paint everything below an outline with a vertical gradient, done after `reach` pixels (default: at the bottom).

    Returns the mask of it, which starts at the outline's highest point. Only the strip that the outline crosses is
    painted through a mask, what lies below is plain.
    """
    ys = [y for _, y in outline]
    top = min(max(0, math.floor(min(ys))), image.height - 1)
    size = image.width, image.height - top
    strip = min(max(1, math.ceil(max(ys)) - top + 1), size[1])
    shape = [(x, y - top) for x, y in outline]
    edge = stencil((size[0], strip), [[(-2, strip + 2), (-2, shape[0][1]), *shape, (size[0] + 2, strip + 2)]])
    paint = vertical((size[0], min(size[1], max(2, round(reach or size[1])))), stops)
    if paint.height < size[1]:
        longer = Image.new("RGB", size, stops[-1])
        longer.paste(paint, (0, 0))
        paint = longer
    image.paste(paint.crop((0, 0, size[0], strip)), (0, top), edge)
    image.paste(paint.crop((0, strip, *size)), (0, top + strip))
    mask = Image.new("L", size, 255)
    mask.paste(edge, (0, 0))
    return mask


def rough(rng: random.Random, *, steps: int, cells: float, octaves: int, ridged: bool = False) -> list[float]:
    """A line of heights from 0 to 1: hills, or sharp ridges; more octaves only add roughness."""
    line = [0.0] * (steps + 1)
    for octave in range(octaves):
        count = cells * 2**octave
        nodes = [rng.random() for _ in range(math.ceil(cells * 2**octave) + 2)]
        for step in range(steps + 1):
            place = step / steps * count
            left = int(place)
            ease = (place - left) ** 2 * (3 - 2 * (place - left))
            value = nodes[left] + (nodes[left + 1] - nodes[left]) * ease
            line[step] += (1 - abs(2 * value - 1) if ridged else value) * 0.5 ** (octave + 1)
    return line


def grain(image: Image.Image, rng: random.Random, strength: int) -> Image.Image:
    """The tooth of paper: hides banding and keeps smooth gradients alive."""
    noise = Image.frombytes("L", image.size, rng.randbytes(image.width * image.height))
    noise = noise.point([value * (2 * strength + 1) // 256 for value in range(256)])
    return ImageChops.add(image, Image.merge("RGB", (noise, noise, noise)), 1, -strength)


def inverted(mask: Image.Image) -> Image.Image:
    return ImageChops.invert(mask)
