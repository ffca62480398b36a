"""Abstract pictures of the mock: paper cuts, agates, silk, floating orbs and tiles."""

from __future__ import annotations

import math
import random

from PIL import Image, ImageDraw

from imagesapi.providers import mock_brushes as brushes
from imagesapi.providers.mock_brushes import Canvas, Point
from imagesapi.providers.mock_palette import Colour, along, luminance, mix

_Box = tuple[float, float, float, float]
_BLACK: Colour = (0, 0, 0)


def _terraced(canvas: Canvas, noise: Image.Image, steps: int, *, shadow: float, seam: float) -> Image.Image:
    """A field cut into steps of colour, each throwing a shadow on the next one down; `seam` is the edges' light."""
    ramp = canvas.palette.ramp
    rng = canvas.rng("steps")
    colours = [mix(along(ramp, (step + 0.5) / steps), rng.choice(ramp), 0.12) for step in range(steps + 1)]

    def colour_at(value: float) -> Colour:
        place = min(value * steps, steps - 1e-6)
        inside = place - int(place)
        colour = mix(colours[int(place)], _BLACK, shadow * inside**5)
        return mix(colour, canvas.palette.light, seam) if inside < 0.12 else colour

    double = noise.resize((canvas.width * 2, canvas.height * 2), Image.Resampling.BILINEAR)
    return brushes.mapped(double, colour_at).reduce(2)


def paper(canvas: Canvas) -> Image.Image:
    """Layers of cut paper going down into the deep."""
    rng = canvas.rng("paper")
    hills = rng.uniform(1.2, 2.0)
    noise = brushes.field(canvas.size, rng, cells=(hills * canvas.width / canvas.unit, hills), octaves=3, turned=True)
    return _terraced(canvas, noise, 6 + canvas.detail, shadow=0.5, seam=0.14)


def agate(canvas: Canvas) -> Image.Image:
    """A cut stone: many thin bands around crystals."""
    rng = canvas.rng("agate")
    noise = brushes.field(canvas.size, rng, cells=(1.6, 1.6), octaves=2 + min(canvas.detail, 3), turned=True)
    image = _terraced(canvas, noise, 14 + 4 * canvas.detail, shadow=0.35, seam=0.35)
    light = brushes.field(canvas.size, canvas.rng("light"), cells=(2, 2))
    image.paste(canvas.palette.light, (0, 0), brushes.level(light, low=120, high=700))
    return image


def silk(canvas: Canvas) -> Image.Image:
    """Folded cloth: ribbons along waving lines, lit by their turn."""
    palette, rng = canvas.palette, canvas.rng("silk")
    ribbons, steps = 70 + 40 * canvas.detail, 60
    stops = (palette.near, palette.sky[0], palette.sky[1], palette.accents[0], palette.sky[2], palette.light)
    waves = [(rng.uniform(0.4, 1.5), rng.uniform(0, math.tau), rng.uniform(0.05, 0.16)) for _ in range(3)]
    twist, folds = rng.uniform(1.5, 4.0), rng.uniform(3.4, 6.0)
    width, height = canvas.width * 2, canvas.height * 2
    image = Image.new("RGB", (width, height), palette.near)
    draw = ImageDraw.Draw(image)
    above = [(width * step / steps, -height * 0.5) for step in range(steps + 1)]
    for ribbon in range(ribbons + 1):
        share = ribbon / ribbons
        line = []
        for step in range(steps + 1):
            across = step / steps
            bend = sum(
                deep * math.sin(math.tau * turns * across + phase + twist * share) for turns, phase, deep in waves
            )
            line.append((width * across, height * (share * 1.7 - 0.35 + bend)))
        fold = 0.5 + 0.5 * math.sin(folds * math.tau * share + 1.3 * math.sin(share * 9))
        colour = mix(along(stops, 0.15 + 0.7 * share), along(stops, 0.12 + 0.83 * fold), 0.6)
        draw.polygon([*above, *reversed(line)], fill=mix(colour, _BLACK, 0.3 * (1 - fold) ** 2))
        above = line
    image = image.reduce(2)
    for name, colour, high in (("shade", palette.near, 420), ("gloss", palette.light, 800)):
        noise = brushes.field(canvas.size, canvas.rng(name), cells=(3, 1.4))
        image.paste(colour, (0, 0), brushes.level(noise, low=110, high=high))
    return image


def orbs(canvas: Canvas) -> Image.Image:
    """Glass balls of all sizes in coloured light."""
    palette, rng = canvas.palette, canvas.rng("orbs")
    image = brushes.mesh(canvas.size, [*palette.sky, palette.far, palette.accents[0]], canvas.rng("mesh"))
    sizes = sorted((rng.uniform(0.03, 0.24) ** 1.15 for _ in range(7 + 3 * canvas.detail)), reverse=True)
    for number, size in enumerate(sizes):
        own = canvas.rng(f"orb {number}")
        centre = own.uniform(0.05, 0.95) * canvas.width, own.uniform(0.05, 0.95) * canvas.height
        _orb(canvas, image, centre, canvas.unit * size, own)
    return image


