"""The only client for addresses that customers supply: public hosts over https, each connection to a judged address."""

from __future__ import annotations

import ipaddress
import queue
import re
import socket
import threading
import time
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass

from django.conf import settings

from core import http

URL_MAX_CHARS = 4_096
REDIRECTS_MAX = 2
_RESOLVE_TIMEOUT_S = 5.0
_ADDRESSES_TRIED_MAX = 4
# Name servers may keep a thread waiting; more than these at once wait for each other.
_LOOKUPS_MAX = 64
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_PORTS = {"https": 443, "http": 80}

_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9a-f:.]{2,45}\]|[a-z0-9._-]{1,253})(?::(?P<port>[1-9][0-9]{0,4}))?"
    r"(?P<path>/[^?#]*)?(?P<query>\?[^#]*)?(?:#.*)?",
    re.ASCII | re.IGNORECASE,
)
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
# What the resolver of some system takes for an IPv4 address: 127.1, 0x7f000001, 0177.0.0.1, 2130706433.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")

# `ipaddress` calls several of these global, or neither global nor private: the list is ours.
_DENIED_V4 = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        *("0.0.0.0/8", "10.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"),
        "100.64.0.0/10",  # shared by carriers, and by clouds for their metadata
        "168.63.129.16/32",  # a public address by which a cloud's machines reach their host
        *("192.0.0.0/24", "192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24"),  # protocols, documentation
        "192.88.99.0/24",  # relays to 6to4
        "198.18.0.0/15",  # benchmarks
        *("224.0.0.0/4", "240.0.0.0/4"),  # multicast, reserved, broadcast
    )
)
# Everything else of IPv6 is no unicast of the internet: loopback, unique and link and site local, IPv4 mapped and
# compatible, NAT64 (64:ff9b::/96, 64:ff9b:1::/48), multicast, segment routing, and what is not given out yet.
_UNICAST_V6 = ipaddress.IPv6Network("2000::/3")
_DENIED_V6 = tuple(
    ipaddress.IPv6Network(network)
    for network in (
        "2001::/23",  # Teredo, benchmarks, ORCHID and other protocols
        *("2001:db8::/32", "3fff::/20"),  # documentation
        "2002::/16",  # 6to4: an IPv4 address in disguise
    )
)


class Refused(ValueError):
    """This address is not for us to call. The message is safe to show: what is wrong, and what is allowed."""

    def __init__(self, reason: str) -> None:
        self.message = f"{reason} {_allowed()}"
        super().__init__(self.message)


@dataclass(frozen=True, slots=True)
class _Target:
    """An address taken apart by us, so that nobody else reads it differently."""

    scheme: str
    host: str  # lower case; an IPv6 address stands in brackets
    port: int
    path: str  # with the query

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}{self.path}"

    @property
    def exempt(self) -> bool:
        """Named by the operator, host and port: then it may be anywhere, and without TLS."""
        return f"{self.host}:{self.port}" in {name.strip().lower() for name in settings.OUTSIDE_ALLOWED_HOSTS}


def check(url: str) -> None:
    """Whether an address has the form of one that may be called; nothing is resolved. Raises Refused."""
    _parse(url)


def fetch(url: str, *, deadline: float, max_bytes: int) -> http.Reply:
    """GET without credentials or cookies, through at most two redirects, each judged like the first address.

    `deadline` is on time.monotonic()'s clock and covers everything. Raises Refused, and what core.http raises.
    """
    target = _parse(url)
    for _ in range(REDIRECTS_MAX + 1):
        reply = _call("GET", target, deadline=deadline, max_bytes=max_bytes)
        location = reply.headers.get("location")
        if reply.status not in _REDIRECTS or not location:
            return reply
        target = _follow(target, location)
    raise Refused(f"The address leads through more than {REDIRECTS_MAX} redirects.")


def post(url: str, *, deadline: float, max_bytes: int, headers: Mapping[str, str], body: bytes) -> http.Reply:
    """POST with these headers, following no redirect. Raises Refused, and what core.http raises."""
    return _call("POST", _parse(url), deadline=deadline, max_bytes=max_bytes, headers=headers, body=body)


def _follow(target: _Target, location: str) -> _Target:
    _refuse_characters(location)
    try:
        joined = urllib.parse.urljoin(target.url, location)
    except ValueError as error:
        raise Refused("The address redirects to something that is no address.") from error
    return _parse(joined)


def _allowed() -> str:
    schemes = "https://host/path on port 443"
    if settings.OUTSIDE_ALLOW_HTTP:
        schemes += " or http://host/path on port 80"
    return f"Allowed is {schemes}, where the host is public: its full name, or its IP address, in plain ASCII."


# --- the form ---------------------------------------------------------------------------------------------------------


