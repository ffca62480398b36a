"""The colours of a mock picture: chosen by the words of the prompt, or by its seed."""

from __future__ import annotations

import colorsys
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

Colour = tuple[int, int, int]

# Each hue in hex: zenith, middle and horizon of a sky; its light; the farthest and nearest land; three accents.
_HUES = {
    "red": "3b0d2b a3213f f0785a ffd9a8 c8455a 2a0a1e e63946 f4a261 ffe8d6",
    "orange": "40193d c94f4f ffb066 fff0c2 d9704f 2b1230 f3722c f9c74f 577590",
    "gold": "5a3a22 d99a3d ffe3a0 fffbe6 d9a04e 3a2417 e9b949 c8553d fff3d1",
    "green": "0f3b3a 3f8f6b d6edb0 fffbdc 6fae83 0b2b26 52b788 f2e394 2d6a4f",
    "teal": "06303f 1d8a99 b9ece0 fff6da 4aa5a5 042530 2ec4b6 ffbf69 cbf3f0",
    "blue": "0b2559 3478c9 c3e4f7 fffdf0 6f9fd0 0a1c3f 3a86ff ffd166 e0f0ff",
    "purple": "1d1147 6b3fa0 f2a6c8 ffe6c9 8a63b8 170c33 9b5de5 fee440 f15bb5",
    "pink": "5b3a78 d873a4 ffd3cf fff4e0 cf82ab 3a2250 ff6b9d ffc6a5 7d5ba6",
    "brown": "4a3428 a8744f ecd1a5 fff6dd b98a63 2c1d16 bc6c25 dda15e fefae0",
    "white": "6f8fae b3cbdd f3f1ee ffffff a9bfd1 34495e 8fb8de e9c9b1 ffffff",
    "grey": "4b5866 8f9ba6 e4e3dc fff9ea 98a4ad 242d36 7b8a99 e0b589 f2f2ee",
    "night": "050a24 13265c 4a5c9c f4f1d8 2d3f78 04071a 5e7ce2 ffd97d a3b9ff",
    "neon": "0d0630 5a189a ff4fa3 fff0a8 7a2bbf 0a0424 00f5d4 fee440 f15bb5",
    "sunset": "2b2157 b5477a ffa45c ffeeb3 a8507d 1b1338 ff7b54 ffd56b 6a4c93",
    "dawn": "54679b d9a3b4 ffe2c2 fff9e6 a898ba 39405f f2a488 ffe0ac 6886c5",
    "aurora": "030b1f 0a3150 1f6f78 eafff2 1b4d61 02070f 52ffb8 9d7bff 38e8d8",
}
_WORDS = {
    "red": "red crimson scarlet ruby cherry strawberry blood lava volcano mars rouge rojo rot",
    "orange": "orange pumpkin fox amber copper autumn fall fire flame tiger naranja",
    "gold": "gold golden yellow honey lemon sunflower wheat sand beach savanna lion gelb amarillo jaune",
    "green": "green emerald forest jungle moss meadow leaf leaves garden spring grass tree trees verde vert",
    "teal": "teal turquoise cyan aqua mint lagoon tropical reef underwater",
    "blue": "blue azure sapphire ocean sea sky cobalt lake wave waves water river azul bleu blau",
    "purple": "purple violet lavender indigo lilac magic amethyst wizard fantasy",
    "pink": "pink rose blossom cherry-blossom sakura flamingo candy peach romantic",
    "brown": "brown coffee chocolate wood desert dune dunes canyon earth leather sepia camel",
    "white": "white snow snowy winter ice icy arctic polar frost minimal minimalist",
    "grey": "grey gray silver fog foggy mist misty rain rainy storm concrete steel",
    "night": "night midnight dark black moon moonlit moonlight star stars starry nacht noche nuit",
    "neon": "neon cyberpunk synthwave vaporwave retro electric laser futuristic disco",
    "sunset": "sunset dusk evening twilight romance horizon",
    "dawn": "dawn sunrise morning pastel soft watercolor watercolour gentle baby",
    "aurora": "aurora borealis northern lights polarlicht",
}
_HUE_OF_WORD = {word: hue for hue, words in _WORDS.items() for word in words.split()}
_DARK = {"night", "neon", "aurora"}


@dataclass(frozen=True, slots=True)
class Palette:
    """`sky` runs from the zenith to the horizon; `far` and `near` are the two ends of the land."""

    sky: tuple[Colour, Colour, Colour]
    light: Colour
    far: Colour
    near: Colour
    accents: tuple[Colour, ...]
    dark: bool

    @property
    def ramp(self) -> tuple[Colour, ...]:
        """All of it from the darkest to the lightest."""
        return tuple(sorted({self.near, *self.sky, *self.accents, self.light}, key=luminance))


def choose(prompt: str, rng: random.Random, *, saturation: float = 1.0) -> Palette:
    """The first colour word paints the sky and the last one the land; without any the generator picks."""
    named = [_HUE_OF_WORD[word] for word in re.findall(r"\w+", prompt.lower()) if word in _HUE_OF_WORD]
    picked = rng.choice(sorted(_HUES))
    above, below = (named[0], named[-1]) if named else (picked, picked)
    turn = rng.uniform(-0.02, 0.02)
    sky = [_turned(colour, turn, saturation) for colour in _colours(above)]
    land = [_turned(colour, turn, saturation) for colour in _colours(below)]
    return Palette(
        sky=(sky[0], sky[1], sky[2]),
        light=sky[3],
        far=mix(land[4], sky[2], 0.25) if above != below else land[4],
        near=land[5],
        accents=tuple(land[6:]),
        dark=above in _DARK,
    )


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """`first` with a share (0 to 1) of `second`."""
    return (
        round(first[0] + (second[0] - first[0]) * share),
        round(first[1] + (second[1] - first[1]) * share),
        round(first[2] + (second[2] - first[2]) * share),
    )


def along(stops: Sequence[Colour], where: float) -> Colour:
    """The colour at `where` (0 to 1) of evenly spaced stops."""
    place = min(max(where, 0.0), 1.0) * (len(stops) - 1)
    index = min(int(place), len(stops) - 2)
    return mix(stops[index], stops[index + 1], place - index)


def luminance(colour: Colour) -> float:
    return 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]


def _colours(hue: str) -> list[Colour]:
    return [(int(code[:2], 16), int(code[2:4], 16), int(code[4:], 16)) for code in _HUES[hue].split()]


def _turned(colour: Colour, turn: float, gain: float) -> Colour:
    hue, lightness, saturation = colorsys.rgb_to_hls(*(part / 255 for part in colour))
    red, green, blue = colorsys.hls_to_rgb((hue + turn) % 1.0, lightness, min(saturation * gain, 1.0))
    return round(red * 255), round(green * 255), round(blue * 255)
