"""What an outbound call comes to: a reply, a stream, or an error that says whether anything was sent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass


class CallError(Exception):
    """An outbound call without a usable reply. `sent` is False only when no byte can have reached the other side."""

    sent = True


class NotSent(CallError):
    sent = False


class Broken(CallError):
    """The connection ended after the request went out."""


class Late(CallError):
    """The deadline passed after the request went out."""


class TooLarge(CallError):
    """The reply is larger than we take."""


@dataclass(slots=True)
class Reply:
    """A complete reply: status, headers by lower-case name, body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(slots=True)
class Stream:
    """A reply whose body is read while it comes; reading raises Broken, Late or TooLarge."""

    status: int
    headers: Mapping[str, str]
    pieces: Iterator[bytes]
