"""The immutable values that walk through the house: what was asked, what an offer is, what fits it, what came back."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Operation = Literal["generation", "edit"]
Quality = str


@dataclass(frozen=True, slots=True)
class InputImage:
    """One picture that an edit starts from, made ready: upright, without metadata, its type read from its bytes.

    `data` is empty where only the facts are known (a request rebuilt from the log); `path` is set once it is kept.
    """

    content_type: str  # image/png, image/jpeg or image/webp
    width_px: int
    height_px: int
    sha256: str
    data: bytes = field(default=b"", repr=False)
    path: str = ""

    @property
    def pixels(self) -> tuple[int, int]:
        return self.width_px, self.height_px

    def as_dict(self) -> dict[str, Any]:
        """The facts, for the log; never the bytes."""
        return {
            "content_type": self.content_type,
            "width": self.width_px,
            "height": self.height_px,
            "sha256": self.sha256,
        }


@dataclass(frozen=True, slots=True)
class Preference:
    """The request's own `provider` object: slugs to try first in order, the only ones, those left out, the sorting."""

    order: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    sort: Literal["price", "latency"] | None = None


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """One request for images as the caller asked it, checked for form but not yet against any model."""

    operation: Operation
    model: str
    prompt: str
    n: int = 1
    size: str | None = None  # "WIDTHxHEIGHT", "W:H" or "auto"; None when absent
    aspect_ratio: str | None = None  # "W:H"
    resolution: str | None = None  # "1K", "2K" or "4K"
    quality: str | None = None
    background: str | None = None
    output_format: str | None = None
    output_compression: int | None = None
    moderation: str | None = None
    style: str | None = None
    response_format: str | None = None  # "url", "b64_json", or None for both
    user: str | None = None
    safety_identifier: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    extras: Mapping[str, Any] = field(default_factory=dict)  # parameters we do not know
    asked: Mapping[str, Any] = field(default_factory=dict)  # the body as parsed, for the log and the receipt
    strict: bool = False
    max_cost_nanos: int | None = None
    dry_run: bool = False
    endpoint: str = "images/generations"
    body_size_bytes: int = 0
    images: tuple[InputImage, ...] = ()
    mask: InputImage | None = None  # transparent where to edit, as OpenAI has it
    markup: InputImage | None = None
    input_fidelity: str | None = None
    scale_factor: int | None = None  # an upscale by this much; then a prompt is not needed
    stream: bool = False
    partial_images: int = 0
    preference: Preference = Preference()


@dataclass(frozen=True, slots=True)
class Adjustment:
    """One thing done to the request, told in the answer: the parameter, what was asked, what was used, and why."""

    parameter: str
    asked: Any
    used: Any
    why: str

    def as_dict(self) -> dict[str, Any]:
        return {"parameter": self.parameter, "asked": self.asked, "used": self.used, "why": self.why}


@dataclass(frozen=True, slots=True)
class PriceLine:
    """One dated price of an offer: what is counted, when it applies, and the price in pico-USD per unit.

    `meter`: image, megapixel, text_input_token, image_input_token, image_output_token, text_output_token; of pictures
    given to an edit also input_image, input_megapixel.
    `conditions`: subset of {"quality", "size", "operation", "resolution"} that must equal the request's effective
    values; of several prices that fit, the one with the most conditions holds.
    `basis`: "billed" lines make the charge; "listed" lines are the provider's published orientation only.
    """

    id: int
    meter: str
    conditions: Mapping[str, str]
    unit_price_picos: int
    basis: Literal["billed", "listed"]
    valid_from: dt.datetime
    source: str
    as_of: dt.date


@dataclass(frozen=True, slots=True)
class EditCapabilities:
    """What one offer can do with pictures that it is given."""

    max_images: int = 1
    # "alpha": transparent where to edit (OpenAI's). "white": white where to edit, black elsewhere. "": no masks.
    mask: Literal["alpha", "white", ""] = ""
    mask_format: str = "png"
    markup: bool = False
    input_fidelities: tuple[str, ...] = ()
    input_formats: tuple[str, ...] = ("png", "jpeg", "webp")
    scale_factors: tuple[int, ...] = ()  # an upscaler: these factors, and no prompt
    # The name of the provider's field, or fields, for pictures, where its adapter needs to be told.
    image_field: str = ""
    # The picture comes back in the size of the first one, and no other can be asked for.
    keeps_size: bool = False


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What one offer takes, straight from the catalogue; empty tuples mean the parameter does not exist there."""

    max_n: int
    prompt_max_chars: int
    sizes: tuple[str, ...] = ()  # enum style: the allowed words, "auto" among them where it is
    size_style: Literal["enum", "pixels", "preset_or_pixels", "ratio"] = "enum"
    # step_px, max_edge_px, max_ratio, min_pixels, max_pixels
    size_rules: Mapping[str, int] = field(default_factory=dict)
    # Ratio style: tier ("1K") -> ratio ("16:9") -> the "WIDTHxHEIGHT" that comes back. Without tiers only "1K".
    ratio_sizes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    qualities: tuple[str, ...] = ()
    backgrounds: tuple[str, ...] = ()
    output_formats: tuple[str, ...] = ("png",)
    compression: bool = False
    moderation: bool = False
    styles: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()  # provider parameters passed through by name
    reports_usage: bool = False  # token usage comes back, so "auto" can be priced afterwards
    generates: bool = True  # False for models that only change pictures
    edits: EditCapabilities | None = None
    streaming: bool = False  # natively; elsewhere it is emulated
    partial_images_max: int = 0


@dataclass(frozen=True, slots=True)
class Connection:
    """Where and with which key a provider is reached; `settings` holds the adapter's named values."""

    settings: Mapping[str, str] = field(default_factory=dict, repr=False)
    configured: bool = False
    custom_endpoint: bool = False  # the operator changed a base URL, so the public life-cycle does not apply
    options: Mapping[str, Any] = field(default_factory=dict)  # the provider's own row, for adapters that serve several


