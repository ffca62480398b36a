"""What the HTTP adapters share: calling with our error tree, and reading hostile answers without trusting them."""

from __future__ import annotations

import contextlib
import email.utils
import math
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NoReturn

import orjson

from core import bigjson, http
from imagesapi.providers.base import BadAnswer, Call, OperatorTrouble, RateLimited, TimedOut, Unavailable
from imagesapi.values import Picture

JSON_TYPE: Final = "application/json"
# Small answers: errors, queue states.
SMALL_ANSWER_BYTES: Final = 1024 * 1024
# One picture of the largest size anyone draws, uncompressed at 8 bytes a pixel, in base64, and some room.
_EXTRA_BYTES_PER_PICTURE: Final = 2 * 1024 * 1024
_LARGEST_PIXELS: Final = 3840 * 2160
MAX_PICTURE_BYTES: Final = _LARGEST_PIXELS * 8 * 4 // 3 + _EXTRA_BYTES_PER_PICTURE
_DOWNLOAD_TRIES: Final = 2
_MESSAGE_CHARS: Final = 500
_MAX_RETRY_AFTER_S: Final = 3_600
# How PNG, JPEG, WebP and GIF begin, as bytes and as base64 text.
_PICTURE_BYTES: Final = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF", b"GIF8")
_PICTURE_BASE64: Final = ("iVBORw0KGg", "/9j/", "UklGR", "R0lGOD")
_KEY_LIKE: Final = re.compile(r"\b(?:(?:sk|pk|rk|r8|key|fal)[-_:]|AIza)[\w.*:-]{4,}|\S*\*{3,}\S*", re.IGNORECASE)
# Strict enough that no two parsers read another host out of it: no userinfo, backslash, or bare IPv6.
_ADDRESS: Final = re.compile(r"(https?)://([a-z0-9.-]{1,253})(?::(\d{1,5}))?(/[!-\[\]-~]*)?", re.ASCII | re.IGNORECASE)
_DATA_URI: Final = re.compile(r"data:image/[a-z+.-]{1,20};base64", re.ASCII)
MAX_ADDRESS_CHARS: Final = 2_000
_WORD: Final = re.compile(r"[\w.:/\[\]-]{1,128}", re.ASCII)


def send(
    method: str,
    url: str,
    *,
    deadline: float,
    max_bytes: int,
    headers: Mapping[str, str] | None = None,
    body: Mapping[str, Any] | None = None,
    content: bytes | None = None,
    content_type: str = JSON_TYPE,
) -> http.Reply:
    """One call through core.http with its errors as ours; any status comes back as a reply.

    What is sent is `body` as JSON, or `content` as it is.
    """
    sent, headers = _written(body, content, content_type, headers)
    with in_our_terms():
        return http.call(method, url, deadline=deadline, max_bytes=max_bytes, headers=headers, body=sent)


@contextlib.contextmanager
def stream(
    method: str,
    url: str,
    *,
    deadline: float,
    max_bytes: int,
    headers: Mapping[str, str] | None = None,
    body: Mapping[str, Any] | None = None,
    content: bytes | None = None,
    content_type: str = JSON_TYPE,
) -> Iterator[http.Stream]:
    """A call like `send` whose reply is read while it comes; reading its pieces also raises our errors."""
    sent, headers = _written(body, content, content_type, headers)
    with (
        in_our_terms(),
        http.stream(method, url, deadline=deadline, max_bytes=max_bytes, headers=headers, body=sent) as reply,
    ):
        yield http.Stream(reply.status, reply.headers, _in_our_terms(reply.pieces))


def complete(stream: http.Stream) -> http.Reply:
    """All of a stream, for one that turns out to be an ordinary answer."""
    return http.Reply(stream.status, stream.headers, b"".join(stream.pieces))


def _written(
    body: Mapping[str, Any] | None, content: bytes | None, content_type: str, headers: Mapping[str, str] | None
) -> tuple[bytes | None, Mapping[str, str] | None]:
    sent = orjson.dumps(body) if body is not None else content
    return sent, headers if sent is None else {"Content-Type": content_type, **(headers or {})}


def _in_our_terms(pieces: Iterator[bytes]) -> Iterator[bytes]:
    with in_our_terms():
        yield from pieces


@contextlib.contextmanager
def in_our_terms() -> Iterator[None]:
    """What core.http raises, as what happened to the call."""
    try:
        yield
    except http.NotSent as error:
        raise Unavailable("The provider could not be reached.") from error
    except http.Late as error:
        raise TimedOut("The provider did not answer in time.") from error
    except http.TooLarge as error:
        raise BadAnswer("The provider's answer is too large.") from error
    except http.Broken as error:
        raise TimedOut("The connection to the provider broke before its answer was complete.") from error


