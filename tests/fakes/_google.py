"""Gemini's rules: the key's header, what a model takes, blocks told inside a success, and usage by modality."""

from __future__ import annotations

import io
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
import pybase64
from PIL import Image

from tests.fakes import _pictures
from tests.fakes._exchange import Exchange, Reply, Seen

_STATUS_CODES = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ABORTED": 409,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "INTERNAL": 500,
    "UNKNOWN": 500,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
_CONFIG = {"responseModalities", "imageConfig", "maxOutputTokens", "seed", "temperature"}
_OLD_RATIOS = {"1:1": (1024, 1024), "16:9": (1344, 768), "9:16": (768, 1344), "3:2": (1248, 832)}
_RATIOS = {"1:1": (1024, 1024), "16:9": (1376, 768), "9:16": (768, 1376), "3:2": (1264, 848)}
_TOKENS_PER_INPUT_PICTURE = 258


@dataclass(frozen=True, slots=True)
class Model:
    """What one model takes; the tokens of a picture by tier, and one tier only takes no word for it."""

    tokens: Mapping[str, int]
    ratios: Mapping[str, tuple[int, int]]
    most_pictures: int = 14
    thoughts: int = 0


MODELS = {
    "gemini-2.5-flash-image": Model({"1K": 1290}, _OLD_RATIOS, most_pictures=3),
    "gemini-3-pro-image": Model({"1K": 1120, "2K": 1120, "4K": 2000}, _RATIOS, thoughts=800),
    "gemini-nano-banana-2.1": Model({"1K": 1120}, _RATIOS, thoughts=200),
}


class Refused(Exception):
    def __init__(self, kind: str, message: str, *details: dict[str, Any]) -> None:
        super().__init__(message)
        self.reply = error(kind, message, *details)


def error(kind: str, message: str, *details: dict[str, Any]) -> Reply:
    """The one shape of Google's errors."""
    code = _STATUS_CODES[kind]
    return Reply(code, {"error": {"code": code, "message": message, "status": kind, "details": list(details)}})


def _wrong(field: str, message: str) -> Refused:
    violation = {"field": field, "description": message}
    details = {"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [violation]}
    return Refused("INVALID_ARGUMENT", message, details)


class Service:
    """The generateContent method of every model."""

    prefix = "/google/"
    creating = frozenset({"google"})

    def __init__(self, *, key: str) -> None:
        self.key = key
        self.base = ""

    def route(self, method: str, path: str) -> str:
        served = path.startswith("/google/v1beta/models/") and path.endswith(":generateContent")
        return "google" if method == "POST" and served else "unknown"

    def work(self, seen: Seen) -> Reply:
        try:
            return self._generate(seen)
        except Refused as refused:
            return refused.reply

    def billed(self) -> int:
        return 0

    def reset(self) -> None:
        """Nothing outlives a call."""

    def _generate(self, seen: Seen) -> Reply:
        self._authenticate(seen)
        name = seen.path.removeprefix("/google/v1beta/models/").removesuffix(":generateContent")
        model = MODELS.get(name)
        if model is None:
            raise Refused("NOT_FOUND", f"models/{name} is not found for API version v1beta.")
        prompt, pictures = _contents(seen.json, model)
        ratio, tier, ceiling = _config(seen.json.get("generationConfig"), model)
        scale = {"1K": 1, "2K": 2, "4K": 4}[tier]
        width, height = (edge * scale for edge in model.ratios[ratio])
        tokens = model.tokens[tier]
        if ceiling is not None and ceiling < tokens + model.thoughts:
            return answered([], finish="MAX_TOKENS", prompt=prompt, pictures=pictures, thoughts=ceiling)
        part = {"inlineData": {"mimeType": "image/png", "data": _pictures.as_base64(width, height, "png")}}
        return answered([part], prompt=prompt, pictures=pictures, tokens=tokens, thoughts=model.thoughts, made=1)

    def _authenticate(self, seen: Seen) -> None:
        given = seen.headers.get("x-goog-api-key")
        if given is None:
            raise Refused("PERMISSION_DENIED", "Method doesn't allow unregistered callers.")
        if given != self.key:
            reason = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
            raise Refused("INVALID_ARGUMENT", f"API key not valid: {given}", reason)


def answered(
    parts: list[dict[str, Any]],
    *,
    finish: str = "STOP",
    prompt: str = "",
    pictures: int = 0,
    tokens: int = 0,
    thoughts: int = 0,
    made: int = 0,
) -> Reply:
    """A success, with a picture or without."""
    read = max(len(prompt) // 4, 1)
    seen = pictures * _TOKENS_PER_INPUT_PICTURE
    prompt_details = [{"modality": "TEXT", "tokenCount": read}]
    if seen:
        prompt_details.append({"modality": "IMAGE", "tokenCount": seen})
    usage: dict[str, Any] = {
        "promptTokenCount": read + seen,
        "candidatesTokenCount": tokens,
        "totalTokenCount": read + seen + tokens + thoughts,
        "promptTokensDetails": prompt_details,
        "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": tokens}],
    }
    if thoughts:
        usage["thoughtsTokenCount"] = thoughts
    body = {
        "candidates": [{"content": {"parts": parts, "role": "model"}, "finishReason": finish, "index": 0}],
        "usageMetadata": usage,
        "modelVersion": "a-model",
        "responseId": uuid.uuid4().hex,
    }
    return Reply(200, body, pictures=made)


