"""Ways for a streamed answer to go wrong in the middle; each verb returns a behaviour to script."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from tests.fakes._exchange import Exchange, Reply, chunk
from tests.fakes._openai_events import event
from tests.fakes.misbehaviour import Behaviour

_FILLER = b"x" * 65_536
_GUARD_S = 600.0
_ANY_ERROR = {"message": "The server had an error.", "type": "server_error", "param": None, "code": None}
MODERATION = {
    "message": "Your request was rejected by the safety system.",
    "type": "image_generation_user_error",
    "param": None,
    "code": "moderation_blocked",
    "moderation_details": {"moderation_stage": "output", "categories": ["violence"]},
}


def events(change: Callable[[list[bytes]], list[bytes]]) -> Behaviour:
    """The honest, billed stream with other events."""

    def play(exchange: Exchange) -> None:
        reply = exchange.answer()
        if exchange.send_events(reply, change(reply.events)):
            exchange.raw(b"0\r\n\r\n")

    return play


def unstreamed() -> Behaviour:
    """A plain JSON answer though a stream was asked for."""

    def play(exchange: Exchange) -> None:
        reply = exchange.answer()
        exchange.send(Reply(200, reply.body, reply.headers))

    return play


def cut(*, after: int = 1, reset: bool = False) -> Behaviour:
    """So many events and half of the next, then the connection ends."""

    def play(exchange: Exchange) -> None:
        reply = exchange.answer()
        broken = reply.events[after]
        exchange.send_events(reply, [*reply.events[:after], broken[: len(broken) // 2]])
        exchange.hang_up(reset=reset)

    return play


def error(body: dict[str, Any] | None = None, *, nested: bool = True, after: int = 0) -> Behaviour:
    """So many events, then one that tells an error, nested as OpenAI's or flat as some have it."""
    told = body or _ANY_ERROR
    facts = {"error": told} if nested else {name: value for name, value in told.items() if name != "type"}
    return events(lambda honest: [*honest[:after], event("error", facts)])


def without_completed() -> Behaviour:
    """A stream that ends in good order before its picture is complete."""
    return events(lambda honest: [one for one in honest if b".completed" not in one[:64]] or [b": nothing\n\n"])


def stalled() -> Behaviour:
    """All but the last event, and then silence."""

    def play(exchange: Exchange) -> None:
        reply = exchange.answer()
        exchange.send_events(reply, reply.events[:-1] or [b": wait\n\n"])
        exchange.sleep(_GUARD_S)
        exchange.hang_up()

    return play


def broken_json(*, after: int = 0) -> Behaviour:
    """An event whose data is cut off."""
    return events(lambda honest: [*honest[:after], honest[after][: len(honest[after]) // 2] + b"\n\n"])


def odd(data: Any) -> Behaviour:
    """One event with this for its data, then the honest ones."""
    line = data if isinstance(data, bytes) else orjson.dumps(data)
    return events(lambda honest: [b"data: " + line + b"\n\n", *honest])


def giant_event() -> Behaviour:
    """One event that never ends."""
    return _endless(b'event: image_generation.partial_image\ndata: {"b64_json": "', _FILLER)


def keepalives(every_s: float = 0.05) -> Behaviour:
    """Comments, and nothing else."""
    return _endless(b": hello\n\n", b": keepalive\n\n", every_s=every_s)


def flood() -> Behaviour:
    """Lines without a meaning, as fast as they are read."""
    return _endless(b"", b"id: 1\n\n" * 8_000)


def _endless(first: bytes, more: bytes, *, every_s: float = 0.0) -> Behaviour:
    def play(exchange: Exchange) -> None:
        reply = exchange.answer()
        going_on = exchange.send_events(reply, [first + more])
        while going_on and not exchange.stopping.is_set():
            going_on = exchange.sleep(every_s) and exchange.raw(chunk(more))
        exchange.hang_up()

    return play
