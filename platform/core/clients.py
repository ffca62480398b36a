"""Where a request comes from: the address behind our own proxies, and the network it belongs to."""

from __future__ import annotations

import ipaddress

from django.conf import settings
from django.http import HttpRequest

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def address(request: HttpRequest) -> Address | None:
    """The client's address; None where there is none to be known (a socket file, nonsense in a header).

    X-Forwarded-For is read only as far as TRUSTED_PROXY_COUNT of our own proxies have written it: what stands to the
    left of that is the caller's own words.
    """
    trusted: int = settings.ALLAUTH_TRUSTED_PROXY_COUNT
    forwarded = request.META.get("HTTP_X_FORWARDED_FOR")
    if trusted and forwarded and len(hops := forwarded.split(",")) >= trusted:
        return parse(hops[-trusted])
    return parse(request.META.get("REMOTE_ADDR", ""))


def parse(word: str) -> Address | None:
    """An address as servers and proxies write it; an IPv4 one within IPv6 is the IPv4 one."""
    try:
        found = ipaddress.ip_address(word.strip())
    except ValueError:
        return None
    if isinstance(found, ipaddress.IPv6Address):
        return found.ipv4_mapped or ipaddress.IPv6Address(int(found))  # without a zone
    return found


def network(found: Address | None, *, v4_bits: int, v6_bits: int) -> str:
    """The network around an address, by which people who share one are counted; "unknown" is one network too."""
    if found is None:
        return "unknown"
    bits = v4_bits if found.version == 4 else v6_bits
    return str(ipaddress.ip_network(f"{found}/{bits}", strict=False))
