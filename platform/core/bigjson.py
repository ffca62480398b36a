"""JSON with megabytes of base64 in it: the long texts are never parsed, escaped or copied, only looked at in place."""

from __future__ import annotations

import re
import secrets
from typing import Any

import orjson

# Below this, parsing is cheaper than cutting.
LONG_BYTES = 4096
_MARK = f"cut-{secrets.token_hex(8)}-"
_MARK_BYTES = _MARK.encode()
_DEPTH = 8
_OPENING = re.compile(rb'\s*:\s*"')


def loads(body: bytes, *, key: str) -> Any:
    """A document in which each long text under `key` is a memoryview into `body`, its content not yet judged.

    Only texts without an escape are cut, so a view's bytes are the text's own. Raises orjson.JSONDecodeError.
    """
    name = b'"%s"' % key.encode()
    pieces: list[bytes] = []
    views: list[memoryview] = []
    at = here = 0
    # `find` passes a long text at memory's speed; a pattern would step through it letter by letter.
    while (here := body.find(name, here)) != -1:
        here += len(name)
        opening = _OPENING.match(body, here)
        if opening is None:
            continue
        start = opening.end()
        end = body.find(b'"', start)
        if end - start < LONG_BYTES or body.find(b"\\", start, end) != -1:
            continue
        pieces += [body[at:start], b"%s%d" % (_MARK_BYTES, len(views))]
        views.append(memoryview(body)[start:end])
        at = here = end
    if not views:
        return orjson.loads(body)
    pieces.append(body[at:])
    return _put_back(orjson.loads(b"".join(pieces)), views, _DEPTH)


def _put_back(value: Any, views: list[memoryview], depth: int) -> Any:
    if isinstance(value, str):
        number = value.removeprefix(_MARK)
        return views[int(number)] if number != value else value
    if depth and isinstance(value, dict):
        return {name: _put_back(inner, views, depth - 1) for name, inner in value.items()}
    if depth and isinstance(value, list):
        return [_put_back(inner, views, depth - 1) for inner in value]
    return value


def dumps(document: Any) -> bytes:
    """JSON of a document whose memoryviews are texts that need no escaping (base64 that was decoded before)."""
    return b"".join(pieces(document))


def pieces(document: Any) -> list[bytes | memoryview]:
    """The same in pieces, the memoryviews uncopied among them."""
    views: list[memoryview] = []

    def cut(value: Any) -> str:
        if not isinstance(value, memoryview):
            raise TypeError(f"{type(value).__name__} is not JSON")
        views.append(value)
        return _MARK

    written = orjson.dumps(document, default=cut)
    first, *texts = written.split(_MARK_BYTES)
    found: list[bytes | memoryview] = [first]
    for view, text in zip(views, texts, strict=True):
        found += [view, text]
    return found
