"""Landscapes of the mock: mountains, seas, dunes, forests, cities and space, from the palette of the prompt."""

from __future__ import annotations

import math
import random

from PIL import Image, ImageDraw

from imagesapi.providers import mock_brushes as brushes
from imagesapi.providers.mock_brushes import Canvas, Point
from imagesapi.providers.mock_palette import Colour, along, mix

_DUNE_STEPS = 220


def _sky(canvas: Canvas, horizon: float) -> tuple[Image.Image, Point]:
    """A sky down to the horizon (a share of the height) with its sun or moon; also says where that stands."""
    palette, rng = canvas.palette, canvas.rng("sky")
    depth = round(canvas.height * horizon)
    image = Image.new("RGB", canvas.size, palette.sky[2])
    image.paste(brushes.vertical((canvas.width, depth), palette.sky), (0, 0))
    centre = canvas.width * rng.uniform(0.24, 0.76), canvas.height * min(horizon, 0.62) * rng.uniform(0.34, 0.74)
    radius = canvas.unit * rng.uniform(0.055, 0.11)
    if palette.dark:
        _stars(canvas, image, count=70 * canvas.detail)
    brushes.shine(image, centre, palette.light, brushes.halo(radius * 6, power=2.4, strength=0.5))
    brushes.shine(image, centre, palette.light, brushes.halo(radius * 2.4, power=1.6, strength=0.45))
    brushes.stamp(image, centre, mix(palette.light, (255, 255, 255), 0.35), brushes.disc(radius))
    if not palette.dark or rng.random() < 0.5:
        _clouds(canvas, image, depth)
    return image, centre


def _clouds(canvas: Canvas, image: Image.Image, depth: int) -> None:
    palette, rng = canvas.palette, canvas.rng("clouds")
    noise = brushes.field((canvas.width, depth), rng, cells=(1.6, 5.5), octaves=2 + canvas.detail)
    mask = brushes.level(noise, low=rng.uniform(120, 150), high=330)
    image.paste(mix(palette.light, palette.sky[2], 0.35), (0, 0), mask)


def _stars(canvas: Canvas, image: Image.Image, *, count: int) -> None:
    rng = canvas.rng("stars")
    small = max(0.6, canvas.unit / 800)
    discs = [brushes.disc(small * size) for size in (0.7, 1.1, 1.7)]
    sparkle = brushes.halo(small * 14, power=6, strength=1.0)
    for number in range(count):
        centre = rng.random() * canvas.width, rng.random() ** 1.3 * canvas.height
        colour = mix(canvas.palette.sky[0], (255, 255, 250), rng.uniform(0.35, 1))
        brushes.stamp(image, centre, colour, discs[rng.choice((0, 0, 0, 1, 1, 2))])
        if number % 16 == 0:
            brushes.shine(image, centre, (235, 240, 255), sparkle)


def _line(canvas: Canvas, heights: list[float], *, base: float, rise: float) -> list[Point]:
    """Heights (0 to 1) as an outline; `base` and `rise` are shares of the canvas' height."""
    last = len(heights) - 1
    return [(canvas.width * step / last, canvas.height * (base - rise * height)) for step, height in enumerate(heights)]


def mountains(canvas: Canvas) -> Image.Image:
    """Ridge behind ridge in the haze, sharper the farther; the nearest ones carry trees."""
    palette, rng = canvas.palette, canvas.rng("mountains")
    image, _ = _sky(canvas, 0.72)
    count = 5 + rng.randrange(2)
    lowest = rng.uniform(0.88, 0.96)
    for layer in range(count):
        share = layer / (count - 1)
        own, steps, octaves = canvas.rng(f"ridge {layer}"), 100 + 80 * canvas.detail, 4 + canvas.detail
        heights = brushes.rough(own, steps=steps, cells=2.2 + 1.4 * share, octaves=octaves, ridged=share < 0.75)
        outline = _line(canvas, heights, base=0.66 + (lowest - 0.56) * share**1.2, rise=0.36 - 0.14 * share)
        body = mix(mix(palette.far, palette.near, share**1.1), palette.sky[2], 0.42 * (1 - share))
        mist = mix(body, mix(palette.sky[2], palette.light, 0.3), 0.62 * (1 - share) + 0.12)
        mask = brushes.cover(image, outline, (mix(body, palette.near, 0.12), body, mist, mist))
        if share < 0.6:
            _slopes(canvas, image, mask, layer)
    if rng.random() < 0.6:
        firs = _firs(canvas, 9, share=0.35, ground=rng.uniform(0.98, 1.04))
        brushes.cover(image, firs, (palette.near, mix(palette.near, (0, 0, 0), 0.3)))
    return image


