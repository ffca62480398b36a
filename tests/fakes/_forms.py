"""Reads multipart/form-data as strictly as a provider may: boundaries, names, and a length that is right."""

from __future__ import annotations

import re

from tests.fakes._exchange import Part

_BOUNDARY = re.compile(r'multipart/form-data; *boundary="?([^";,]{1,70})"?', re.ASCII)
_DISPOSITION = re.compile(r'form-data; name="([^"\r\n]*)"(?:; filename="([^"\r\n]*)")?')


class Malformed(ValueError):
    """A body that is no form."""


def read(content_type: str, body: bytes) -> tuple[Part, ...]:
    match = _BOUNDARY.match(content_type)
    if match is None:
        raise Malformed("no boundary")
    mark = b"--" + match[1].encode()
    if not body.startswith(mark + b"\r\n") or not body.endswith(b"\r\n" + mark + b"--\r\n"):
        raise Malformed("it does not begin and end with its boundary")
    inner = body[len(mark) + 2 : -len(mark) - 6]
    return tuple(_part(piece) for piece in inner.split(b"\r\n" + mark + b"\r\n"))


def _part(piece: bytes) -> Part:
    head, found, data = piece.partition(b"\r\n\r\n")
    if not found:
        raise Malformed("a part without a head")
    headers = {}
    for line in head.decode().split("\r\n"):
        name, colon, value = line.partition(": ")
        if not colon:
            raise Malformed(f"no header: {line!r}")
        headers[name.lower()] = value
    match = _DISPOSITION.fullmatch(headers.pop("content-disposition", ""))
    kind = headers.pop("content-type", "")
    if match is None or headers:
        raise Malformed(f"no or too much disposition: {head!r}")
    return Part(match[1], match[2], kind, data)