def answer_bytes(call: Call) -> int:
    """The largest answer a call may bring, from the pictures it asks for."""
    if call.fitted.pixels is None:
        return call.fitted.n * MAX_PICTURE_BYTES
    width, height = call.fitted.pixels
    return call.fitted.n * (width * height * 8 * 4 // 3 + _EXTRA_BYTES_PER_PICTURE)


def json_object(reply: http.Reply, *, pictures_under: str = "") -> dict[str, Any] | None:
    """The body as a JSON object, or None when it is anything else; long texts under a name stay in place as views."""
    try:
        found = bigjson.loads(reply.body, key=pictures_under) if pictures_under else orjson.loads(reply.body)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def word(value: Any) -> str | None:
    """A provider's identifier, kind or code when it is a plain short word, else None."""
    return value if isinstance(value, str) and _WORD.fullmatch(value) else None


def count(value: Any, *, at_most: int) -> int | None:
    """A whole number from 0 to `at_most`, else None; true is not a number."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= at_most:
        return value
    return None


def tidy(text: Any, *, fallback: str, secrets: Iterable[str]) -> str:
    """A provider's message made fit to show: one line, bounded, without anything that looks like a key."""
    if not isinstance(text, str):
        return fallback
    text = text[: 4 * _MESSAGE_CHARS]
    for secret in secrets:
        if secret:
            text = text.replace(secret, "[key]")
    text = "".join(letter if letter.isprintable() else " " for letter in text)
    text = " ".join(_KEY_LIKE.sub("[key]", text).split())
    return text[:_MESSAGE_CHARS] or fallback


def retry_after_s(reply: http.Reply) -> int | None:
    """What `retry-after-ms` or `retry-after` (seconds or a date) asks for, bounded, else None."""
    wait_s = _seconds(reply.headers.get("retry-after-ms"), per_second=1000)
    text = reply.headers.get("retry-after")
    if wait_s is None:
        wait_s = _seconds(text, per_second=1)
    if wait_s is None and text:
        try:
            wait_s = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return None
    return None if wait_s is None else min(max(math.ceil(wait_s), 0), _MAX_RETRY_AFTER_S)


def _seconds(text: str | None, *, per_second: int) -> float | None:
    if text is None or not re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text.strip(), re.ASCII):
        return None
    return float(text) / per_second


def is_picture(data: bytes) -> bool:
    """Whether bytes begin like a picture we know."""
    return data.startswith(_PICTURE_BYTES)


def is_picture_text(text: Any) -> bool:
    """Whether a JSON value is base64 text that begins like a picture; the text is not decoded here."""
    if isinstance(text, memoryview):
        return bytes(text[:16]).decode("latin-1").startswith(_PICTURE_BASE64)
    return isinstance(text, str) and text.isascii() and text.startswith(_PICTURE_BASE64)


def place(address: str) -> tuple[str, str, int] | None:
    """Scheme, host and port of an address that is beyond doubt, else None."""
    match = _ADDRESS.fullmatch(address)
    if match is None:
        return None
    scheme, host, port = match[1].lower(), match[2].lower(), match[3]
    return scheme, host, int(port) if port else {"https": 443, "http": 80}[scheme]


def download(address: str, *, deadline: float) -> bytes | None:
    """The picture at an address the adapter allows, fetched without any key; None when it cannot be had."""
    for _ in range(_DOWNLOAD_TRIES):
        try:
            reply = send("GET", address, deadline=deadline, max_bytes=MAX_PICTURE_BYTES)
        except (Unavailable, TimedOut):
            continue
        except BadAnswer:
            return None
        if reply.status == 200 and is_picture(reply.body):
            return reply.body
    return None


def linked_picture(address: Any, *, deadline: float, may_fetch: Callable[[str], bool]) -> Picture | None:
    """The picture in a data URI, or behind an address that the adapter allows; None when it cannot be had."""
    head = bytes(address[:64]).decode("latin-1") if isinstance(address, memoryview) else str(address)[:64]
    comma = head.find(",")
    if comma > 0 and _DATA_URI.fullmatch(head, 0, comma):
        text = address[comma + 1 :]
        return Picture(b64=text) if is_picture_text(text) else None
    if not isinstance(address, str) or not may_fetch(address):
        return None
    data = download(address, deadline=deadline)
    return Picture(data=data) if data is not None else None


def is_result_host(address: str, *, domain: str, values: Mapping[str, str], defaults: Mapping[str, str]) -> bool:
    """Whether a file is on the provider's own domain, or on the endpoint itself where the operator chose another than
    the default one."""
    found = place(address) if len(address) <= MAX_ADDRESS_CHARS else None
    if found is None:
        return False
    scheme, host, port = found
    if scheme == "https" and port == 443 and (host == domain or host.endswith(f".{domain}")):
        return True
    chosen = {place(values[name]) for name, default in defaults.items() if values[name] != default}
    return found in chosen and (scheme == "https" or host in ("localhost", "127.0.0.1"))


def raise_common(reply: http.Reply, *, request_id: str | None) -> NoReturn:
    """The failures every provider has in common, once its own kinds were looked at."""
    facts: dict[str, Any] = {"http_status": reply.status, "request_id": request_id}
    if reply.status in (401, 402, 403, 407):
        raise OperatorTrouble("The provider does not accept the operator's key or account.", **facts)
    if reply.status == 429:
        raise RateLimited("The provider is at its rate limit.", retry_after_s=retry_after_s(reply), **facts)
    if 300 <= reply.status < 400:
        raise Unavailable("The provider answered with a redirect, which is not followed.", **facts)
    raise Unavailable(f"The provider answered with status {reply.status}.", **facts)
