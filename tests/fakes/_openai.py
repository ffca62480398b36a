"""OpenAI's rules for images: authentication, parameters by model family, the answer, and the bill in tokens."""

from __future__ import annotations

import math
import re
import time
import uuid
from collections.abc import Mapping
from typing import Any

from tests.fakes import _openai_events, _pictures
from tests.fakes._exchange import Reply, Seen

OLD_FAMILY = ("gpt-image-1", "gpt-image-1-mini", "gpt-image-1.5", "gpt-image-1.5-2025-12-16", "chatgpt-image-latest")
NEW_FAMILY = (
    "gpt-image-2",
    "gpt-image-2-2026-04-21",
    "gpt-image-2.5-flare",
    "gpt-image-2.5-sunburst",
    "gpt-image-2.6-flare",
    "gpt-image-2.6-sunburst",
)
MODELS = OLD_FAMILY + NEW_FAMILY

_OLD_TOKENS = {
    "low": {"1024x1024": 272, "1024x1536": 408, "1536x1024": 400},
    "medium": {"1024x1024": 1056, "1024x1536": 1584, "1536x1024": 1568},
    "high": {"1024x1024": 4160, "1024x1536": 6240, "1536x1024": 6208},
}
_FACTORS_2 = {"low": 16, "medium": 48, "high": 96}
_FACTORS_25 = {"low": 16, "medium": 24, "high": 48, "xhigh": 64, "max": 96}
_ENUMS = {
    "background": ("auto", "transparent", "opaque"),
    "output_format": ("png", "jpeg", "webp"),
    "moderation": ("auto", "low"),
}
KNOWN = {
    "prompt",
    "model",
    "n",
    "size",
    "quality",
    "background",
    "output_format",
    "output_compression",
    "moderation",
    "stream",
    "partial_images",
    "user",
    "safety_identifier",
}
_SIZE = re.compile(r"(\d{2,5})x(\d{2,5})")


class Refused(Exception):
    """A request against the rules, with its answer in OpenAI's shape."""

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None, kind: str | None = None
    ) -> None:
        super().__init__(message)
        self.reply = Reply(
            status,
            {
                "error": {
                    "message": message,
                    "type": kind or "invalid_request_error",
                    "param": param,
                    "code": code,
                }
            },
        )


def authenticate(seen: Seen, *, key: str) -> None:
    scheme, _, given = seen.headers.get("authorization", "").partition(" ")
    if scheme != "Bearer" or not given:
        raise Refused(401, "You didn't provide an API key.")
    if given != key:
        masked = f"{given[:8]}{'*' * 12}{given[-4:]}"
        raise Refused(401, f"Incorrect API key provided: {masked}.", code="invalid_api_key")


def generate(seen: Seen, *, key: str, retired: frozenset[str], at_least_bytes: int = 0) -> Reply:
    """POST /images/generations."""
    try:
        authenticate(seen, key=key)
        asked = _check(seen, retired)
    except Refused as refused:
        return headed(refused.reply)
    return headed(draw(asked, at_least_bytes))


def models(seen: Seen, *, key: str, retired: frozenset[str]) -> Reply:
    """GET /models and /models/{id}."""
    try:
        authenticate(seen, key=key)
        served = [name for name in MODELS if name not in retired]
        wanted = seen.path.partition("/models")[2].strip("/")
        if not wanted:
            return headed(Reply(200, {"object": "list", "data": [_model(name) for name in served]}))
        if wanted not in served:
            raise Refused(404, f"The model '{wanted}' does not exist.", param="model", code="model_not_found")
        return headed(Reply(200, _model(wanted)))
    except Refused as refused:
        return headed(refused.reply)


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 1_745_000_000, "owned_by": "system", "shutdown_date": None}


def headed(reply: Reply) -> Reply:
    """With the headers that every answer has."""
    reply.headers.update({"x-request-id": f"req_{uuid.uuid4().hex}", "openai-version": "2020-10-01"})
    return reply


def _check(seen: Seen, retired: frozenset[str]) -> dict[str, Any]:
    """The body with defaults filled in, or Refused as OpenAI would."""
    if not seen.headers.get("content-type", "").startswith("application/json"):
        raise Refused(415, "Unsupported content type.", code="unsupported_content_type")
    if not isinstance(seen.json, dict):
        raise Refused(400, "We could not parse the JSON body of your request.")
    body = {name: value for name, value in seen.json.items() if value is not None or name == "user"}
    return settled(body, retired, known=KNOWN)


def settled(body: dict[str, Any], retired: frozenset[str], *, known: set[str]) -> dict[str, Any]:
    """What generations and edits have in common, with defaults filled in."""
    model = _model_of(body, retired)
    for name in body:
        if name not in known:
            raise Refused(400, f"Unknown parameter: '{name}'.", param=name, code="unknown_parameter")
    _check_texts(body)
    _check_numbers(body)
    for name, allowed in {**_ENUMS, "quality": _qualities(model)}.items():
        if name in known and body.setdefault(name, allowed[0]) not in allowed:
            raise _invalid(name, body[name], f"Supported values are: {', '.join(allowed)}.")
    if body["background"] == "transparent" and body["output_format"] == "jpeg":
        raise Refused(400, "Transparent background needs png or webp.", param="background", code="invalid_value")
    if "output_compression" in body and body["output_format"] == "png":
        raise Refused(400, "Compression needs jpeg or webp.", param="output_compression", code="invalid_value")
    body["size"] = _size_of(body.get("size", "auto"), model)
    return body


