"""Ways for a fake provider to answer otherwise than it should; each verb returns a behaviour to script."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from typing import Any

import orjson
import pybase64

from tests.fakes._exchange import Exchange, Reply

Behaviour = Callable[[Exchange], None]

_CHUNK = b"x" * 65_536
_GUARD_S = 600.0


def honest() -> Behaviour:
    """The answer the rules ask for."""
    return lambda exchange: exchange.send(exchange.answer())


def status(code: int, body: Any = b"", *, headers: dict[str, str] | None = None) -> Behaviour:
    """A fixed answer, unbilled; a body that is not bytes is written as JSON."""
    return lambda exchange: exchange.send(Reply(code, body, headers or {}))


def delayed(delay_s: float, then: Behaviour | None = None) -> Behaviour:
    def play(exchange: Exchange) -> None:
        if exchange.sleep(delay_s):
            (then or honest())(exchange)

    return play


def hang() -> Behaviour:
    """Take the request and never answer; nothing is billed."""

    def play(exchange: Exchange) -> None:
        exchange.sleep(_GUARD_S)
        exchange.hang_up()

    return play


def bill_and_hang() -> Behaviour:
    """Do the work, bill it, and never answer."""

    def play(exchange: Exchange) -> None:
        exchange.answer()
        hang()(exchange)

    return play


def drop(*, reset: bool = False) -> Behaviour:
    """End the connection before any answer."""
    return lambda exchange: exchange.hang_up(reset=reset)


def bill_and_drop() -> Behaviour:
    def play(exchange: Exchange) -> None:
        exchange.answer()
        exchange.hang_up()

    return play


def drop_in_head() -> Behaviour:
    def play(exchange: Exchange) -> None:
        exchange.raw(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConte")
        exchange.hang_up()

    return play


def drop_in_body(*, reset: bool = False) -> Behaviour:
    """Half of the honest answer, then the end; billed."""

    def play(exchange: Exchange) -> None:
        reply = exchange.answer()
        payload = reply.payload()
        head = exchange.head(reply, {"Content-Length": str(len(payload))})
        exchange.raw(head + payload[: len(payload) // 2])
        exchange.hang_up(reset=reset)

    return play


def drip_head(every_s: float = 0.1) -> Behaviour:
    """The head one byte at a time."""

    def play(exchange: Exchange) -> None:
        head = exchange.head(exchange.answer(), {"X-Filler": "x" * 8_000})
        _drip(exchange, head, every_s)

    return play


def drip_body(every_s: float = 0.1, *, declared: bool = True) -> Behaviour:
    """The head at once, the body one byte at a time, with a length or until the connection closes."""

    def play(exchange: Exchange) -> None:
        reply = exchange.answer()
        payload = reply.payload()
        extra = {"Content-Length": str(len(payload))} if declared else {"Connection": "close"}
        if exchange.raw(exchange.head(reply, extra)):
            _drip(exchange, payload, every_s)

    return play


def _drip(exchange: Exchange, data: bytes, every_s: float) -> None:
    for position in range(len(data)):
        if not exchange.raw(data[position : position + 1]) or not exchange.sleep(every_s):
            break
    exchange.hang_up()


def garbage() -> Behaviour:
    """A billed 200 whose JSON is not JSON."""

    def play(exchange: Exchange) -> None:
        exchange.answer()
        exchange.send(Reply(200, b'{"data": [{"b64_json": ', {"Content-Type": "application/json"}))

    return play


def not_http() -> Behaviour:
    """Bytes that are no HTTP at all."""

    def play(exchange: Exchange) -> None:
        exchange.raw(b"\x00\x01\x02 this is not the protocol you expect\r\n\r\n")
        exchange.hang_up()

    return play


def altered(change: Callable[[dict[str, Any]], Any]) -> Behaviour:
    """The honest, billed answer with its JSON changed; `change` edits in place or returns another body."""

    def play(exchange: Exchange) -> None:
        reply = exchange.answer()
        body = orjson.loads(reply.payload())
        changed = change(body)
        # The standard writer also takes numbers that no strict one does.
        reply.body = json.dumps(body if changed is None else changed).encode()
        reply.headers["Content-Type"] = "application/json"
        exchange.send(reply)

    return play


def wrong_types() -> Behaviour:
    def change(body: dict[str, Any]) -> None:
        body.update(data={"b64_json": 7}, images="none", image=3, usage=[1, 2], size=5, has_nsfw_concepts={})

    return altered(change)


def empty_data() -> Behaviour:
    return altered(lambda body: body.update(data=[], images=[], image=None))


def not_an_image() -> Behaviour:
    """Well-formed answers whose pictures are text."""
    text = pybase64.b64encode(b"<html>not a picture</html>").decode()

    def change(body: dict[str, Any]) -> None:
        for item in body.get("data", []):
            item["b64_json"] = text
        for item in body.get("images", []):
            item["url"] = f"data:image/png;base64,{text}"

    return altered(change)


def error_in_200() -> Behaviour:
    """A success status around an error."""
    body = {
        "error": {"message": "The server had an error.", "type": "server_error", "param": None, "code": None},
        "detail": "The server had an error.",
    }
    return status(200, body)


def html(code: int = 502) -> Behaviour:
    """What a proxy in front of the provider says."""
    body = f"<html><head><title>{code} Bad Gateway</title></head><body>nginx</body></html>"
    return status(code, body.encode(), headers={"Content-Type": "text/html"})


def huge_declared(size_bytes: int = 2 * 1024**3) -> Behaviour:
    """A length of gigabytes in the head, and zeros as long as anyone reads."""

    def play(exchange: Exchange) -> None:
        going_on = exchange.raw(exchange.head(exchange.answer(), {"Content-Length": str(size_bytes)}))
        while going_on and not exchange.stopping.is_set():
            going_on = exchange.raw(_CHUNK)
        exchange.hang_up()

    return play


def endless_chunks() -> Behaviour:
    """A chunked body without an end."""

    def play(exchange: Exchange) -> None:
        chunk = b"%x\r\n%b\r\n" % (len(_CHUNK), _CHUNK)
        going_on = exchange.raw(exchange.head(exchange.answer(), {"Transfer-Encoding": "chunked"}))
        while going_on and not exchange.stopping.is_set():
            going_on = exchange.raw(chunk)
        exchange.hang_up()

    return play


def gzip_bomb(size_bytes: int = 256 * 1024**2) -> Behaviour:
    """A small compressed body, sent though nobody accepts it, that would unpack to `size_bytes`."""

    def play(exchange: Exchange) -> None:
        exchange.answer()
        packed = gzip.compress(b"0" * 1024**2, compresslevel=9) * (size_bytes // 1024**2)
        exchange.send(Reply(200, packed, {"Content-Type": "application/json", "Content-Encoding": "gzip"}))

    return play


def twice() -> Behaviour:
    """The answer two times in a row, the second one nobody asked for."""

    def play(exchange: Exchange) -> None:
        reply = exchange.answer()
        exchange.send(reply)
        exchange.send(reply)

    return play


def wrong_length(by_bytes: int) -> Behaviour:
    """A declared length that is off: too long leaves the caller waiting, too short leaves bytes on the line."""

    def play(exchange: Exchange) -> None:
        reply = exchange.answer()
        payload = reply.payload()
        exchange.raw(exchange.head(reply, {"Content-Length": str(len(payload) + by_bytes)}) + payload)
        if by_bytes > 0:
            exchange.hang_up()

    return play


def interim(code: int = 103) -> Behaviour:
    """An interim answer before the honest one."""

    def play(exchange: Exchange) -> None:
        reply = exchange.answer()
        exchange.raw(f"HTTP/1.1 {code} Early\r\nLink: </x>\r\n\r\n".encode())
        exchange.send(reply)

    return play


def chunked(body: bytes | None = None) -> Behaviour:
    """The honest answer, or this body in its place, without a declared length."""

    def play(exchange: Exchange) -> None:
        reply = exchange.answer()
        payload = reply.payload() if body is None else body
        exchange.raw(exchange.head(reply, {"Transfer-Encoding": "chunked"}))
        exchange.raw(b"%x\r\n%b\r\n0\r\n\r\n" % (len(payload), payload))

    return play


def both_lengths() -> Behaviour:
    """A chunked body that also declares a length."""

    def play(exchange: Exchange) -> None:
        reply = exchange.answer()
        payload = reply.payload()
        extra = {"Content-Length": "5", "Transfer-Encoding": "chunked"}
        exchange.raw(exchange.head(reply, extra) + b"%x\r\n%b\r\n0\r\n\r\n" % (len(payload), payload))

    return play


def without_usage() -> Behaviour:
    def change(body: dict[str, Any]) -> None:
        body.pop("usage", None)

    return altered(change)


def odd_usage(**fields: Any) -> Behaviour:
    """The honest answer with these fields of `usage` replaced."""
    return altered(lambda body: body["usage"].update(fields))


def nan_usage() -> Behaviour:
    """NaN among the numbers, which is not JSON but some writers send."""

    def play(exchange: Exchange) -> None:
        reply = exchange.answer()
        payload = reply.payload().replace(b'"output_tokens":', b'"output_tokens":NaN,"was":', 1)
        exchange.send(Reply(200, payload, reply.headers))

    return play


def with_header(name: str, value: str) -> Behaviour:
    """The honest answer with one header set."""

    def play(exchange: Exchange) -> None:
        reply = exchange.answer()
        reply.headers[name] = value
        exchange.send(reply)

    return play


def rate_limited(retry_after: str | None = "7") -> Behaviour:
    """A 429 in the family's own shape."""

    def play(exchange: Exchange) -> None:
        headers = {"Retry-After": retry_after} if retry_after is not None else {}
        exchange.send(Reply(429, _error(exchange, "Rate limit reached.", "requests", "rate_limit_exceeded"), headers))

    return play