@dataclass(frozen=True, slots=True)
class Offer:
    """One model at one provider, as the catalogue snapshot holds it while a request runs."""

    id: int
    model: str
    provider: str
    provider_name: str
    adapter: str
    wire_id: str
    edit_wire_id: str
    capabilities: Capabilities
    prices: tuple[PriceLine, ...]
    # Everything about money that is not a price: {"output_tokens": {quality: {size: n}},
    # "output_tokens_formula": {...}, "ceiling_tokens": n, "rounding": {"step_nanos", "direction", "per"},
    # "pixels_per_megapixel": n, "free": bool}
    pricing: Mapping[str, Any]
    deprecated_on: dt.date | None
    retires_on: dt.date | None
    enabled: bool
    weight: int
    connection: Connection
    simulated: bool = False

    @property
    def executed_model(self) -> str:
        """`provider/wire id`, as the catalogue names it."""
        return f"{self.provider}/{self.wire_id}"


@dataclass(frozen=True, slots=True)
class Fitted:
    """A request fitted to one offer: only values the offer takes, and what had to change for it."""

    prompt: str
    n: int  # all pictures wanted; the gateway makes several calls where the offer makes fewer in one
    size: str  # "WIDTHxHEIGHT" or "auto"; of ratio-style offers the size that the ratio and tier come to
    quality: str | None
    background: str | None
    output_format: str  # what the provider is asked for
    output_compression: int | None = None
    moderation: str | None = None
    style: str | None = None
    user: str | None = None
    extras: Mapping[str, Any] = field(default_factory=dict)
    convert_to: str | None = None  # what the caller gets when the offer cannot make it itself
    adjustments: tuple[Adjustment, ...] = ()
    operation: Operation = "generation"
    images: tuple[InputImage, ...] = ()
    mask: InputImage | None = None  # of the kind the offer takes
    markup: InputImage | None = None
    input_fidelity: str | None = None
    scale_factor: int | None = None
    aspect_ratio: str | None = None  # ratio-style offers only, with `resolution`
    resolution: str | None = None
    partial_images: int = 0
    stream: bool = False  # ask the provider to stream

    @property
    def pixels(self) -> tuple[int, int] | None:
        """Width and height, or None for "auto"."""
        if self.size == "auto":
            return None
        width, _, height = self.size.partition("x")
        return int(width), int(height)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of a whole request as a provider reports them (OpenAI's names)."""

    text_input_tokens: int
    image_input_tokens: int
    image_output_tokens: int
    text_output_tokens: int = 0

    @property
    def input_tokens(self) -> int:
        return self.text_input_tokens + self.image_input_tokens

    @property
    def output_tokens(self) -> int:
        return self.image_output_tokens + self.text_output_tokens


@dataclass(slots=True)
class Picture:
    """One picture from a provider: base64 text as it came (a long one still in place), or bytes."""

    b64: str | memoryview | None = None
    data: bytes | None = None
    revised_prompt: str | None = None


@dataclass(slots=True)
class Answer:
    """What a provider call gave: pictures, what it says it used, and the raw facts kept as evidence."""

    pictures: list[Picture]
    usage: Usage | None = None
    billable_units_micros: int | None = None
    # What the provider says this call cost, exactly, where it says so (1 USD = 10**12 pico-USD).
    reported_cost_picos: int | None = None
    request_id: str | None = None
    evidence: dict[str, Any] = field(default_factory=dict)
    # The effective values where the provider tells them: size, quality, background, output_format.
    effective: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Partial:
    """One unfinished picture on its way, as base64 text."""

    index: int
    b64: str
    effective: Mapping[str, str] = field(default_factory=dict)
