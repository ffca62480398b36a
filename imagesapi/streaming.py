"""Server-sent events: unfinished pictures as they come, heartbeats while nothing does, the answer, or an error.

The work runs aside from the answer: whoever stops reading changes nothing about what is made, kept and charged.
"""

from __future__ import annotations

import contextvars
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import structlog
from django.http import StreamingHttpResponse

from core import bigjson, errors, sql
from imagesapi.values import ImageRequest, Partial

log = structlog.get_logger(__name__)

HEARTBEAT_S = 10.0
_HEARTBEAT = b": the provider is at work\n\n"
_WAITING_MAX = 64
_COUNTS = ("input_tokens", "output_tokens", "total_tokens")

Work = Callable[[Callable[[Partial], None]], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class _Done:
    """The last thing on the way: the answer's document, or why there is none."""

    document: dict[str, Any] | None = None
    error: BaseException | None = None


def respond(request: ImageRequest, work: Work) -> StreamingHttpResponse:
    """Run `work` aside and stream what it brings; its result is the answer with the pictures in it.

    Waits for the first sign of life, so that whatever fails before it is raised here and becomes an ordinary error.
    """
    events: queue.Queue[Partial | _Done] = queue.Queue(maxsize=_WAITING_MAX)
    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(_run, work, events), name="stream", daemon=True).start()
    try:
        first: Partial | _Done | None = events.get(timeout=HEARTBEAT_S)
    except queue.Empty:
        first = None
    if isinstance(first, _Done) and first.error is not None:
        raise first.error
    return of_events(_written(request, first, events))


def of_document(request: ImageRequest, document: dict[str, Any]) -> StreamingHttpResponse:
    """An answer that is there already, as a stream."""
    return of_events(_completed(request, document))


def of_events(body: Iterator[bytes]) -> StreamingHttpResponse:
    response = StreamingHttpResponse(body, content_type="text/event-stream")
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"  # proxies that collect answers would hold back the pictures
    return response


def _run(work: Work, events: queue.Queue[Partial | _Done]) -> None:
    def on_partial(partial: Partial) -> None:
        # A reader who left, or reads slowly, misses unfinished pictures; nobody waits for them.
        try:
            events.put_nowait(partial)
        except queue.Full:
            log.info("an unfinished picture was dropped")

    try:
        done = _Done(document=work(on_partial))
    except BaseException as error:  # noqa: BLE001 - it is raised, or told, where the answer is written
        done = _Done(error=error)
    finally:
        sql.give_back()
    while True:
        try:
            events.put(done, timeout=HEARTBEAT_S)
            return
        except queue.Full:  # nobody reads any more: unfinished pictures make room
            try:
                events.get_nowait()
            except queue.Empty:
                continue


def _written(
    request: ImageRequest, first: Partial | _Done | None, events: queue.Queue[Partial | _Done]
) -> Iterator[bytes]:
    found = first
    while True:
        if found is None:
            yield _HEARTBEAT
        elif isinstance(found, Partial):
            yield _partial(request, found)
        elif found.document is not None:
            yield from _completed(request, found.document)
            return
        else:
            yield _failed(found.error)
            return
        try:
            found = events.get(timeout=HEARTBEAT_S)
        except queue.Empty:
            found = None


def _event(name: str, data: dict[str, Any]) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + bytes(bigjson.dumps({"type": name, **data})) + b"\n\n"


def _name(request: ImageRequest, what: str) -> str:
    return f"image_{'generation' if request.operation == 'generation' else 'edit'}.{what}"


def _partial(request: ImageRequest, partial: Partial) -> bytes:
    told = partial.effective
    return _event(
        _name(request, "partial_image"),
        {
            "b64_json": partial.b64,
            "partial_image_index": partial.index,
            "created_at": int(time.time()),
            "size": told.get("size", request.size or "auto"),
            "quality": told.get("quality", request.quality or "auto"),
            "background": told.get("background", request.background or "auto"),
            "output_format": told.get("output_format", request.output_format or "png"),
        },
    )


def _completed(request: ImageRequest, document: dict[str, Any]) -> Iterator[bytes]:
    """One event for each picture, our metadata on all of them; the usage is shared out, so that it adds up."""
    count = len(document["data"])
    for position, item in enumerate(document["data"]):
        yield _event(
            _name(request, "completed"),
            {
                "b64_json": item.get("b64_json"),
                "created_at": document["created"],
                "size": document["size"],
                "quality": document["quality"],
                "background": document["background"],
                "output_format": document["output_format"],
                "usage": _share(document.get("usage"), position, count),
                **{name: item[name] for name in ("url", "expires_at", "revised_prompt") if name in item},
                "id": document["id"],
                "metadata": document["metadata"],
            },
        )


def _share(usage: dict[str, Any] | None, position: int, count: int) -> dict[str, Any]:
    """A picture's part of a whole request's usage; what cannot be divided goes with the last."""
    if usage is None:
        zero = {"text_tokens": 0, "image_tokens": 0}
        return {**dict.fromkeys(_COUNTS, 0), "input_tokens_details": zero, "output_tokens_details": zero}

    def part(total: Any) -> Any:
        if isinstance(total, dict):
            return {name: part(value) for name, value in total.items()}
        each = total // count
        return total - each * (count - 1) if position == count - 1 else each

    shared: dict[str, Any] = part(usage)
    return shared


def _failed(error: BaseException | None) -> bytes:
    """The nested form, which every version of the SDKs raises for; a stream that merely ends would look complete."""
    if not isinstance(error, errors.PixelparError):
        log.error("a stream broke off", exc_info=error)
        error = errors.InternalError("Something went wrong on our side; look the request up by its id.")
    return _event("error", error.envelope())