def _slopes(canvas: Canvas, image: Image.Image, mask: Image.Image, layer: int) -> None:
    """Light from one side on a ridge, so that it has a body."""
    noise = brushes.field(mask.size, canvas.rng(f"slopes {layer}"), cells=(7, 3), octaves=1 + canvas.detail)
    lit = brushes.level(noise, low=110, high=600)
    lit.paste(0, (0, 0), brushes.inverted(mask))
    image.paste(canvas.palette.light, (0, canvas.height - mask.height), lit)


def sea(canvas: Canvas) -> Image.Image:
    """A low sun over the water, its path glittering between the waves."""
    palette, rng = canvas.palette, canvas.rng("sea")
    horizon = rng.uniform(0.46, 0.58)
    image, sun = _sky(canvas, horizon)
    top = round(canvas.height * horizon)
    deep = mix(palette.near, palette.sky[0], 0.35)
    water = (mix(palette.sky[2], palette.sky[1], 0.35), mix(palette.sky[1], deep, 0.45), deep)
    image.paste(brushes.vertical((canvas.width, canvas.height - top), water), (0, top))
    _swell(canvas, image, top, water)
    _glitter(canvas, image, top, sun[0])
    return image


def _swell(canvas: Canvas, image: Image.Image, top: int, water: tuple[Colour, Colour, Colour]) -> None:
    """Waves that grow towards the viewer, each with a lighter crest."""
    count, aspect = 6 + 2 * canvas.detail, canvas.width / canvas.unit
    for wave in range(count):
        share = (wave + 1) / (count + 1)
        line = brushes.rough(
            canvas.rng(f"wave {wave}"), steps=240, cells=(9 - 6 * share) * aspect, octaves=2, ridged=True
        )
        tall = canvas.height * (0.006 + 0.075 * share**1.4)
        base = top + (canvas.height - top) * share**1.4
        outline = [(canvas.width * step / 240, base - tall * height) for step, height in enumerate(line)]
        colour = along(water, share)
        foam = mix(colour, canvas.palette.light, 0.55 - 0.2 * share)
        stops = foam, mix(colour, foam, 0.35), colour, mix(colour, water[2], 0.3)
        brushes.cover(image, outline, stops, reach=tall * 2)


