"""Multipart bodies read in the order their parts were sent, with a limit on everything."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, cast

from django.http import UnreadablePostError
from django.http.multipartparser import ChunkIter, LazyStream, MultiPartParserError, Parser
from django.http.request import RawPostDataException
from django.utils.http import parse_header_parameters

from core import errors

PARTS_MAX: Final = 200
_TEXT_MAX_BYTES: Final = 32 * 1024 * 1024
_NAME_MAX_CHARS: Final = 200
_STEP_BYTES: Final = 64 * 1024
_TAIL_BYTES: Final = 4 * 1024


@dataclass(frozen=True, slots=True)
class Part:
    """One part: its name, its bytes, and the file name when it was sent as a file."""

    name: str
    data: bytes = field(repr=False)
    filename: str | None = None

    @property
    def is_file(self) -> bool:
        return self.filename is not None

    def text(self) -> str:
        """The part as UTF-8 text. Raises MalformedForm."""
        try:
            return self.data.decode()
        except UnicodeDecodeError as error:
            raise errors.MalformedForm(f"The part {self.name!r} is not UTF-8 text.", param=self.name) from error


def read(request: Any, *, part_max_bytes: int, body_max_bytes: int) -> list[Part]:
    """The parts of a request's multipart body in their order.

    `request` is Django's, with its length known (core.bodies gives chunked ones a length). Raises BodyTooLarge for a
    body, a part or a number of parts above the limits, and MalformedForm for one that is broken or cut short.
    """
    declared_bytes = _declared_bytes(request)
    if declared_bytes > body_max_bytes:
        raise errors.BodyTooLarge(f"The body is larger than the {body_max_bytes} bytes that it may have.")
    boundary = _boundary(request)
    stream = _Counted(request, declared_bytes)
    parts: list[Part] = []
    try:
        pieces = Parser(LazyStream(ChunkIter(cast(Any, stream), _STEP_BYTES)), boundary)
        for number, (_, headers, body) in enumerate(pieces):
            if "content-disposition" not in headers:
                if number == 0 or body.read(2) == b"--":  # what stands before the first part, and behind the last one
                    continue
                # Without it the rest would be another request: an edit of the whole picture, say, for want of its mask.
                raise errors.MalformedForm("A part of the body has no Content-Disposition that can be read as UTF-8.")
            parts.append(_part(headers, body, part_max_bytes))
            if len(parts) > PARTS_MAX:
                raise errors.BodyTooLarge(f"The body has more than {PARTS_MAX} parts.")
        stream.read_to_end()
    except (MultiPartParserError, ValueError, RawPostDataException) as error:
        raise errors.MalformedForm("The multipart body could not be read.") from error
    except UnreadablePostError as error:
        raise errors.MalformedForm("The body ended before it was complete.") from error
    if stream.missing_bytes:
        raise errors.MalformedForm(f"The body ended {stream.missing_bytes} bytes before the length it declared.")
    if b"--" + boundary + b"--" not in stream.tail:
        raise errors.MalformedForm("The body ended without its closing boundary.")
    if not parts:
        raise errors.MalformedForm("The multipart body holds no part that could be read.")
    return parts


class _Counted:
    """A request's stream that knows how much of what was declared has come."""

    def __init__(self, request: Any, declared_bytes: int) -> None:
        self._request = request
        self.missing_bytes = declared_bytes
        self.tail = b""

    def read(self, size: int | None = _STEP_BYTES, /) -> bytes:
        found: bytes = self._request.read(size)
        self.missing_bytes -= len(found)
        self.tail = (self.tail + found)[-_TAIL_BYTES:] if len(found) < _TAIL_BYTES else found[-_TAIL_BYTES:]
        return found

    def read_to_end(self) -> None:
        """What follows the last boundary is read and dropped, so that the connection can be used again."""
        while self.read():
            pass


def _declared_bytes(request: Any) -> int:
    try:
        return max(int(request.META.get("CONTENT_LENGTH") or 0), 0)
    except ValueError:
        return 0


def _boundary(request: Any) -> bytes:
    _, parameters = parse_header_parameters(request.META.get("CONTENT_TYPE", ""))
    boundary = parameters.get("boundary", "")
    if not 0 < len(boundary) <= 200 or not boundary.isascii():
        raise errors.MalformedForm("The Content-Type names no usable boundary between the parts.")
    return boundary.encode()


def _part(headers: Any, body: Any, part_max_bytes: int) -> Part:
    disposition = headers["content-disposition"][1]
    name = _word(disposition.get("name"))
    if not name or len(name) > _NAME_MAX_CHARS:
        raise errors.MalformedForm(f"A part of the body has no name of 1 to {_NAME_MAX_CHARS} characters.")
    filename = _word(disposition["filename"]) if "filename" in disposition else None
    limit_bytes = part_max_bytes if filename is not None else _TEXT_MAX_BYTES
    pieces, size_bytes = [], 0
    for piece in body:
        size_bytes += len(piece)
        if size_bytes > limit_bytes:
            raise errors.BodyTooLarge(
                f"The part {name!r} is larger than the {limit_bytes} bytes it may have.", param=name
            )
        pieces.append(piece)
    data = b"".join(pieces)
    if headers.get("content-transfer-encoding", ("", {}))[0].strip().lower() not in ("", "binary", "8bit", "7bit"):
        raise errors.MalformedForm("Parts are sent as they are, without a Content-Transfer-Encoding.", param=name)
    return Part(name=name, data=data, filename=filename)


def _word(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value or "")
