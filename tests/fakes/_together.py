"""Together's rules for images: edges apart, base64 by its name, given pictures as addresses in the same route."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from tests.fakes import _pictures
from tests.fakes._exchange import Reply, Seen

MODELS = ("black-forest-labs/FLUX.1-schnell", "black-forest-labs/FLUX.1-kontext-pro")
_KNOWN: Mapping[str, type | tuple[type, ...]] = {
    "model": str,
    "prompt": str,
    "n": int,
    "width": int,
    "height": int,
    "steps": int,
    "seed": int,
    "guidance": (int, float),
    "negative_prompt": str,
    "response_format": str,
    "output_format": str,
    "image_url": str,
    "reference_images": list,
}


class Refused(Exception):
    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
        self.reply = Reply(status, {"id": "nX1", "error": error})


class Service:
    """Serves /together/v1."""

    prefix = "/together/"
    creating = frozenset({"together"})

    def __init__(self, *, key: str) -> None:
        self.key, self.base = key, ""

    def route(self, method: str, path: str) -> str:
        return "together" if (method, path) == ("POST", "/together/v1/images/generations") else "unknown"

    def work(self, seen: Seen) -> Reply:
        try:
            if seen.headers.get("authorization") != f"Bearer {self.key}":
                raise Refused(401, "Invalid API key provided.", code="invalid_api_key")
            return _draw(_check(seen.json))
        except Refused as refused:
            return refused.reply

    def billed(self) -> int:
        return 0

    def reset(self) -> None:
        """It keeps nothing."""


def _check(body: Any) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise Refused(400, "The body must be JSON.")
    for name, value in body.items():
        if name not in _KNOWN:
            raise Refused(400, f"Unrecognized request argument supplied: {name}", param=name)
        if not isinstance(value, _KNOWN[name]):
            raise Refused(400, f"Invalid type for {name}", param=name)
    asked = {"n": 1, "width": 1024, "height": 768, "response_format": "url", "output_format": "jpeg", **body}
    if asked.get("model") not in MODELS:
        raise Refused(404, f"Unable to access model {asked.get('model')}.", code="model_not_available")
    if asked["response_format"] not in ("base64", "url"):
        raise Refused(400, "response_format must be base64 or url", param="response_format")
    if not 1 <= asked["n"] <= 4:
        raise Refused(400, "n must be from 1 to 4", param="n")
    for name in ("width", "height"):
        if not 64 <= asked[name] <= 1792 or asked[name] % 8:
            raise Refused(422, f"{name} must be a multiple of 8 from 64 to 1792", param=name)
    if "nsfw" in asked["prompt"]:
        raise Refused(422, "NSFW content detected in prompt.")
    for address in (*asked.get("reference_images", ()), asked.get("image_url", "data:image/")):
        if not str(address).startswith(("data:image/", "https://")):
            raise Refused(400, "Unable to fetch the image.", param="image_url")
    return asked


def _draw(asked: Mapping[str, Any]) -> Reply:
    data = [
        {
            "index": number,
            "b64_json": _pictures.as_base64(asked["width"], asked["height"], asked["output_format"], number),
        }
        for number in range(asked["n"])
    ]
    body = {"id": f"o{uuid.uuid4().hex}", "model": asked["model"], "object": "list", "data": data}
    return Reply(200, body, {"x-request-id": f"o{uuid.uuid4().hex}"}, pictures=asked["n"])
