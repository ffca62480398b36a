"""Where a call goes, and the head of its request: all text that could say more than one request is refused."""

from __future__ import annotations

import functools
import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import requests
from urllib3.exceptions import LocationParseError

_PORTS = {"http": 80, "https": 443}
_METHOD = re.compile(r"[A-Z]{1,20}")
_PATH = re.compile(r"/[!-~]*")
_HOST = re.compile(r"[!-~]+")
_LINE = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+: [^\x00-\x08\x0a-\x1f\x7f]*\r\n")


class Place(NamedTuple):
    """The other end of a connection. An IPv6 address stands without brackets."""

    secure: bool
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Target:
    """What is the same for every call by one method to one URL; `lines` by lower-case name, each with its end."""

    method: str
    place: Place
    start: str
    lines: Mapping[str, str]

    def head(self, headers: Mapping[str, str], body_bytes: int) -> bytes:
        """The request up to its body; `headers` go before our own. Raises ValueError for what cannot be sent."""
        lines = dict(self.lines)
        for name, value in headers.items():
            lines[name.lower()] = line(name, value)
        if "transfer-encoding" in lines:
            raise ValueError("a body goes out with its length")
        if body_bytes or self.method not in ("GET", "HEAD"):
            lines["content-length"] = f"Content-Length: {body_bytes}\r\n"
        else:
            lines.pop("content-length", None)
        return f"{self.start}{''.join(lines.values())}\r\n".encode("latin-1")


def line(name: str, value: str) -> str:
    """One header as it is written. Raises ValueError, which tells neither: they may hold a key."""
    written = f"{name}: {value}\r\n"
    if _LINE.fullmatch(written) is None:
        raise ValueError("a header holds what cannot be sent in one")
    return written


def parse(method: str, url: str) -> requests.PreparedRequest:
    """`requests` reads the URL (names beyond ASCII, escapes, a user's name and password). Raises ValueError."""
    prepared = requests.PreparedRequest()
    try:
        prepared.prepare(method=method, url=url, headers={"Accept-Encoding": "identity", "User-Agent": "pixelpar"})
    except (requests.RequestException, LocationParseError) as error:
        raise ValueError("the address cannot be called") from error
    return prepared


@functools.lru_cache(maxsize=256)
def find(method: str, url: str) -> Target:
    """Reading an address carefully takes its time, so the last ones are remembered. Raises ValueError."""
    prepared = parse(method, url)
    parts = urllib.parse.urlsplit(prepared.url or "")
    method, host, path = prepared.method or "", parts.hostname or "", prepared.path_url
    if path.startswith("//"):  # would be read as a host
        path = "/" + path.lstrip("/")
    if parts.scheme not in _PORTS or not _HOST.fullmatch(host):
        raise ValueError("the address is not one of http")
    if not _METHOD.fullmatch(method) or not _PATH.fullmatch(path):
        raise ValueError("the method or the path holds what cannot be sent")
    port = parts.port if parts.port is not None else _PORTS[parts.scheme]
    # The dot that ends a full name and an address's zone are for our own resolver.
    name = host.rstrip(".").partition("%")[0]
    shown = f"[{name}]" if ":" in name else name
    authority = shown if port == _PORTS[parts.scheme] else f"{shown}:{port}"
    fields = {"Host": authority, **prepared.headers}
    lines = {name.lower(): line(name, str(value)) for name, value in fields.items()}
    lines.pop("content-length", None)
    place = Place(parts.scheme == "https", host, port)
    return Target(method, place, f"{method} {path} HTTP/1.1\r\n", lines)
