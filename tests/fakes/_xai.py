"""xAI's rules for images: ratios and tiers instead of sizes, pictures as JSON, blocks inside a success, exact costs."""

from __future__ import annotations

import io
import uuid
from collections.abc import Mapping
from typing import Any

import pybase64
from PIL import Image

from tests.fakes import _pictures
from tests.fakes._exchange import Reply, Seen

MODELS = ("grok-imagine-image", "grok-imagine-image-2.0")
TICKS_PER_CENT = 100_000_000
INPUT_TICKS = TICKS_PER_CENT // 5
_SIZES = {"1:1": (1024, 1024), "16:9": (1360, 768), "9:16": (768, 1360), "4:3": (1184, 880), "3:4": (880, 1184)}
_KNOWN = {"model", "prompt", "n", "aspect_ratio", "resolution", "quality", "response_format", "user"}
_CHOICES = {
    "aspect_ratio": (*_SIZES, "auto"),
    "resolution": ("1k", "2k"),
    "quality": ("low", "medium", "high"),
    "response_format": ("url", "b64_json"),
}
_MOST_INPUTS = 3


class Refused(Exception):
    """A request against the rules, with its answer in xAI's shape: two texts."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.reply = Reply(status, {"code": code, "error": message})


class Service:
    """Serves /xai/v1. `hold_back` is how many pictures of the next answers moderation keeps."""

    prefix = "/xai/"
    creating = frozenset({"xai", "xai_edits"})

    def __init__(self, *, key: str) -> None:
        self.key, self.base, self.hold_back = key, "", 0
        self.files: dict[str, bytes] = {}

    def route(self, method: str, path: str) -> str:
        if method == "GET" and path.startswith("/xai/files/"):
            return "xai_file"
        routes = {"/xai/v1/images/generations": "xai", "/xai/v1/images/edits": "xai_edits"}
        return routes.get(path, "unknown") if method == "POST" else "unknown"

    def work(self, seen: Seen) -> Reply:
        try:
            if seen.route == "xai_file":
                return self._file(seen)
            self._authenticate(seen)
            body = _check(seen)
            given = _given(seen.json) if seen.route == "xai_edits" else 0
            return self._draw(body, given)
        except Refused as refused:
            return refused.reply

    def billed(self) -> int:
        return 0  # its answers say how many pictures they cost

    def reset(self) -> None:
        self.hold_back = 0
        self.files.clear()

    def _authenticate(self, seen: Seen) -> None:
        scheme, _, given = seen.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or not given:
            raise Refused(401, "Unauthenticated", "No credentials were sent.")
        if given != self.key:  # xAI says so with 400
            raise Refused(400, "Client specified an invalid argument", f"Incorrect API key provided: {given[:2]}***.")

    def _file(self, seen: Seen) -> Reply:
        if "authorization" in seen.headers:
            return Reply(400, b"no key wanted")
        data = self.files.get(seen.path.rpartition("/")[2])
        return Reply(200, data, {"Content-Type": "image/jpeg"}) if data else Reply(404, b"")

    def _draw(self, body: Mapping[str, Any], given: int) -> Reply:
        width, height = _SIZES[body["aspect_ratio"] if body["aspect_ratio"] != "auto" else "1:1"]
        if body["resolution"] == "2k":
            width, height = 2 * width, 2 * height
        data = [self._item(body, width, height, number) for number in range(body["n"])]
        usage = {"cost_in_usd_ticks": body["n"] * _ticks(body) + given * INPUT_TICKS}
        return Reply(200, {"data": data, "usage": usage}, {"x-request-id": str(uuid.uuid4())}, pictures=body["n"])

    def _item(self, body: Mapping[str, Any], width: int, height: int, number: int) -> dict[str, Any]:
        if number < self.hold_back:
            return {"respect_moderation": False, "mime_type": "image/jpeg"}
        item: dict[str, Any] = {"mime_type": "image/jpeg", "respect_moderation": True, "revised_prompt": ""}
        if body["response_format"] == "b64_json":
            return item | {"b64_json": _pictures.as_base64(width, height, "jpeg", number)}
        name = f"{uuid.uuid4().hex}.jpg"
        self.files[name] = _pictures.draw(width, height, "jpeg", number)
        return item | {"url": f"{self.base}/xai/files/{name}"}


def _ticks(body: Mapping[str, Any]) -> int:
    if body["model"] == "grok-imagine-image":
        return 2 * TICKS_PER_CENT
    return (4 if (body["quality"], body["resolution"]) == ("low", "1k") else 6) * TICKS_PER_CENT


def _check(seen: Seen) -> dict[str, Any]:
    """The body with its defaults, or Refused."""
    wrong = "Client specified an invalid argument"
    if not seen.headers.get("content-type", "").startswith("application/json") or not isinstance(seen.json, dict):
        raise Refused(415, wrong, "Expected request with `Content-Type: application/json`")
    body: dict[str, Any] = {
        "n": 1,
        "aspect_ratio": "auto",
        "resolution": "1k",
        "quality": "medium",
        "response_format": "url",
    }
    body |= seen.json
    for name in body:
        if name not in _KNOWN and not (seen.route == "xai_edits" and name in ("image", "images")):
            raise Refused(400, wrong, f"Argument not supported: {name}")
    if body.get("model") not in MODELS:
        raise Refused(404, "Some requested entity was not found", f"The model {body.get('model')} does not exist.")
    if not isinstance(body.get("prompt"), str) or not body["prompt"]:
        raise Refused(400, wrong, "prompt must not be empty")
    if "forbidden" in body["prompt"]:
        raise Refused(400, wrong, "Generated image rejected by content moderation.")
    if type(body["n"]) is not int or not 1 <= body["n"] <= 10:
        raise Refused(400, wrong, "n must be between 1 and 10")
    for name, allowed in _CHOICES.items():
        if body[name] not in allowed:
            raise Refused(422, wrong, f"{name}: unknown variant, expected one of {', '.join(allowed)}")
    return body


def _given(body: Mapping[str, Any]) -> int:
    """How many pictures came, each of them really one."""
    wrong = "Client specified an invalid argument"
    if ("image" in body) == ("images" in body):
        raise Refused(400, wrong, "Exactly one of image and images must be set")
    pictures = body.get("images", [body.get("image")])
    if not isinstance(pictures, list) or not 1 <= len(pictures) <= _MOST_INPUTS:
        raise Refused(400, wrong, f"1 to {_MOST_INPUTS} images are taken")
    for picture in pictures:
        if not isinstance(picture, dict) or set(picture) != {"url", "type"} or picture["type"] != "image_url":
            raise Refused(422, wrong, "An image is an object with url and type")
        head, _, text = str(picture["url"]).partition(";base64,")
        if not head.startswith("data:image/"):
            raise Refused(400, wrong, "Unable to read the image")
        with Image.open(io.BytesIO(pybase64.b64decode(text, validate=True))) as image:
            if Image.MIME[image.format or ""] != head.removeprefix("data:"):
                raise Refused(400, wrong, "The image is of another type")
    return len(pictures)
