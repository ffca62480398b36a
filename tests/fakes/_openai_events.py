"""OpenAI's image streams: one server-sent event per unfinished picture and one per finished one."""

from __future__ import annotations

from typing import Any

import orjson

from tests.fakes import _pictures

_PARTIAL_TOKENS = 100


def write(body: dict[str, Any], *, kind: str, partials: int) -> list[bytes]:
    """The events of an answer; `kind` is image_generation or image_edit. Usage is told by each finished picture."""
    state = {name: body[name] for name in ("size", "quality", "background", "output_format")}
    width, height = (int(part) for part in body["size"].split("x"))
    found = []
    for number, item in enumerate(body["data"]):
        for index in range(partials):
            unfinished = _pictures.as_base64(width, height, body["output_format"], number + index + 1)
            facts = {"b64_json": unfinished, "partial_image_index": index, "created_at": body["created"], **state}
            found.append(event(f"{kind}.partial_image", facts))
        usage = _usage(body["usage"], len(body["data"]), partials=partials, with_input=number == 0)
        facts = {"b64_json": item["b64_json"], "created_at": body["created"], **state, "usage": usage}
        found.append(event(f"{kind}.completed", facts))
    return found


def event(name: str, facts: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), orjson.dumps({"type": name, **facts}))


def _usage(whole: dict[str, Any], pictures: int, *, partials: int, with_input: bool) -> dict[str, Any]:
    """One picture's share: its own output, and all of the input with the first one."""
    details = whole["input_tokens_details"] if with_input else {"text_tokens": 0, "image_tokens": 0}
    read = sum(details.values())
    written = whole["output_tokens"] // pictures + partials * _PARTIAL_TOKENS
    return {
        "input_tokens": read,
        "output_tokens": written,
        "total_tokens": read + written,
        "input_tokens_details": details,
    }
