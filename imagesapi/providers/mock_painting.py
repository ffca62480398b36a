"""Paints the mock's pictures: scene and colours from the prompt, the rest from a seed; knows nothing of providers."""

from __future__ import annotations

import io
import math
import random
import re
from typing import Any

from PIL import Image

from imagesapi.providers import mock_abstracts, mock_brushes, mock_landscapes, mock_palette
from imagesapi.providers.mock_brushes import Canvas

DETAIL_OF_QUALITY = {"low": 1, "medium": 2, "high": 3, "xhigh": 4, "max": 5, "standard": 2, "hd": 3}
_SATURATION_OF_STYLE = {"vivid": 1.25, "natural": 0.65}
_SCENES = {**mock_landscapes.SCENES, **mock_abstracts.SCENES}
_WORDS = {
    "mountains": "mountain mountains alps alpine peak peaks valley hill hills landscape volcano canyon",
    "sea": "sea ocean wave waves beach water lake coast boat ship island harbor harbour sail surf river",
    "dunes": "desert dune dunes sand sahara camel oasis mars",
    "forest": "forest tree trees woods jungle pine fir bear deer fox otter wolf owl garden cabin",
    "city": "city skyline town street building buildings tower skyscraper cyberpunk tokyo paris york london robot car",
    "space": "space planet galaxy star stars nebula astronaut rocket moon cosmos universe alien satellite",
    "paper": "paper origami abstract layers topographic map contour",
    "agate": "marble stone crystal gem agate texture geode mineral",
    "silk": "silk fabric flow smoke ribbon wind dress fashion curtain music",
    "orbs": "bubble bubbles sphere spheres ball balls glass orb orbs candy balloon balloons 3d",
    "tiles": "geometric geometry bauhaus pattern mosaic tiles logo poster icon cubist vector",
}
_SCENE_OF_WORD = {word: scene for scene, words in _WORDS.items() for word in words.split()}
_SHRINK = {1: 0.5}
_WORKING_PIXELS = {1: 600_000, 2: 1_200_000, 3: 1_150_000}
_MOST_WORKING_PIXELS = 4_200_000
_LEAST_EDGE_PX = 64
_GRAIN = {1: 0, 2: 1}
_MOST_GRAIN = 2


def paint(
    prompt: str,
    *,
    seed: str,
    variation: int = 0,
    size: tuple[int, int],
    detail: int = 2,
    style: str | None = None,
    cut_out: bool = False,
) -> Image.Image:
    """The picture of a prompt, RGB, or RGBA with clear surroundings when `cut_out`; `detail` is 1 (sketch) to 5.

    The same arguments give the same pixels. Size and detail change the making and not the composition, so that a
    sketch and a finished picture are recognisably one.
    """
    own = f"{seed}/{prompt}/{variation}"
    saturation = _SATURATION_OF_STYLE.get(style or "", 1.0)
    palette = mock_palette.choose(prompt, random.Random(f"{own}/palette"), saturation=saturation)
    width, height = _working_size(size, detail)
    canvas = Canvas(width=width, height=height, detail=detail, seed=own, palette=palette)
    image = _SCENES[scene(prompt, seed=seed, variation=variation)](canvas)
    if image.size != size:
        image = image.resize(size, mock_brushes.SMOOTH)
    strength = _GRAIN.get(detail, _MOST_GRAIN)
    if strength:
        image = mock_brushes.grain(image, canvas.rng("grain"), strength)
    if cut_out:
        image.putalpha(_blob(size, canvas.rng("blob")))
    return image


def scene(prompt: str, *, seed: str, variation: int) -> str:
    """What is painted: the first word that names a scene decides, else each variation is another one."""
    for word in re.findall(r"\w+", prompt.lower()):
        if word in _SCENE_OF_WORD:
            return _SCENE_OF_WORD[word]
    order = sorted(_SCENES)
    random.Random(f"{seed}/{prompt}/scenes").shuffle(order)
    return order[variation % len(order)]


def encode(image: Image.Image, *, output_format: str, compression: int | None) -> bytes:
    """The file of a picture; `compression` is OpenAI's 0 to 100 for jpeg and webp, a PNG has none."""
    options: dict[str, Any]
    if output_format == "png":
        options = {"compress_level": 1}
    elif output_format == "jpeg":
        options = {"quality": 92 if compression is None else compression}
    else:
        options = {"quality": 90 if compression is None else compression, "method": 1}
    file = io.BytesIO()
    image.save(file, output_format, **options)
    return file.getvalue()


def _working_size(size: tuple[int, int], detail: int) -> tuple[int, int]:
    """Sketches are painted small, nothing so large that it takes long, and nothing so small that shapes vanish."""
    pixels = size[0] * size[1]
    most = _WORKING_PIXELS.get(detail, _MOST_WORKING_PIXELS)
    scale = min(_SHRINK.get(detail, 1.0), math.sqrt(most / pixels), 1.0)
    return max(_LEAST_EDGE_PX, round(size[0] * scale)), max(_LEAST_EDGE_PX, round(size[1] * scale))


def _blob(size: tuple[int, int], rng: random.Random) -> Image.Image:
    """A round, slightly uneven shape that keeps clear of the corners."""
    waves = [(turns, rng.uniform(0, math.tau), rng.uniform(0.005, 0.02)) for turns in (2, 3, 5)]
    outline = []
    for step in range(240):
        angle = step / 240 * math.tau
        reach = 0.43 + sum(depth * math.sin(turns * angle + phase) for turns, phase, depth in waves)
        outline.append((size[0] * (0.5 + reach * math.cos(angle)), size[1] * (0.5 + reach * math.sin(angle))))
    return mock_brushes.stencil(size, [outline])
