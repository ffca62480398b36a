"""Reads replies from a connection: the head by a C parser, a body of known length past it, straight into its place."""

from __future__ import annotations

import io
import socket
import ssl
from collections.abc import Iterator

import httptools

from core import memory
from core._outcomes import TooLarge

# While a provider works, a thread waits with this much room and no more.
_FIRST_BYTES = 8 * 1024
_MOST_HEAD_BYTES = 64 * 1024
_MOST_HEADERS = 100
_SMALLEST_PIECE_BYTES = 16 * 1024
_LARGEST_PIECE_BYTES = 256 * 1024
_HEAD_END = b"\r\n\r\n"
# The end of the last line before an empty one, and the empty one.
_TAIL_BYTES = 5


class Incoming:
    """A reply whose head has come. `whole` once its body was read to the end, `reusable` if the connection then is."""

    __slots__ = (
        "_declared_bytes",
        "_framing_bytes",
        "_headed",
        "_headers_found",
        "_parser",
        "_parts",
        "_rest",
        "_sock",
        "_tail",
        "headers",
        "reusable",
        "status",
        "whole",
    )

    def __init__(self, sock: socket.socket, *, bodyless: bool) -> None:
        """Wait for a head. Raises OSError when none comes, ValueError for one that two readers could read differently.

        `bodyless` for the answer to HEAD.
        """
        self._sock = sock
        self.headers: dict[str, str] = {}
        self.whole = self._headed = False
        self._headers_found = self._framing_bytes = 0
        self._parts: list[bytes] = []
        self._tail = b""
        self._declared_bytes: int | None = None
        data = self._receive(_FIRST_BYTES)
        self._parser = _parser_for(self)
        self._rest = self._read_head(data)
        self._judge(bodyless=bodyless)

    # What the parser calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._headed:  # behind the body, where nobody looks
            return
        self._headers_found += 1
        key, text = name.lower().decode("latin-1"), value.strip().decode("latin-1")
        self.headers[key] = f"{self.headers[key]}, {text}" if key in self.headers else text

    def on_headers_complete(self) -> None:
        self._headed = True

    def on_body(self, piece: bytes) -> None:
        if not self.whole:
            self._parts.append(piece)

    def on_message_begin(self) -> None:
        if self.whole:
            self.reusable = False

    def on_message_complete(self) -> None:
        self.whole = True

    # The head.

    def _receive(self, most_bytes: int) -> bytes:
        data = self._sock.recv(most_bytes)
        if not data:
            raise OSError("the reply ended early")
        return data

    def _feed(self, data: bytes | bytearray | memoryview) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            raise ValueError("the reply is not HTTP") from error

    def _read_head(self, data: bytes | bytearray) -> bytes:
        """Feed the head alone; what came with it of the body."""
        fed = 0
        while (found := data.find(_HEAD_END, max(fed - len(_HEAD_END), 0))) < 0:
            if len(data) > _MOST_HEAD_BYTES:
                raise ValueError("the reply's head is too long")
            self._feed(memoryview(data)[fed:])
            fed = len(data)
            piece = self._sock.recv(_FIRST_BYTES)
            if not piece:
                return self._read_cut_off_head(data)
            data = bytearray(data) if isinstance(data, bytes) else data
            data += piece
        end = found + len(_HEAD_END)
        self._feed(data[fed:end])
        if end > _MOST_HEAD_BYTES or self._headers_found > _MOST_HEADERS:
            raise ValueError("the reply's head is too long")
        if not self._headed or not data.startswith(b"HTTP/1."):
            raise ValueError("the reply is not HTTP")
        self.reusable = data.startswith(b"HTTP/1.1 ")
        return bytes(data[end:])

    def _read_cut_off_head(self, data: bytes | bytearray) -> bytes:
        """A peer that hung up in its head has told its status: callers get that, and the lines that are complete."""
        end = data.rfind(b"\r\n")
        if end < 0:
            raise OSError("the reply ended early")
        self.headers.clear()
        self._headers_found = 0
        self._parser = _parser_for(self)
        self._read_head(data[:end] + _HEAD_END)
        self.reusable = False
        return b""

    def _judge(self, *, bodyless: bool) -> None:
        """How the body ends, where only one answer is possible; the parser has refused two lengths and odd ones."""
        self.status = self._parser.get_status_code()
        if self.status < 200:  # an interim answer: the real one would reach the connection's next user
            raise ValueError("the reply is not a final one")
        coding, length = self.headers.get("transfer-encoding"), self.headers.get("content-length")
        if "close" in self.headers.get("connection", "").lower():
            self.reusable = False
        if coding is not None and coding.lower() != "chunked":
            raise ValueError("the reply comes in a coding that was not asked for")
        if coding is not None and length is not None:
            self.reusable = False  # chunks are what counts, but whoever wrote both may have meant the other
        if bodyless or self.status in (204, 304):
            self._declared_bytes = 0
        elif coding is None and length is not None:
            self._declared_bytes = int(length)
        elif coding is None:
            self.reusable = False  # the body ends with the connection
        self.whole = False  # whatever the parser made of the head: it does not know what was asked
        if self._declared_bytes is not None or coding is None:
            self._let_go_of_the_parser()

    def _let_go_of_the_parser(self) -> None:
        """It knows us as we know it, and what is left to the collector of such circles lasts too long."""
        del self._parser

    # The body.

    def read(self, max_bytes: int) -> bytes:
        """All of the body. Raises TooLarge, OSError when it ends early, ValueError when it is not what it should be."""
        size_bytes = self._declared_bytes
        if size_bytes is None:
            return self._read_to_end(max_bytes)
        self._refuse_more_than(max_bytes)
        memory.enter(size_bytes)
        content = self._rest
        if size_bytes - len(content) > _SMALLEST_PIECE_BYTES:
            content = self._read_in_place(content, size_bytes)
        elif len(content) != size_bytes:
            content = b"".join(self._declared())
        self.whole = True
        return content

    def pieces(self, max_bytes: int) -> Iterator[bytes]:
        """What has come of the body, as soon as it comes; raises as `read` does."""
        if self._declared_bytes is not None:
            self._refuse_more_than(max_bytes)
            yield from self._declared()
            return
        size_bytes = 0
        for piece in self._undeclared():
            size_bytes += len(piece)
            if size_bytes > max_bytes:
                raise TooLarge(f"the reply is larger than {max_bytes} bytes")
            yield piece

    def _refuse_more_than(self, max_bytes: int) -> None:
        if self._declared_bytes is not None and self._declared_bytes > max_bytes:
            raise TooLarge(f"the reply declares {self._declared_bytes} bytes; at most {max_bytes} are taken")

    def _read_in_place(self, begun: bytes, size_bytes: int) -> bytes:
        """A large body in one turn of the kernel, to where it stays: this buffer becomes the bytes without a copy."""
        whole = io.BytesIO(begun)
        whole.seek(size_bytes - 1)
        whole.write(b"\0")
        at = len(begun)
        # A TLS socket hands out one record at a time and takes no flags.
        flags = 0 if isinstance(self._sock, ssl.SSLSocket) else socket.MSG_WAITALL
        with whole.getbuffer() as places:
            while at < size_bytes:
                came_bytes = self._sock.recv_into(places[at:], size_bytes - at, flags)
                if not came_bytes:
                    raise OSError(f"the reply ended after {at} of {size_bytes} bytes")
                at += came_bytes
        return whole.getvalue()

    def _declared(self) -> Iterator[bytes]:
        missing_bytes = self._declared_bytes or 0
        piece = self._rest
        if len(piece) > missing_bytes:  # the answer to a request that was not made
            self.reusable = False
            piece = piece[:missing_bytes]
        room_bytes = _SMALLEST_PIECE_BYTES
        while True:
            missing_bytes -= len(piece)
            self.whole = not missing_bytes
            if piece:
                yield piece
            if self.whole:
                return
            piece = self._receive(min(missing_bytes, room_bytes))
            room_bytes = _room_after(piece, room_bytes)

    def _undeclared(self) -> Iterator[bytes]:
        """In chunks, or up to where the connection ends."""
        chunked = "transfer-encoding" in self.headers
        data, room_bytes = self._rest, _SMALLEST_PIECE_BYTES
        while True:
            piece = self._from_chunks(data) if chunked and data else data
            if piece:
                yield piece
            if self.whole:
                return
            data = self._sock.recv(room_bytes)
            if not data:
                if chunked:
                    raise OSError("the reply ended early")
                self.whole = True
                return
            room_bytes = _room_after(data, room_bytes)

    def _from_chunks(self, data: bytes) -> bytes:
        try:
            self._feed(data)
        except ValueError:
            if not self.whole:
                raise
            self.reusable = False  # what follows the end is nothing that we asked for
        parts, self._parts = self._parts, []
        self._tail = (self._tail + data[-_TAIL_BYTES:])[-_TAIL_BYTES:]
        if self.whole:
            # The parser passes over empty lines behind the end.
            if not self._tail.endswith(_HEAD_END) or self._tail.startswith(b"\n"):
                self.reusable = False
            self._let_go_of_the_parser()
        elif parts:
            self._framing_bytes = 0
        else:
            self._framing_bytes += len(data)
            if self._framing_bytes > _MOST_HEAD_BYTES:
                raise ValueError("the reply's chunks hold nothing")
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _read_to_end(self, max_bytes: int) -> bytes:
        parts, size_bytes = [], 0
        for part in self.pieces(max_bytes):
            before_bytes, size_bytes = size_bytes, size_bytes + len(part)
            # Only once it is known to be large: a job's state, asked for again and again, would hold a place meanwhile.
            if before_bytes <= memory.SMALL_BYTES < size_bytes:
                memory.enter(size_bytes)
            parts.append(part)
        return b"".join(parts)


def _parser_for(incoming: Incoming) -> httptools.HttpResponseParser:
    parser = httptools.HttpResponseParser(incoming)
    # A length beside chunks is let through there and judged in _judge.
    parser.set_dangerous_leniencies(lenient_chunked_length=True)
    return parser


def _room_after(data: bytes, room_bytes: int) -> int:
    """Much room only where much comes: a thread that waits long waits with little."""
    return min(4 * room_bytes, _LARGEST_PIECE_BYTES) if len(data) == room_bytes else _SMALLEST_PIECE_BYTES
