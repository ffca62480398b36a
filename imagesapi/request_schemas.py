"""The shapes of what creating routes take, from the numbers and words that imagesapi.inputs checks with."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from core.openapi import JSON, Body, Parameter
from core.schemas import FLAG, Json, boolean, choice, integer, listed, named, number, or_null, pattern, record, text
from imagesapi import inputs, parameters, replays, routing_preference, uploads

FORM = "multipart/form-data"

_SLUGS = listed(text(minLength=1, maxLength=routing_preference.SLUG_MAX_CHARS), maxItems=routing_preference.SLUGS_MAX)
_WORD = pattern(parameters.WORD)
_MAX_COST = {
    "anyOf": [
        number(minimum=0.000000001, maximum=1_000_000),
        text(pattern=r"^[0-9]{1,12}(\.[0-9]{1,9})?$"),
    ],
    "description": "Dollars: refused before it runs if the worst case is above.",
}
_PARAMETERS: dict[str, Json] = {
    "prompt": text("What to draw; models may take less.", minLength=1, maxLength=inputs.PROMPT_MAX_CHARS),
    "model": text(
        "A slug, an alias, or `provider/slug` to force one provider; absent: the server's default.",
        pattern=pattern(inputs.MODEL),
    ),
    "n": integer("How many pictures.", minimum=1, maximum=inputs.N_MAX, default=1),
    "size": text(
        "`WIDTHxHEIGHT` in pixels, a ratio such as `16:9`, or `auto`.",
        pattern=f"^(auto|{pattern(parameters.SIZE)[1:-1]}|{pattern(parameters.RATIO)[1:-1]})$",
    ),
    "aspect_ratio": text("`W:H`; `size` wins over it.", pattern=pattern(parameters.RATIO)),
    "resolution": choice(inputs.RESOLUTIONS, "With or without a ratio; `size` wins over it."),
    "quality": text("The model's words.", pattern=_WORD),
    "background": choice(inputs.BACKGROUNDS),
    "output_format": choice(inputs.OUTPUT_FORMATS, "Converted here where the provider cannot make it."),
    "output_compression": integer(f"With `output_format` {', '.join(inputs.COMPRESSED)}.", minimum=0, maximum=100),
    "moderation": choice(inputs.MODERATIONS),
    "style": text("The model's words.", pattern=_WORD),
    "response_format": choice(inputs.RESPONSE_FORMATS, "Absent: both in each item."),
    "user": text("Passed to the provider.", maxLength=inputs.USER_MAX_CHARS),
    "safety_identifier": text("Passed to the provider.", maxLength=inputs.USER_MAX_CHARS),
    "metadata": {
        "type": "object",
        "description": "Strings of your own: kept with the request, never sent on.",
        "maxProperties": parameters.METADATA_MAX_KEYS,
        "propertyNames": {"minLength": 1, "maxLength": parameters.METADATA_KEY_MAX_CHARS},
        "additionalProperties": text(maxLength=parameters.METADATA_VALUE_MAX_CHARS),
    },
    "max_cost": _MAX_COST,
    "provider": record(
        "Who is tried, and in what order; docs/routing.md explains each.",
        optional={
            "order": or_null(_SLUGS),
            "only": or_null({**_SLUGS, "minItems": 1}),
            "ignore": or_null(_SLUGS),
            "sort": or_null(choice(routing_preference.SORTS)),
        },
    ),
    "strict": boolean("Refuse what would otherwise be adjusted.", default=False),
    "stream": boolean("Answer with server-sent events.", default=False),
    "partial_images": integer(
        "Unfinished pictures of each, when streaming.", minimum=0, maximum=inputs.PARTIAL_IMAGES_MAX, default=0
    ),
    "dryRun": boolean("The price, without running.", default=False),
    "input_fidelity": choice(inputs.FIDELITIES, "How closely an edit keeps to its pictures."),
    "scale_factor": integer(
        "Enlarge by this much; then no prompt is needed.", minimum=2, maximum=inputs.SCALE_FACTOR_MAX
    ),
}
# What is sent beside the pictures, which forms and JSON write in ways of their own.
_OF_PICTURES = frozenset({"image", "images", "image[]", "image_url", "mask", "markup"})
_OF_EDITS = frozenset({"input_fidelity", "scale_factor"})
_FORM_KEEPS_TEXT = frozenset({"metadata", "max_cost", "provider"})


def _known(names: Iterable[str]) -> dict[str, Json]:
    """Those parameters, null being absent."""
    return {name: or_null(_PARAMETERS[name]) for name in sorted(names)}


def _takes(properties: dict[str, Json], description: str, **more: Any) -> Json:
    """An object of these members, and of whatever else: the model's offer decides what it passes on."""
    return {
        "type": "object",
        "description": f"{description} Other members go to the provider where the model's offer lists them.",
        "properties": properties,
        "additionalProperties": True,
        **more,
    }