def out_of_quota() -> Behaviour:
    """The operator's account is empty, said the family's way."""

    def play(exchange: Exchange) -> None:
        code = 429 if exchange.family == "openai" else 403
        body = _error(exchange, "You exceeded your current quota.", "insufficient_quota", "insufficient_quota")
        exchange.send(Reply(code, body))

    return play


def blocked() -> Behaviour:
    """A refusal of the content in the family's own shape."""

    def play(exchange: Exchange) -> None:
        if exchange.family == "openai":
            body = _error(exchange, "Your request was rejected by the safety system.", "image_generation_user_error")
            details = {"moderation_stage": "input", "categories": ["violence"]}
            body["error"].update(code="moderation_blocked", moderation_details=details)
            exchange.send(Reply(400, body))
            return
        entry = {"loc": ["body", "prompt"], "msg": "The content was flagged.", "type": "content_policy_violation"}
        exchange.send(Reply(422, {"detail": [entry]}, {"x-fal-retryable": "false"}))

    return play


def _error(exchange: Exchange, message: str, kind: str, code: str | None = None) -> dict[str, Any]:
    if exchange.family == "openai":
        return {"error": {"message": message, "type": kind, "param": None, "code": code}}
    return {"detail": message, "error_type": code or kind}


def redirect(address: str, code: int = 307) -> Behaviour:
    """Points elsewhere; a caller that follows hands its key to a stranger."""
    return status(code, headers={"Location": address})
