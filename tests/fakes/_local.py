"""A server of one's own that speaks OpenAI's images API: no key, forms for edits, answers in any of three ways."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Mapping
from typing import Any

from PIL import Image

from tests.fakes import _pictures
from tests.fakes._exchange import Reply, Seen

MODEL = "sd-turbo"
_KNOWN = {"model", "prompt", "n", "size", "response_format", "seed"}
_SIZE = re.compile(r"([1-9]\d{1,3})x([1-9]\d{1,3})")


class Refused(Exception):
    """As FastAPI writes it."""

    def __init__(self, status: int, name: str, message: str) -> None:
        super().__init__(message)
        self.reply = Reply(status, {"detail": [{"loc": ["body", name], "msg": message, "type": "value_error"}]})


class Service:
    """Serves /local/v1. `answers` is how pictures come: "b64_json", "url", "bytes"."""

    prefix = "/local/"
    creating = frozenset({"local", "local_edits"})

    def __init__(self) -> None:
        self.base, self.answers = "", "b64_json"
        self.files: dict[str, bytes] = {}

    def route(self, method: str, path: str) -> str:
        if method == "GET" and path.startswith("/local/generated/"):
            return "local_file"
        routes = {"/local/v1/images/generations": "local", "/local/v1/images/edits": "local_edits"}
        return routes.get(path, "unknown") if method == "POST" else "unknown"

    def work(self, seen: Seen) -> Reply:
        try:
            if seen.route == "local_file":
                data = self.files.get(seen.path.rpartition("/")[2])
                return Reply(200, data, {"Content-Type": "image/png"}) if data else Reply(404, b"")
            return self._draw(_check(_fields(seen)))
        except Refused as refused:
            return refused.reply

    def billed(self) -> int:
        return 0

    def reset(self) -> None:
        self.answers = "b64_json"
        self.files.clear()

    def _draw(self, asked: Mapping[str, Any]) -> Reply:
        match = _SIZE.fullmatch(asked["size"])
        if match is None:
            raise Refused(422, "size", "size must be WIDTHxHEIGHT")
        width, height, n = int(match[1]), int(match[2]), int(asked["n"])
        if self.answers == "bytes":
            return Reply(200, _pictures.draw(width, height, "png"), {"Content-Type": "image/png"}, pictures=1)
        if self.answers == "b64_json":
            data = [{"b64_json": _pictures.as_base64(width, height, "png", number)} for number in range(n)]
        else:
            self.files |= {f"{number}.png": _pictures.draw(width, height, "png", number) for number in range(n)}
            data = [{"url": f"{self.base}/local/generated/{number}.png"} for number in range(n)]
        return Reply(200, {"created": int(time.time()), "data": data}, pictures=n)


def _fields(seen: Seen) -> dict[str, Any]:
    if seen.route == "local":
        return dict(seen.json) if isinstance(seen.json, dict) else {}
    names = [part.name for part in seen.files]
    pictures = [name for name in names if name in ("image", "image[]")]
    if not pictures or ("image" in pictures and len(pictures) > 1) or set(names) - {"image", "image[]", "mask"}:
        raise Refused(422, "image", "Field required once as image, or several times as image[]")
    for part in seen.files:
        with Image.open(io.BytesIO(part.data)) as image:
            if Image.MIME[image.format or ""] != part.content_type:
                raise Refused(415, part.name, "not what its type says")
    return dict(seen.form)


def _check(body: Mapping[str, Any]) -> dict[str, Any]:
    for name in body:
        if name not in _KNOWN:
            raise Refused(422, name, "Extra inputs are not permitted")
    if body.get("model") != MODEL:
        raise Refused(404, "model", "There is no such model")
    if body.get("response_format") != "b64_json":
        raise Refused(422, "response_format", "must be b64_json here")
    return {"n": 1, "size": "512x512", **body}
