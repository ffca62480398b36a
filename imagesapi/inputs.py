"""OpenAI's parameters to one immutable request value; every refusal names the parameter and says what is allowed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from core import api, errors, money
from imagesapi.values import ImageRequest

N_MAX = 10
PROMPT_MAX_CHARS = 32_000
SIZE = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})", re.ASCII)
_WORD = re.compile(r"[a-z0-9_.-]{1,32}", re.ASCII)
_MODEL = re.compile(r"[\w./:@-]{1,200}", re.ASCII)
_RESPONSE_FORMATS = ("url", "b64_json")
_BACKGROUNDS = ("auto", "transparent", "opaque")
_OUTPUT_FORMATS = ("png", "jpeg", "webp")
_MODERATIONS = ("auto", "low")
_METADATA_MAX_KEYS = 16
_METADATA_KEY_MAX_CHARS = 64
_METADATA_VALUE_MAX_CHARS = 512
_USER_MAX_CHARS = 512
_EXTRAS_MAX = 32
# What belongs to edits: refused here with the way to go, not ignored.
_EDIT_ONLY = ("image", "images", "image[]", "mask", "markup", "input_fidelity")
_LOOKS = ("size", "quality", "background", "output_format", "moderation", "style")
_KNOWN = frozenset(
    (
        *("prompt", "model", "n", "output_compression", "response_format", "user", "safety_identifier", "metadata"),
        *("max_cost", "strict", "stream", "partial_images", "dryRun"),
        *_LOOKS,
    )
)


def generation(
    body: Mapping[str, Any], *, default_model: str, dry_run: bool, max_cost_header: str | None, size_bytes: int
) -> ImageRequest:
    """A request to `images/generations`. `null` means absent. Raises errors.InvalidRequest and its kinds."""
    _refuse_unstorable(body)
    asked = {name: value for name, value in body.items() if value is not None}
    for name in _EDIT_ONLY:
        if name in asked:
            raise errors.InvalidRequest(
                f"'{name}' does not exist on images/generations. To change an image, POST it to images/edits.",
                param=name,
                code="unknown_parameter",
            )
    _no_streaming(asked)
    extras = {name: value for name, value in asked.items() if name not in _KNOWN}
    if len(extras) > _EXTRAS_MAX:
        raise errors.UnknownParameter(f"There are {len(extras)} parameters this API does not know; remove them.")
    output_format = _choice(asked, "output_format", _OUTPUT_FORMATS)
    return ImageRequest(
        operation="generation",
        model=_model(asked, default_model),
        prompt=_prompt(asked),
        n=_integer(asked, "n", lowest=1, highest=N_MAX, default=1),
        size=_size(asked),
        quality=_word(asked, "quality"),
        background=_choice(asked, "background", _BACKGROUNDS),
        output_format=output_format,
        output_compression=_compression(asked, output_format),
        moderation=_choice(asked, "moderation", _MODERATIONS),
        style=_word(asked, "style"),
        response_format=_choice(asked, "response_format", _RESPONSE_FORMATS),
        user=_text(asked, "user", _USER_MAX_CHARS),
        safety_identifier=_text(asked, "safety_identifier", _USER_MAX_CHARS),
        metadata=_metadata(asked),
        extras=extras,
        asked=asked,
        strict=_boolean(asked, "strict"),
        max_cost_nanos=_max_cost(asked, max_cost_header),
        dry_run=dry_run or _boolean(asked, "dryRun"),
        body_size_bytes=size_bytes,
    )


def _kind(value: object) -> str:
    names = {bool: "a boolean", int: "an integer", float: "a number", str: "a string", list: "an array"}
    return names.get(type(value), "an object")


def _wrong_type(name: str, value: object, wanted: str) -> errors.InvalidRequest:
    return errors.InvalidRequest(
        f"'{name}' must be {wanted}, and {_kind(value)} was sent.", param=name, code="invalid_type"
    )


def _refuse_unstorable(value: Any, name: str = "", level: int = 1) -> None:
    """PostgreSQL stores no NUL character and nobody writes endless nesting; refuse them wherever they hide."""
    if level > api.LEVELS_MAX:
        raise errors.MalformedBody(f"The body is nested deeper than the {api.LEVELS_MAX} levels that are taken.")
    if isinstance(value, str):
        if "\x00" in value:
            raise errors.InvalidRequest("Text must not contain the NUL character.", param=name[:64] or None)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            _refuse_unstorable(key, name, level)
            _refuse_unstorable(inner, name or key, level + 1)
    elif isinstance(value, list):
        for inner in value:
            _refuse_unstorable(inner, name, level + 1)


def _no_streaming(asked: Mapping[str, Any]) -> None:
    if _boolean(asked, "stream"):
        raise errors.InvalidRequest(
            "Streaming is not available on this server yet; send the request without 'stream'.",
            param="stream",
            code="unsupported_value",
        )
    if _integer(asked, "partial_images", lowest=0, highest=3, default=0):
        raise errors.InvalidRequest(
            "'partial_images' needs 'stream', which is not available on this server yet.",
            param="partial_images",
            code="unsupported_value",
        )


def _prompt(asked: Mapping[str, Any]) -> str:
    prompt = asked.get("prompt")
    if prompt is None:
        raise errors.MissingParameter("'prompt' is required: a text that says what to draw.", param="prompt")
    if not isinstance(prompt, str):
        raise _wrong_type("prompt", prompt, "a string")
    if not prompt.strip():
        raise errors.InvalidRequest("'prompt' is empty; say what to draw.", param="prompt")
    if len(prompt) > PROMPT_MAX_CHARS:
        raise errors.InvalidRequest(
            f"'prompt' has {len(prompt)} characters; at most {PROMPT_MAX_CHARS} are allowed.",
            param="prompt",
            code="string_above_max_length",
        )
    return prompt


def _model(asked: Mapping[str, Any], default: str) -> str:
    model = asked.get("model", default)
    if not isinstance(model, str):
        raise _wrong_type("model", model, "a string")
    if not _MODEL.fullmatch(model):
        raise errors.InvalidRequest(
            "'model' must be a model's name, such as 'gpt-image-1' or 'fal/gpt-image-1'.", param="model"
        )
    return model


def _integer(asked: Mapping[str, Any], name: str, *, lowest: int, highest: int, default: int) -> int:
    value = asked.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wrong_type(name, value, f"an integer from {lowest} to {highest}")
    if not lowest <= value <= highest:
        raise errors.InvalidRequest(f"'{name}' must be from {lowest} to {highest}, and {value} was sent.", param=name)
    return value


def _boolean(asked: Mapping[str, Any], name: str) -> bool:
    value = asked.get(name, False)
    if not isinstance(value, bool):
        raise _wrong_type(name, value, "true or false")
    return value


def _choice(asked: Mapping[str, Any], name: str, allowed: tuple[str, ...]) -> str | None:
    value = asked.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise _wrong_type(name, value, "a string")
    if value not in allowed:
        raise errors.InvalidRequest(
            f"'{name}' must be one of {_list(allowed)}, and {value[:40]!r} was sent.", param=name
        )
    return value


def _word(asked: Mapping[str, Any], name: str) -> str | None:
    """A value whose allowed words depend on the model; only its form is checked here."""
    value = asked.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise _wrong_type(name, value, "a string")
    if not _WORD.fullmatch(value):
        raise errors.InvalidRequest(f"'{name}' must be a word such as 'auto'.", param=name)
    return value


def _size(asked: Mapping[str, Any]) -> str | None:
    size = asked.get("size")
    if size is None:
        return None
    if not isinstance(size, str):
        raise _wrong_type("size", size, "a string such as '1024x1024' or 'auto'")
    if size != "auto" and not SIZE.fullmatch(size):
        raise errors.InvalidRequest(
            f"'size' must be WIDTHxHEIGHT in pixels, such as '1024x1024', or 'auto', and {size[:40]!r} was sent.",
            param="size",
        )
    return size


def _compression(asked: Mapping[str, Any], output_format: str | None) -> int | None:
    if "output_compression" not in asked:
        return None
    value = _integer(asked, "output_compression", lowest=0, highest=100, default=100)
    if output_format not in ("jpeg", "webp"):
        raise errors.InvalidRequest(
            "'output_compression' needs 'output_format' jpeg or webp.", param="output_compression"
        )
    return value


def _text(asked: Mapping[str, Any], name: str, max_chars: int) -> str | None:
    value = asked.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise _wrong_type(name, value, "a string")
    if len(value) > max_chars:
        raise errors.InvalidRequest(f"'{name}' may have {max_chars} characters.", param=name)
    return value


def _metadata(asked: Mapping[str, Any]) -> Mapping[str, str]:
    value = asked.get("metadata")
    if value is None:
        return {}
    rule = (
        f"'metadata' must be an object of at most {_METADATA_MAX_KEYS} strings, keys up to {_METADATA_KEY_MAX_CHARS} "
        f"and values up to {_METADATA_VALUE_MAX_CHARS} characters."
    )
    if not isinstance(value, dict) or len(value) > _METADATA_MAX_KEYS:
        raise errors.InvalidRequest(rule, param="metadata")
    for key, text in value.items():
        if not isinstance(text, str) or len(key) > _METADATA_KEY_MAX_CHARS or len(text) > _METADATA_VALUE_MAX_CHARS:
            raise errors.InvalidRequest(rule, param="metadata")
    return value


def _max_cost(asked: Mapping[str, Any], header: str | None) -> int | None:
    value = asked.get("max_cost", header)
    if value is None:
        return None
    rule = "'max_cost' must be a positive amount of dollars, such as 0.05."
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise errors.InvalidRequest(rule, param="max_cost", code="invalid_type")
    # A JSON number's shortest decimal is what the caller wrote; it becomes an integer before anything computes.
    text = format(value, ".12f").rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
    try:
        nanos = money.nanos(text[:40])
    except ValueError as error:
        raise errors.InvalidRequest(rule, param="max_cost") from error
    if nanos <= 0:
        raise errors.InvalidRequest(rule, param="max_cost")
    return nanos


def _list(words: tuple[str, ...]) -> str:
    quoted = [f"'{word}'" for word in words]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} or {quoted[-1]}"
