"""Reads the server-sent events of OpenAI-like services: partial pictures handed on at once, completed ones kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from core import bigjson, http, memory
from imagesapi.providers import _openai_answers, _shared
from imagesapi.providers.base import BadAnswer, Call, ProviderError, RateLimited, TimedOut, Unavailable
from imagesapi.values import Answer, Partial, Picture, Usage

_EVENT_STREAM: Final = "text/event-stream"
_PARTIAL: Final = frozenset({"image_generation.partial_image", "image_edit.partial_image"})
_COMPLETED: Final = frozenset({"image_generation.completed", "image_edit.completed"})
_END: Final = b"[DONE]"
_MAX_INDEX: Final = 100
# Far above any real stream: a heartbeat a second for hours. Empty lines cost a sender nothing and us time.
_MOST_LINES: Final = 20_000


@dataclass(slots=True)
class _Heard:
    """What a stream has told so far."""

    pictures: list[Picture] = field(default_factory=list)
    usages: list[Any] = field(default_factory=list)
    effective: list[dict[str, str]] = field(default_factory=list)
    completed: int = 0
    partials: int = 0


def max_bytes(call: Call) -> int:
    """The most a streamed answer may bring: its pictures, and each partial as large as one."""
    return _shared.answer_bytes(call) * (1 + call.fitted.partial_images)


def read(stream: http.Stream, call: Call, *, secret: str) -> Answer:
    """The answer of a streaming call; one that comes as plain JSON after all is read as such."""
    if not 200 <= stream.status < 300:
        _openai_answers.fail(_shared.complete(stream), secret=secret)
    if not stream.headers.get("content-type", "").startswith(_EVENT_STREAM):
        return _openai_answers.read(_shared.complete(stream), n=call.fitted.n)
    facts = {"http_status": stream.status, "request_id": _shared.word(stream.headers.get("x-request-id"))}
    heard, ending = _Heard(), "whole"
    try:
        _listen(stream, call, heard, secret=secret, facts=facts)
    except ProviderError as error:
        if not heard.pictures:  # else what came is delivered, and the end of it told in the evidence
            raise
        ending = error.error_code
    return _answer(heard, n=call.fitted.n, ending=ending, facts=facts)


def _listen(stream: http.Stream, call: Call, heard: _Heard, *, secret: str, facts: Mapping[str, Any]) -> None:
    """Take events until all pictures are complete; what comes after them is not waited for."""
    for name, data in _events(stream.pieces, most_bytes=_event_bytes(call)):
        if data.strip() == _END:
            break
        event = _object(data, facts=facts)
        kind = event.get("type") or name
        if kind in _PARTIAL:
            _hand_on(event, call, heard)
        elif kind in _COMPLETED:
            _keep(event, heard)
            if heard.completed >= call.fitted.n:
                return
        elif kind == "error" or event.get("error"):
            _fail(event, heard, secret=secret, facts=facts)
    if not heard.completed:
        raise TimedOut("The provider's stream ended before its picture was complete.", **facts)


def _event_bytes(call: Call) -> int:
    """The most one event may bring: one picture."""
    return _shared.answer_bytes(call) // call.fitted.n


def _object(data: bytes, *, facts: Mapping[str, Any]) -> dict[str, Any]:
    try:
        found = bigjson.loads(data, key="b64_json")
    except orjson.JSONDecodeError as error:
        raise BadAnswer("The provider's stream holds an event that is not JSON.", **facts) from error
    if not isinstance(found, dict):
        raise BadAnswer("The provider's stream holds an event that is not an object.", **facts)
    return found


def _hand_on(event: Mapping[str, Any], call: Call, heard: _Heard) -> None:
    """More partials than were asked for, and ones that are no pictures, are left out."""
    text = event.get("b64_json")
    if call.on_partial is None or heard.partials >= call.fitted.partial_images * call.fitted.n:
        return
    if not _shared.is_picture_text(text):
        return
    index = _shared.count(event.get("partial_image_index"), at_most=_MAX_INDEX)
    heard.partials += 1
    b64 = bytes(text).decode("latin-1") if isinstance(text, memoryview) else str(text)
    call.on_partial(
        Partial(
            index=heard.partials - 1 if index is None else index, b64=b64, effective=_openai_answers.effective(event)
        )
    )
    if not heard.pictures:
        memory.leave()


def _keep(event: Mapping[str, Any], heard: _Heard) -> None:
    heard.completed += 1
    heard.usages.append(event.get("usage"))
    heard.effective.append(_openai_answers.effective(event))
    if _shared.is_picture_text(event.get("b64_json")):
        heard.pictures.append(Picture(b64=event["b64_json"]))


def _fail(event: Mapping[str, Any], heard: _Heard, *, secret: str, facts: Mapping[str, Any]) -> None:
    """An error inside a stream: the nested object, or the event itself in its flat form."""
    nested = event.get("error")
    error: Mapping[str, Any] = nested if isinstance(nested, dict) else event
    _openai_answers.raise_by_code(error, secret=secret, facts=facts)
    if heard.partials:  # work was done, and is likely billed
        raise BadAnswer("The provider's stream broke off with an error.", **facts)
    kind, code = _shared.word(error.get("type")), _shared.word(error.get("code"))
    if kind == "invalid_request_error":
        raise _openai_answers.invalid(error, secret=secret, facts=facts)
    if code == "rate_limit_exceeded":
        raise RateLimited("The provider is at its rate limit.", **facts)
    raise Unavailable("The provider answered with an error.", **facts)


def _answer(heard: _Heard, *, n: int, ending: str, facts: Mapping[str, Any]) -> Answer:
    if not heard.pictures:
        raise BadAnswer("The provider's answer holds no images.", **facts)
    evidence: dict[str, Any] = {"usage": _openai_answers.bounded(heard.usages), "partial_images": heard.partials}
    if ending != "whole" or len(heard.pictures) != n:
        evidence.update(
            pictures_asked=n,
            pictures_received=heard.completed,
            pictures_usable=len(heard.pictures),
            stream_ended=ending,
        )
    return Answer(
        pictures=heard.pictures,
        usage=_sum(heard.usages),
        request_id=facts["request_id"],
        evidence=evidence,
        effective=_shared_values(heard.effective),
    )


def _sum(told: list[Any]) -> Usage | None:
    """All usage together, or None when any of it is missing or cannot be true."""
    usages = [_openai_answers.usage_of(one) for one in told]
    known = [usage for usage in usages if usage is not None]
    if len(known) != len(usages):
        return None
    return Usage(
        text_input_tokens=sum(usage.text_input_tokens for usage in known),
        image_input_tokens=sum(usage.image_input_tokens for usage in known),
        image_output_tokens=sum(usage.image_output_tokens for usage in known),
        text_output_tokens=sum(usage.text_output_tokens for usage in known),
    )


def _shared_values(told: list[dict[str, str]]) -> dict[str, str]:
    """The effective values that all pictures have in common."""
    first, *others = told
    return {name: value for name, value in first.items() if all(other.get(name) == value for other in others)}


def _events(pieces: Iterable[bytes], *, most_bytes: int) -> Iterator[tuple[str, bytes]]:
    """Name and data of each event; comments, ids and unknown fields are passed over."""
    name, data, size_bytes = "", list[bytes](), 0
    for number, line in enumerate(_lines(pieces, most_bytes=most_bytes)):
        if number >= _MOST_LINES:
            raise BadAnswer("The provider's stream has too many lines.")
        label, _, value = line.partition(b":")
        if not line:
            if data:
                yield name, b"\n".join(data)
            name, data, size_bytes = "", [], 0
        elif label == b"event":
            name = value.strip().decode("latin-1")[:64]
        elif label == b"data":
            size_bytes += len(value)
            if size_bytes > most_bytes:
                raise BadAnswer("The provider's stream holds an event that is too large.")
            data.append(value.removeprefix(b" "))


def _lines(pieces: Iterable[bytes], *, most_bytes: int) -> Iterator[bytes]:
    """Lines without their ends; a last one that was not ended is not one."""
    rest = bytearray()
    for piece in pieces:
        searched = len(rest)
        rest += piece
        start = 0
        while (end := rest.find(b"\n", max(searched, start))) != -1:
            yield bytes(rest[start:end]).removesuffix(b"\r")
            start = end + 1
        del rest[:start]
        if len(rest) > most_bytes:
            raise BadAnswer("The provider's stream holds an event that is too large.")
        memory.enter(len(rest))
