"""OpenAI's parameters to one immutable request value; every refusal names the parameter and says what is allowed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core import errors
from imagesapi import parameters, routing_preference
from imagesapi.parameters import SIZE
from imagesapi.values import ImageRequest

__all__ = ["EDIT", "GENERATION", "SIZE", "VARIATION", "VARIATION_PROMPT", "Context", "edit", "generation", "variation"]

GENERATION, EDIT, VARIATION = "images/generations", "images/edits", "images/variations"
N_MAX = 10
PARTIAL_IMAGES_MAX = 3
PROMPT_MAX_CHARS = 32_000
OUTPUT_FORMATS = ("png", "jpeg", "webp", "avif", "gif")
STREAMED_FORMATS = ("png", "jpeg", "webp")
RESOLUTIONS = ("1K", "2K", "4K")
# OpenAI's own models for variations are gone; its advice is an edit with a prompt, and this is the one we send.
VARIATION_PROMPT = (
    "Create a variation of this image: keep its subject, composition, style and colours, and change the details, so "
    "that it looks like another picture from the same series."
)
RESPONSE_FORMATS = ("url", "b64_json")
BACKGROUNDS = ("auto", "transparent", "opaque")
COMPRESSED = ("jpeg", "webp", "avif")
MODERATIONS = ("auto", "low")
FIDELITIES = ("low", "high")
SCALE_FACTOR_MAX = 8
USER_MAX_CHARS = 512
MODEL = re.compile(r"[\w./:@-]{1,200}", re.ASCII)
EXTRAS_MAX = 32
# What belongs to edits: refused on generations with the way to go, not ignored.
EDIT_ONLY = ("image", "images", "image[]", "image_url", "mask", "markup", "input_fidelity", "scale_factor")
KNOWN = frozenset(
    (
        *("prompt", "model", "n", "output_compression", "response_format", "user", "safety_identifier", "metadata"),
        *("max_cost", "strict", "stream", "partial_images", "dryRun", "provider", "aspect_ratio", "resolution"),
        *("size", "quality", "background", "output_format", "moderation", "style"),
        *EDIT_ONLY,
    )
)
VARIATION_ALLOWED = frozenset(
    (
        *("model", "n", "size", "response_format", "user", "safety_identifier", "metadata", "max_cost", "strict"),
        *("dryRun", "image", "provider", "output_format", "quality"),
    )
)


@dataclass(frozen=True, slots=True)
class Context:
    """What belongs to a request beside its body."""

    default_model: str
    dry_run: bool = False
    max_cost_header: str | None = None
    size_bytes: int = 0


def generation(body: Mapping[str, Any], context: Context) -> ImageRequest:
    """A request to `images/generations`. `null` means absent. Raises errors.InvalidRequest and its kinds."""
    asked = _present(body)
    for name in EDIT_ONLY:
        if name in asked:
            raise errors.InvalidRequest(
                f"'{name}' does not exist on images/generations. To change an image, POST it to images/edits.",
                param=name,
                code="unknown_parameter",
            )
    return ImageRequest(operation="generation", prompt=_prompt(asked), **_common(asked, context, GENERATION))


def edit(body: Mapping[str, Any], context: Context) -> ImageRequest:
    """A request to `images/edits`, still without its pictures: the fields beside them."""
    asked = _present(body)
    scale_factor = None
    if "scale_factor" in asked:
        scale_factor = parameters.integer(asked, "scale_factor", lowest=2, highest=SCALE_FACTOR_MAX, default=2)
    return ImageRequest(
        operation="edit",
        prompt=_prompt(asked) if scale_factor is None or "prompt" in asked else "",
        input_fidelity=parameters.choice(asked, "input_fidelity", FIDELITIES),
        scale_factor=scale_factor,
        **_common(asked, context, EDIT),
    )


def variation(body: Mapping[str, Any], context: Context) -> ImageRequest:
    """A request to `images/variations`: an edit with a prompt of ours, on a model that can edit."""
    asked = _present(body)
    for name in asked:
        if name in KNOWN and name not in VARIATION_ALLOWED:
            raise not_of_variations(name)
    return ImageRequest(operation="edit", prompt=VARIATION_PROMPT, **_common(asked, context, VARIATION))


def not_of_variations(name: str) -> errors.InvalidRequest:
    """The refusal of what only an edit takes."""
    return errors.InvalidRequest(
        f"'{name}' does not exist on images/variations. To say what to change, POST to images/edits.",
        param=name,
        code="unknown_parameter",
    )


def _present(body: Mapping[str, Any]) -> dict[str, Any]:
    parameters.refuse_unstorable(body)
    return {name: value for name, value in body.items() if value is not None}


def _common(asked: dict[str, Any], context: Context, endpoint: str) -> dict[str, Any]:
    """What all three routes take."""
    extras = {name: value for name, value in asked.items() if name not in KNOWN}
    if len(extras) > EXTRAS_MAX:
        raise errors.UnknownParameter(f"There are {len(extras)} parameters this API does not know; remove them.")
    for name, value in extras.items():
        parameters.refuse_misspelled_guard(name)
        parameters.refuse_huge_numbers(value, name)
    output_format = parameters.choice(asked, "output_format", OUTPUT_FORMATS)
    stream = parameters.boolean(asked, "stream")
    if stream and output_format not in (None, *STREAMED_FORMATS):
        raise errors.InvalidRequest(
            f"A stream carries 'output_format' {parameters.words_of(STREAMED_FORMATS)}; ask for {output_format} "
            "without 'stream'.",
            param="output_format",
        )
    partial_images = parameters.integer(asked, "partial_images", lowest=0, highest=PARTIAL_IMAGES_MAX, default=0)
    return {
        "model": _model(asked, context.default_model),
        "n": parameters.integer(asked, "n", lowest=1, highest=N_MAX, default=1),
        "size": parameters.size(asked),
        "aspect_ratio": parameters.ratio(asked, "aspect_ratio"),
        "resolution": parameters.choice(asked, "resolution", RESOLUTIONS),
        "quality": parameters.word(asked, "quality"),
        "background": parameters.choice(asked, "background", BACKGROUNDS),
        "output_format": output_format,
        "output_compression": _compression(asked, output_format),
        "moderation": parameters.choice(asked, "moderation", MODERATIONS),
        "style": parameters.word(asked, "style"),
        "response_format": parameters.choice(asked, "response_format", RESPONSE_FORMATS),
        "user": parameters.text(asked, "user", max_chars=USER_MAX_CHARS),
        "safety_identifier": parameters.text(asked, "safety_identifier", max_chars=USER_MAX_CHARS),
        "metadata": parameters.metadata(asked),
        "extras": extras,
        "asked": asked,
        "strict": parameters.boolean(asked, "strict"),
        "max_cost_nanos": parameters.max_cost_nanos(asked, context.max_cost_header),
        "dry_run": context.dry_run or parameters.boolean(asked, "dryRun"),
        "endpoint": endpoint,
        "body_size_bytes": context.size_bytes,
        "stream": stream,
        "partial_images": partial_images if stream else 0,
        "preference": routing_preference.parse(asked.get("provider")),
    }


def _prompt(asked: Mapping[str, Any]) -> str:
    prompt = parameters.text(asked, "prompt", max_chars=PROMPT_MAX_CHARS)
    if prompt is None:
        raise errors.MissingParameter("'prompt' is required: a text that says what to draw.", param="prompt")
    if not prompt.strip():
        raise errors.InvalidRequest("'prompt' is empty; say what to draw.", param="prompt")
    return prompt


def _model(asked: Mapping[str, Any], default: str) -> str:
    model = asked.get("model", default)
    if not isinstance(model, str):
        raise parameters.wrong_type("model", model, "a string")
    if not MODEL.fullmatch(model):
        raise errors.InvalidRequest(
            "'model' must be a model's name, such as 'gpt-image-1' or 'fal/gpt-image-1'.", param="model"
        )
    return model


def _compression(asked: Mapping[str, Any], output_format: str | None) -> int | None:
    if "output_compression" not in asked:
        return None
    value = parameters.integer(asked, "output_compression", lowest=0, highest=100, default=100)
    if output_format not in COMPRESSED:
        raise errors.InvalidRequest(
            f"'output_compression' needs 'output_format' {parameters.words_of(COMPRESSED)}.",
            param="output_compression",
        )
    return value