def _contents(body: Any, model: Model) -> tuple[str, int]:
    """The prompt, and how many pictures came with it."""
    if not isinstance(body, dict):
        raise _wrong("", "Invalid JSON payload received.")
    unknown = set(body) - {"contents", "generationConfig"}
    if unknown:
        raise _wrong(min(unknown), f'Invalid JSON payload received. Unknown name "{min(unknown)}": Cannot find field.')
    contents = body.get("contents")
    if not isinstance(contents, list) or len(contents) != 1 or contents[0].get("role") != "user":
        raise _wrong("contents", "contents is not specified")
    parts = contents[0].get("parts")
    texts = [part["text"] for part in parts if set(part) == {"text"}]
    files = [part["inlineData"] for part in parts if set(part) == {"inlineData"}]
    if len(texts) + len(files) != len(parts) or not "".join(texts):
        raise _wrong("contents[0].parts[0].text", "Unable to process input: a part is empty.")
    if len(files) > model.most_pictures:
        raise _wrong("contents[0].parts", f"At most {model.most_pictures} images are taken.")
    for number, file in enumerate(files):
        try:
            data = pybase64.b64decode(file["data"], validate=True)
            kind = Image.open(io.BytesIO(data)).get_format_mimetype()
        except (OSError, ValueError, KeyError) as error:
            where = f"contents[0].parts[{number + len(texts)}].inline_data.data"
            raise _wrong(where, "Unable to process input image.") from error
        if file.get("mimeType") != kind:
            raise _wrong(f"contents[0].parts[{number + len(texts)}].inline_data.mime_type", "Unsupported MIME type.")
    return "".join(texts), len(files)


def _config(config: Any, model: Model) -> tuple[str, str, int | None]:
    """The ratio, the tier, and the most tokens to write."""
    if not isinstance(config, dict) or set(config) - _CONFIG:
        raise _wrong("generation_config", "Unknown name in generation_config: Cannot find field.")
    if config.get("responseModalities") != ["IMAGE"]:
        raise _wrong("generation_config.response_modalities", "The model answers with pictures.")
    shape = config.get("imageConfig", {})
    ratio, size = shape.get("aspectRatio", "1:1"), shape.get("imageSize", "1K")
    if set(shape) - {"aspectRatio", "imageSize"} or ratio not in model.ratios:
        raise _wrong("generation_config.image_config.aspect_ratio", f"{ratio} is not a supported aspect ratio.")
    if size not in model.tokens or ("imageSize" in shape and len(model.tokens) == 1):
        raise _wrong("generation_config.image_config.image_size", f"{size} is not a supported image size.")
    seed, ceiling = config.get("seed", 0), config.get("maxOutputTokens")
    if type(seed) is not int:
        raise _wrong("generation_config.seed", "Invalid value (TYPE_INT32).")
    return ratio, size, ceiling


# What it does on request


def blocked_prompt(reason: str) -> Callable[[Exchange], None]:
    """A refusal of the prompt, inside a success."""
    body = {"promptFeedback": {"blockReason": reason}, "usageMetadata": {"promptTokenCount": 5, "totalTokenCount": 5}}
    return lambda exchange: exchange.send(Reply(200, body))


def finished(reason: str, *parts: dict[str, Any], message: str | None = None) -> Callable[[Exchange], None]:
    """A success without a picture, for this reason."""

    def play(exchange: Exchange) -> None:
        reply = answered(list(parts), finish=reason)
        body = orjson.loads(reply.payload())
        if message is not None:
            body["candidates"][0]["finishMessage"] = message
        exchange.send(Reply(200, body))

    return play


def fails(kind: str, message: str = "It failed.", *details: dict[str, Any]) -> Callable[[Exchange], None]:
    """An error of this status."""
    return lambda exchange: exchange.send(error(kind, message, *details))