def _model_of(body: Mapping[str, Any], retired: frozenset[str]) -> str:
    model = body.get("model")
    if not isinstance(model, str):
        raise Refused(400, "Missing required parameter: 'model'.", param="model", code="missing_required_parameter")
    if model not in MODELS or model in retired:
        raise Refused(404, f"The model '{model}' does not exist.", param="model", code="model_not_found")
    return model


def _invalid(name: str, value: Any, hint: str) -> Refused:
    return Refused(400, f"Invalid value: {value!r}. {hint}", param=name, code="invalid_value")


def _check_texts(body: Mapping[str, Any]) -> None:
    if "prompt" not in body:
        raise Refused(400, "Missing required parameter: 'prompt'.", param="prompt", code="missing_required_parameter")
    if not isinstance(body["prompt"], str) or not 1 <= len(body["prompt"]) <= 32_000:
        raise _invalid("prompt", "...", "Expected 1 to 32000 characters.")
    for name in ("user", "safety_identifier"):
        if name in body and not isinstance(body[name], str):
            raise Refused(400, f"Invalid type for '{name}'.", param=name, code="invalid_type")


def _check_numbers(body: dict[str, Any]) -> None:
    body.setdefault("n", 1)
    for name, low, high in (("n", 1, 10), ("output_compression", 0, 100), ("partial_images", 0, 3)):
        value = body.get(name, low)
        if type(value) is not int or not low <= value <= high:
            raise _invalid(name, value, f"Expected a whole number from {low} to {high}.")
    if type(body.get("stream", False)) is not bool:
        raise _invalid("stream", body["stream"], "Expected true or false.")
    if body.get("partial_images") and not body.get("stream"):
        raise _invalid("partial_images", body["partial_images"], "It needs 'stream'.")


def _qualities(model: str) -> tuple[str, ...]:
    newest = model.startswith(("gpt-image-2.5", "gpt-image-2.6"))
    return ("auto", "low", "medium", "high", "xhigh", "max") if newest else ("auto", "low", "medium", "high")


def _size_of(size: Any, model: str) -> str:
    """The effective size; "auto" is a square."""
    if size == "auto":
        return "1024x1024"
    if model in OLD_FAMILY:
        if size not in _OLD_TOKENS["low"]:
            raise _invalid("size", size, "Supported values are: 1024x1024, 1024x1536, 1536x1024 and auto.")
        return str(size)
    match = _SIZE.fullmatch(size) if isinstance(size, str) else None
    if match is None:
        raise _invalid("size", size, "Expected WIDTHxHEIGHT.")
    width, height = int(match[1]), int(match[2])
    if width % 16 or height % 16:
        raise _invalid("size", size, "Width and height must be multiples of 16.")
    if max(width, height) > 3840 or max(width, height) > 3 * min(width, height):
        raise _invalid("size", size, "The longest edge is 3840, the ratio at most 3:1.")
    if not 655_360 <= width * height <= 8_294_400:
        raise _invalid("size", size, "The image must have 655360 to 8294400 pixels.")
    return str(size)


def output_tokens(model: str, quality: str, size: str) -> int:
    """Image output tokens of one picture."""
    if model in OLD_FAMILY:
        return _OLD_TOKENS[quality][size]
    factor = (_FACTORS_2 if model.startswith("gpt-image-2-") or model == "gpt-image-2" else _FACTORS_25)[quality]
    width, height = (int(part) for part in size.split("x"))
    short = math.floor(factor * min(width, height) / max(width, height) + 0.5)
    return math.ceil(factor * short * (2_000_000 + width * height) / 4_000_000)


def draw(
    asked: Mapping[str, Any], at_least_bytes: int, *, kind: str = "image_generation", image_tokens: int = 0
) -> Reply:
    """The answer, and its events where they were asked for."""
    quality = "high" if asked["quality"] == "auto" else asked["quality"]
    background = "transparent" if asked["background"] == "transparent" else "opaque"
    width, height = (int(part) for part in asked["size"].split("x"))
    output_format, n = asked["output_format"], asked["n"]
    written = n * output_tokens(asked["model"], quality, asked["size"])
    read = max(1, math.ceil(len(asked["prompt"]) / 4))
    data = [
        {
            "b64_json": _pictures.as_base64(
                width, height, output_format, number, background == "transparent", at_least_bytes
            )
        }
        for number in range(n)
    ]
    usage = {
        "input_tokens": read + image_tokens,
        "output_tokens": written,
        "total_tokens": read + image_tokens + written,
        "input_tokens_details": {"text_tokens": read, "image_tokens": image_tokens},
        "output_tokens_details": {"image_tokens": written, "text_tokens": 0},
    }
    body = {
        "created": int(time.time()),
        "background": background,
        "output_format": output_format,
        "quality": quality,
        "size": asked["size"],
        "data": data,
        "usage": usage,
    }
    reply = Reply(200, body, {"openai-processing-ms": "12"}, pictures=n)
    if asked.get("stream"):
        reply.events = _openai_events.write(body, kind=kind, partials=asked.get("partial_images", 0))
    return reply