_REFERENCE = named(
    "ImageReference",
    {
        "description": "Where a picture is: an https address, or a data URI.",
        "anyOf": [
            text(pattern="^(https://|data:)"),
            {
                "type": "object",
                "properties": {"image_url": text(pattern="^(https://|data:)"), "type": text()},
                "required": ["image_url"],
                "additionalProperties": False,
            },
        ],
    },
)
# Of the three names one must bring a picture; the others may be null or empty beside it.
_REFERENCES = {"anyOf": [_REFERENCE, listed(_REFERENCE, maxItems=uploads.IMAGES_MAX), {"type": "null"}]}
_FILE = {"type": "string", "format": "binary"}
_PROMPT_OR_SCALE = {"anyOf": [{"required": ["prompt"]}, {"required": ["scale_factor"]}]}

_GENERATION = named(
    "GenerationToMake",
    _takes(
        {**_known(_PARAMETERS.keys() - _OF_EDITS - {"prompt"}), "prompt": _PARAMETERS["prompt"]},
        "What to draw.",
        required=["prompt"],
    ),
)


def _of_pictures(names: Iterable[str], description: str, **more: Any) -> Json:
    pictures = {"image": _REFERENCES, "images": _REFERENCES, "image_url": _REFERENCES}
    if "mask" in inputs.EDIT_ONLY and more:
        pictures |= {"mask": or_null(_REFERENCE), "markup": or_null(_REFERENCE)}
    one_of = [{"required": [name]} for name in ("image", "images", "image_url")]
    return _takes({**_known(names), **pictures}, description, allOf=[{"anyOf": one_of}, *more.get("allOf", ())])


def _form(names: Iterable[str], description: str, *, overlays: bool, **more: Any) -> Json:
    fields = {name: _or_empty(_PARAMETERS[name]) for name in sorted(names) if name not in _FORM_KEEPS_TEXT | {"prompt"}}
    fields |= {"prompt": _PARAMETERS["prompt"]} if "prompt" in names else {}
    pictures: dict[str, Json] = {
        "image": {
            "description": "The picture to change, or several; also as `image[]`, `image[0]` and so on.",
            "anyOf": [_FILE, listed(_FILE, minItems=1, maxItems=uploads.IMAGES_MAX)],
        }
    }
    if overlays:
        pictures["mask"] = {**_FILE, "description": "A PNG, fully transparent where to edit."}
        pictures["markup"] = {**_FILE, "description": "A PNG, transparent where nothing is drawn. Not with a mask."}
    return _takes({**fields, **pictures}, description, required=["image"], **more)


def _or_empty(schema: Json) -> Json:
    """As a form has it: an empty field is an absent one."""
    return {"anyOf": [schema, {"const": ""}]}


_EDIT_FIELDS = _PARAMETERS.keys()
_VARIATION_FIELDS = inputs.VARIATION_ALLOWED - _OF_PICTURES
_EDIT = named("EditToMake", _of_pictures(_EDIT_FIELDS, "What to change, and how.", allOf=[_PROMPT_OR_SCALE]))
_EDIT_FORM = named("EditForm", _form(_EDIT_FIELDS, "What to change, and how.", overlays=True, **_PROMPT_OR_SCALE))
_VARIATION = named("VariationToMake", _of_pictures(_VARIATION_FIELDS, "What to vary."))
_VARIATION_FORM = named("VariationForm", _form(_VARIATION_FIELDS, "What to vary.", overlays=False))

_PICTURE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAABAAAAAQCAIAAACQkWg2AAAAGklEQVR42mM8EaDBQApgYiARjGoY1T"
    "B0NAAABmwBYPe0BoQAAAAASUVORK5CYII="
)

GENERATION = Body(
    {JSON: _GENERATION},
    {
        JSON: {
            "small": {"model": "gpt-image-1", "prompt": "a red fox in the snow at dawn", "size": "1024x1024"},
            "bounded": {
                "model": "gpt-image-1",
                "prompt": "a red fox in the snow at dawn",
                "size": "1536x1024",
                "quality": "low",
                "output_format": "webp",
                "max_cost": 0.05,
                "metadata": {"order": "17"},
            },
            "offline": {"model": "mock-image", "prompt": "a red fox", "size": "256x256", "response_format": "url"},
        }
    },
)
EDIT = Body(
    {FORM: _EDIT_FORM, JSON: _EDIT},
    {JSON: {"small": {"model": "mock-image", "prompt": "make it night", "images": [{"image_url": _PICTURE}]}}},
)
VARIATION = Body(
    {FORM: _VARIATION_FORM, JSON: _VARIATION}, {JSON: {"small": {"model": "mock-image", "image": _PICTURE}}}
)

PARAMETERS = (
    Parameter("dryRun", FLAG, "true: the price, without running."),
    Parameter(
        "Idempotency-Key",
        text(pattern=pattern(replays.KEY), maxLength=replays.KEY_MAX_CHARS),
        "The same key and body is answered once more from what was kept, and charged once.",
        where="header",
    ),
    Parameter(
        "Prefer",
        text(pattern=r"^[\t -~\x80-\xff]*$"),  # all that HTTP lets a header hold
        "`respond-async`: accepted with 202 and done by a worker. Other preferences are passed over (RFC 7240).",
        where="header",
        example="respond-async",
    ),
    Parameter(
        "X-Max-Cost",
        text(pattern=r"^[0-9]{1,10}(\.[0-9]{1,9})?$"),
        "As `max_cost` in the body, which wins.",
        where="header",
        example="0.05",
    ),
)
