"""Writes multipart/form-data as OpenAI-like services read it: text fields first, then files with their true types."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from imagesapi.values import InputImage

_EXTENSIONS = {"image/jpeg": "jpg"}
# As browsers write names: nothing in one can end its header.
_ESCAPES = str.maketrans({'"': "%22", "\r": "%0D", "\n": "%0A"})


@dataclass(frozen=True, slots=True)
class File:
    """One file of a form."""

    name: str  # of the field
    filename: str
    content_type: str
    data: bytes = field(repr=False)


def file(name: str, image: InputImage, *, stem: str) -> File:
    """An input picture as the file of a field, named after what it is."""
    kind = image.content_type
    return File(name, f"{stem}.{_EXTENSIONS.get(kind, kind.rpartition('/')[2])}", kind, image.data)


def write(fields: Mapping[str, Any], *, files: Sequence[File]) -> tuple[bytes, str]:
    """The body of a form and its content type. Nested values become `name[key]` and `name[]`; None is left out."""
    boundary = f"pixelpar-{secrets.token_hex(16)}"
    start = f"--{boundary}\r\nContent-Disposition: form-data; name=".encode()
    pieces: list[bytes] = []
    for name, text in _flat(fields):
        pieces += [start, _quoted(name), b"\r\n\r\n", text.encode(), b"\r\n"]
    for one in files:
        head = f"\r\nContent-Type: {one.content_type}\r\n\r\n".encode()
        pieces += [start, _quoted(one.name), b"; filename=", _quoted(one.filename), head, one.data, b"\r\n"]
    pieces.append(f"--{boundary}--\r\n".encode())
    return b"".join(pieces), f"multipart/form-data; boundary={boundary}"


def _flat(fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in fields.items():
        if isinstance(value, Mapping):
            yield from _flat({f"{name}[{key}]": inner for key, inner in value.items()})
        elif isinstance(value, list | tuple):
            for inner in value:
                yield from _flat({f"{name}[]": inner})
        elif isinstance(value, bool):
            yield name, "true" if value else "false"
        elif value is not None:
            yield name, str(value)


def _quoted(text: str) -> bytes:
    return f'"{text.translate(_ESCAPES)}"'.encode()