def _glitter(canvas: Canvas, image: Image.Image, top: int, across: float) -> None:
    rng = canvas.rng("glitter")
    shapes = []
    for _ in range(60 + 60 * canvas.detail):
        share = rng.random() ** 1.6
        y = (canvas.height - top) * share
        x = across + rng.gauss(0, 1) * canvas.unit * (0.025 + 0.10 * share)
        wide = canvas.unit * (0.006 + 0.045 * share) * rng.uniform(0.4, 1.2)
        high = canvas.unit * (0.001 + 0.006 * share)
        shapes.append([(x - wide, y), (x, y - high), (x + wide, y), (x, y + high)])
    mask = brushes.stencil((canvas.width, canvas.height - top), shapes).point([value * 7 // 10 for value in range(256)])
    image.paste(canvas.palette.light, (0, top), mask)


def dunes(canvas: Canvas) -> Image.Image:
    """Dunes with one flank in the sun and one in the shade, parted by a winding crest."""
    palette = canvas.palette
    image, sun = _sky(canvas, 0.68)
    count = 5
    for layer in range(count):
        share, rng = layer / (count - 1), canvas.rng(f"dune {layer}")
        summit = rng.uniform(0.06, 0.3) + 0.64 * (layer * 2 % count) / count
        outline = _line(canvas, _dune(rng, summit), base=0.70 + 0.4 * share, rise=0.13 + 0.27 * share)
        body = mix(mix(palette.far, palette.sky[1], 0.3), palette.near, share * 0.35)
        body = mix(body, palette.sky[2], 0.45 * (1 - share) ** 2)
        lit = mix(body, palette.light, 0.5 - 0.2 * share)
        mask = brushes.cover(image, outline, (lit, mix(lit, body, 0.45), body))
        if share >= 0.75 and canvas.detail >= 2:
            _ripples(canvas, image, mask, layer, lit)
        dark = 0.62 * (0.35 + 0.65 * share)
        shaded = mix(body, palette.near, dark), mix(body, palette.near, dark * 0.5)
        brushes.fill(image, [_flank(canvas, outline, summit, sun[0])], shaded)
    return image


def _dune(rng: random.Random, summit: float) -> list[float]:
    """The heights of one dune with a lower neighbour."""
    beside, lower = (summit + rng.uniform(0.35, 0.65)) % 1.2 - 0.1, rng.uniform(0.25, 0.5)
    wide = rng.uniform(0.2, 0.34)
    places = [step / _DUNE_STEPS for step in range(_DUNE_STEPS + 1)]
    return [
        math.exp(-((abs(place - summit) / wide) ** 1.35)) + lower * math.exp(-(((place - beside) / wide) ** 2))
        for place in places
    ]


def _flank(canvas: Canvas, outline: list[Point], summit: float, sun_x: float) -> list[Point]:
    """The side of a dune that looks away from the sun: from its summit down a winding crest, and back over the top."""
    rng = canvas.rng(f"flank {summit}")
    start = round(summit * _DUNE_STEPS)
    x, y = outline[start]
    away = 1 if x > sun_x else -1
    depth, swing = canvas.height * 0.55, canvas.unit * rng.uniform(0.1, 0.22)
    crest = [
        (x + away * swing * (math.sin(part / 24 * 5.2) * (part / 24) ** 0.8 - 0.2 * part / 24), y + depth * part / 24)
        for part in range(25)
    ]
    edge = outline[start:] if away > 0 else outline[start::-1]
    end = edge[-1][0] + away * 2
    return [*crest, (end, crest[-1][1]), (end, edge[-1][1]), *reversed(edge)]


def _ripples(canvas: Canvas, image: Image.Image, mask: Image.Image, layer: int, lit: Colour) -> None:
    noise = brushes.field(mask.size, canvas.rng(f"ripples {layer}"), cells=(3, 14 + 6 * layer), octaves=1)
    ripples = brushes.level(noise, low=150, high=640)
    ripples.paste(0, (0, 0), brushes.inverted(mask))
    image.paste(mix(lit, canvas.palette.light, 0.4), (0, canvas.height - mask.height), ripples)


def forest(canvas: Canvas) -> Image.Image:
    """Rows of firs that step out of the mist."""
    palette = canvas.palette
    image, _ = _sky(canvas, 0.85)
    hills = brushes.rough(canvas.rng("hills"), steps=300, cells=2.5, octaves=5, ridged=True)
    haze = mix(palette.sky[1], palette.sky[2], 0.5)
    brushes.cover(image, _line(canvas, hills, base=0.62, rise=0.3), (haze, palette.sky[2], palette.sky[2]))
    rows = 5
    for row in range(rows):
        share = row / (rows - 1)
        body = mix(mix(palette.far, palette.near, 0.15 + 0.85 * share), palette.sky[2], 0.5 * (1 - share))
        mist = mix(body, mix(palette.sky[2], palette.light, 0.25), 0.75 * (1 - share * 0.75))
        firs = _firs(canvas, row, share=share, ground=0.68 + 0.4 * share)
        brushes.cover(image, firs, (body, body, mix(body, mist, 0.3), mist))
    return image


def _firs(canvas: Canvas, row: int, *, share: float, ground: float) -> list[Point]:
    """The outline of one row of firs on a gentle slope around `ground`, a share of the height."""
    rng = canvas.rng(f"firs {row}")
    slope = brushes.rough(canvas.rng(f"slope {row}"), steps=64, cells=1.5, octaves=2)
    outline: list[Point] = []
    x = -0.1 * canvas.unit
    while x < canvas.width + 0.1 * canvas.unit:
        tall = canvas.unit * (0.07 + 0.26 * share**1.4) * rng.uniform(0.6, 1.15)
        half = tall * rng.uniform(0.16, 0.22)
        foot = canvas.height * (ground - 0.14 * slope[int(min(max(x / canvas.width, 0), 1) * 64)])
        tiers = 4 + 2 * canvas.detail
        left = [
            (x - half * (1 - tier / tiers) * (1.12 if side else 0.72), foot - tall * (tier + side * 0.12) / tiers)
            for tier in range(tiers)
            for side in (1, 0)
        ]
        outline += [*left, (x, foot - tall), *[(2 * x - px, py) for px, py in reversed(left)]]
        x += half * rng.uniform(0.9, 2.1)
    return outline


def city(canvas: Canvas) -> Image.Image:
    """A skyline with lit windows; the far towers fade in the haze."""
    palette = canvas.palette
    image, _ = _sky(canvas, 0.92)
    rows = 4
    for row in range(rows):
        rng, share = canvas.rng(f"row {row}"), row / (rows - 1)
        body = mix(mix(palette.far, palette.near, 0.1 + 0.9 * share), palette.sky[2], 0.45 * (1 - share))
        foot = mix(body, palette.sky[2], 0.55 * (1 - share) + 0.08)
        outline: list[Point] = []
        windows: list[list[Point]] = []
        x = -0.02 * canvas.unit
        while x < canvas.width:
            wide = canvas.unit * rng.uniform(0.045, 0.11) * (0.7 + 0.8 * share)
            top = canvas.height * (0.36 + 0.34 * share + rng.random() ** 1.5 * 0.3)
            street = canvas.height * (0.8 + 0.2 * share)
            outline += [(x, street), (x, top), *_roof(x, top, wide, rng.random()), (x + wide, top), (x + wide, street)]
            if share > 0.3:
                pitch = canvas.unit * 0.014 * (0.8 + 0.5 * share)
                windows += _windows(
                    canvas.rng(f"windows {row} {len(outline)}"), x, top, (wide, canvas.height - top), pitch
                )
            x += wide * rng.choice((1.0, 1.0, 1.0, 1.25))
        brushes.cover(image, outline, (body, body, foot))
        glow = mix(palette.light, palette.accents[1], 0.35)
        brushes.fill(image, windows, (glow, glow))
    return image


def _roof(x: float, top: float, wide: float, kind: float) -> list[Point]:
    if kind < 0.25:
        mast = x + wide / 2
        return [(mast - 1, top), (mast - 0.5, top - wide * 0.9), (mast + 0.5, top - wide * 0.9), (mast + 1, top)]
    if kind < 0.5:
        return [(x + wide * 0.2, top), (x + wide * 0.2, top - wide * 0.3), (x + wide * 0.8, top - wide * 0.3),
                (x + wide * 0.8, top)]  # fmt: skip
    return [(x + wide, top - wide * 0.35)] if kind < 0.65 else []


def _windows(rng: random.Random, x: float, top: float, size: Point, pitch: float) -> list[list[Point]]:
    """About a quarter of a tower's windows: the lit ones."""
    found = []
    half, high = pitch * 0.28, pitch * 0.7
    for row in range(1, int(size[1] / (pitch * 1.5))):
        for column in range(1, int(size[0] / pitch)):
            if rng.random() < 0.26:
                middle, up = x + column * pitch, top + row * pitch * 1.5
                left, right = middle - half, middle + half
                found.append([(left, up), (right, up), (right, up + high), (left, up + high)])
    return found


def space(canvas: Canvas) -> Image.Image:
    """A planet with its shadow side, a moon, and clouds of gas between the stars."""
    palette, rng = canvas.palette, canvas.rng("space")
    image = brushes.vertical(canvas.size, (mix(palette.near, (0, 0, 0), 0.6), mix(palette.sky[0], (0, 0, 0), 0.45)))
    for number, colour in enumerate((palette.sky[1], palette.accents[0], palette.sky[2])):
        own, octaves = canvas.rng(f"gas {number}"), 3 + canvas.detail
        noise = brushes.field(canvas.size, own, cells=(2.2, 2.2), octaves=octaves, turned=True)
        image.paste(colour, (0, 0), brushes.level(noise, low=118, high=330 + 60 * number))
    _stars(canvas, image, count=150 * canvas.detail)
    centre = canvas.width * rng.uniform(0.34, 0.66), canvas.height * rng.uniform(0.4, 0.6)
    radius = canvas.unit * rng.uniform(0.2, 0.29)
    brushes.shine(image, centre, palette.light, brushes.halo(radius * 2.1, power=2.2, strength=0.6))
    ring = _ring(radius * rng.uniform(1.7, 2.1), rng.uniform(-24, 24)) if rng.random() < 0.6 else None
    colour = mix(palette.light, palette.accents[1], 0.4)
    if ring:
        brushes.stamp(image, centre, colour, ring[0])
    brushes.stamp(image, centre, _planet(canvas, radius), brushes.disc(radius))
    if ring:
        brushes.stamp(image, centre, colour, ring[1])
    moon = centre[0] + radius * rng.choice((-1.6, 1.6)), centre[1] - radius * rng.uniform(0.5, 1.1)
    brushes.stamp(image, moon, mix(palette.far, palette.light, 0.5), brushes.disc(radius * 0.14))
    return image


def _ring(reach: float, tilt: float) -> tuple[Image.Image, Image.Image]:
    """Two masks of one tilted ring: what lies behind the planet and what lies before it."""
    side = round(reach * 2)
    whole = Image.new("L", (side * 2, side * 2))
    draw = ImageDraw.Draw(whole)
    for share, strength in ((1.0, 120), (0.93, 60), (0.9, 200), (0.78, 90), (0.74, 160), (0.68, 0)):
        wide, high = side * share, side * share * 0.24
        draw.ellipse((side - wide, side - high, side + wide, side + high), fill=strength)
    before = whole.copy()
    before.paste(0, (0, 0, side * 2, side))
    behind, before = (mask.rotate(tilt, brushes.SMOOTH).reduce(2) for mask in (whole, before))
    return behind, before


def _planet(canvas: Canvas, radius: float) -> Image.Image:
    """A banded globe, lit from the upper left, as a square picture for a round mask."""
    palette = canvas.palette
    side = brushes.disc(radius).size
    noise = brushes.field(side, canvas.rng("bands"), cells=(1.1, 6), octaves=1 + canvas.detail)
    stops = (palette.sky[1], palette.far, palette.sky[2], palette.accents[1], palette.light, palette.accents[0])
    globe = brushes.mapped(noise, lambda value: along(stops, value))
    shade = brushes.halo(radius * 1.75, power=0.9, strength=1.0)
    start = round(shade.width / 2 - side[0] * 0.3), round(shade.height / 2 - side[1] * 0.3)
    lit = shade.crop((*start, start[0] + side[0], start[1] + side[1]))
    lit = lit.point([min(255, round(value * 1.45)) for value in range(256)])
    return Image.composite(globe, Image.new("RGB", side, mix(palette.near, (0, 0, 0), 0.5)), lit)


SCENES = {"mountains": mountains, "sea": sea, "dunes": dunes, "forest": forest, "city": city, "space": space}