def _orb(canvas: Canvas, image: Image.Image, centre: Point, radius: float, rng: random.Random) -> None:
    palette = canvas.palette
    colours = rng.sample([*palette.accents, *palette.sky, palette.light], 2)
    drop = brushes.halo(radius * 1.5, power=1.3, strength=0.5)
    brushes.stamp(image, (centre[0] + radius * 0.16, centre[1] + radius * 0.28), mix(palette.near, _BLACK, 0.3), drop)
    mask = brushes.disc(radius)
    body = brushes.vertical(mask.size, sorted(colours, key=luminance, reverse=True))
    rim = brushes.halo(radius * 1.4, power=0.7, strength=0.9).crop(_middle(radius * 1.4, mask.size))
    body = Image.composite(body, Image.new("RGB", mask.size, mix(colours[0], palette.near, 0.45)), rim)
    brushes.stamp(image, centre, body, mask.point([value * 9 // 10 for value in range(256)]))
    spot = centre[0] - radius * 0.34, centre[1] - radius * 0.4
    brushes.shine(image, spot, (255, 255, 255), brushes.halo(radius * 0.55, power=1.8, strength=0.75))


def _middle(outer: float, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The box of `size` in the middle of a halo of that radius."""
    start = (max(1, round(outer * 2)) - size[0]) // 2
    return start, start, start + size[0], start + size[1]


def tiles(canvas: Canvas) -> Image.Image:
    """Quarter circles, rings and leaves on a grid, in the manner of the twenties."""
    palette, rng = canvas.palette, canvas.rng("tiles")
    cell = canvas.unit * 2 / rng.choice((4, 5, 6))
    columns, rows = math.ceil(canvas.width * 2 / cell), math.ceil(canvas.height * 2 / cell)
    image = Image.new("RGB", (canvas.width * 2, canvas.height * 2), palette.light)
    draw = ImageDraw.Draw(image)
    inks = [*palette.accents, palette.near, palette.sky[1], palette.sky[2], palette.light, palette.sky[0]]
    for row in range(rows):
        for column in range(columns):
            ground, ink, third = rng.sample(inks, 3)
            box = column * cell, row * cell, (column + 1) * cell, (row + 1) * cell
            draw.rectangle(box, fill=ground)
            _tile(draw, box, (ink, third), rng=rng, detail=canvas.detail)
    image = image.reduce(2)
    light = brushes.field(canvas.size, canvas.rng("light"), cells=(1.5, 1.5))
    image.paste(palette.near, (0, 0), brushes.level(light, low=90, high=1300))
    return image


def _tile(
    draw: ImageDraw.ImageDraw, box: _Box, inks: tuple[Colour, Colour], *, rng: random.Random, detail: int
) -> None:
    ink, third = inks
    left, top, right, bottom = box
    side = right - left
    kind = rng.randrange(6)
    corner_x, corner_y = rng.choice((left, right)), rng.choice((top, bottom))
    if kind <= 1:  # quarters of discs within each other
        rings = 2 + detail if kind else 1
        for ring in range(rings):
            reach = side * (1 - ring / rings)
            _clipped_disc(draw, box, (corner_x, corner_y), reach, (ink, third)[ring % 2])
    elif kind == 2:
        for ring, colour in enumerate((ink, third, ink)):
            inset = side * (0.08 + 0.14 * ring)
            draw.ellipse((left + inset, top + inset, right - inset, bottom - inset), fill=colour)
    elif kind == 3:  # half against half
        draw.pieslice((left, top - side / 2, right, bottom - side / 2), 0, 180, fill=ink)
        draw.pieslice((left, top + side / 2, right, bottom + side / 2), 0, 180, fill=third)
    elif kind == 4:
        other_x, other_y = left + right - corner_x, top + bottom - corner_y
        draw.polygon([(corner_x, corner_y), (other_x, corner_y), (corner_x, other_y)], fill=ink)
        inset = side * 0.37
        draw.ellipse((left + inset, top + inset, right - inset, bottom - inset), fill=third)
    else:
        bars = 3 + detail
        for bar in range(0, bars, 2):
            draw.rectangle((left + side * bar / bars, top, left + side * (bar + 1) / bars, bottom), fill=ink)


def _clipped_disc(draw: ImageDraw.ImageDraw, box: _Box, centre: Point, reach: float, colour: Colour) -> None:
    """The quarter of a disc that lies inside the box whose corner is its centre."""
    start = (0 if centre[1] == box[1] else 270) if centre[0] == box[0] else (90 if centre[1] == box[1] else 180)
    x, y = centre
    draw.pieslice((x - reach, y - reach, x + reach, y + reach), start, start + 90, fill=colour)


SCENES = {"paper": paper, "agate": agate, "silk": silk, "orbs": orbs, "tiles": tiles}