def _parse(url: str) -> _Target:
    """What readers could understand differently is refused before anything is read."""
    if len(url) > URL_MAX_CHARS:
        raise Refused(f"The address is longer than {URL_MAX_CHARS} characters.")
    _refuse_characters(url)
    if "@" in url.partition("://")[2].partition("/")[0]:
        raise Refused("The address holds a user name or password, or an @ before its path.")
    found = _URL.fullmatch(url)
    if found is None:
        raise Refused("The address is not a plain web address.")
    scheme, host = found["scheme"].lower(), found["host"].lower()
    port = int(found["port"]) if found["port"] else _PORTS[scheme]
    # Letters beyond ASCII in a path go as UTF-8; whatever is ASCII stays as it was written.
    path = urllib.parse.quote(f"{found['path'] or '/'}{found['query'] or ''}", safe=_PRINTABLE)
    target = _Target(scheme, host, port, path)
    _judge_host(target)
    if not target.exempt:
        if scheme == "http" and not settings.OUTSIDE_ALLOW_HTTP:
            raise Refused("The address is not https.")
        if port != _PORTS[scheme]:
            raise Refused("The address names another port.")
    return target


_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))


def _refuse_characters(url: str) -> None:
    if "\\" in url or not url.isprintable() or any(character.isspace() for character in url):
        raise Refused("The address holds a space, a backslash or a character that cannot be printed.")


def _judge_host(target: _Target) -> None:
    address = _literal(target.host)
    if address is not None:
        if not target.exempt and not is_public(address):
            raise _not_public()
        return
    labels = target.host.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        raise Refused("The host ends in a number and is not an IP address in its usual form.")
    if not all(_LABEL.fullmatch(label) for label in labels):
        raise Refused("The host is not a valid name.")
    if len(labels) < 2 and not target.exempt:
        raise Refused("The host is not a full name.")


def _literal(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.IPv6Address(host[1:-1]) if host.startswith("[") else ipaddress.IPv4Address(host)
    except ValueError as error:
        if host.startswith("["):
            raise Refused("The host is not an IPv6 address.") from error
        return None


# --- where it leads ---------------------------------------------------------------------------------------------------


def is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether this is a unicast address of the public internet, and not a way around to another one."""
    if isinstance(address, ipaddress.IPv4Address):
        return address.is_global and not any(address in network for network in _DENIED_V4)
    if address.scope_id is not None or address not in _UNICAST_V6:
        return False
    return address.is_global and not any(address in network for network in _DENIED_V6)


def _not_public() -> Refused:
    return Refused("The host is not on the public internet.")


def _call(
    method: str,
    target: _Target,
    *,
    deadline: float,
    max_bytes: int,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
) -> http.Reply:
    """Every address is judged before one is called, and exactly a judged one is called."""
    addresses = _addresses(target, deadline)
    if not target.exempt and not all(map(is_public, addresses)):
        raise _not_public()
    tried = addresses[:_ADDRESSES_TRIED_MAX]
    for address in tried:
        try:
            return http.call(
                method,
                target.url,
                deadline=deadline,
                max_bytes=max_bytes,
                headers=headers,
                body=body,
                address=str(address),
            )
        except http.NotSent:
            if address is tried[-1]:
                raise
    raise http.NotSent("the host has no address")


def _addresses(target: _Target, deadline: float) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    literal = _literal(target.host)
    if literal is not None:
        return [literal]
    try:
        return [ipaddress.ip_address(text) for text in _resolve_in_time(target.host, target.port, deadline)]
    except OSError as error:
        raise http.NotSent("the host's name was not found") from error


_lookups = threading.BoundedSemaphore(_LOOKUPS_MAX)


def _resolve_in_time(host: str, port: int, deadline: float) -> list[str]:
    """The system's resolver knows no deadline, so it works on a thread that may be left behind."""
    until = min(deadline, time.monotonic() + _RESOLVE_TIMEOUT_S)
    answer: queue.SimpleQueue[list[str] | OSError] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            answer.put(resolve(host, port))
        except (OSError, UnicodeError) as error:
            answer.put(OSError(str(error)))
        finally:
            _lookups.release()

    if not _lookups.acquire(timeout=max(until - time.monotonic(), 0)):
        raise http.NotSent("the host's name was not resolved in time")
    threading.Thread(target=look_up, name="lookup", daemon=True).start()
    try:
        found = answer.get(timeout=max(until - time.monotonic(), 0))
    except queue.Empty as error:
        raise http.NotSent("the host's name was not resolved in time") from error
    if isinstance(found, OSError):
        raise found
    return found


def resolve(host: str, port: int) -> list[str]:
    """Every address of a name, in the order to try them. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))
