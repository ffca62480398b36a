"""core.clients: the address behind our own proxies, and never the one a caller claims."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import RequestFactory

from core import clients


def seen(remote: str, forwarded: str | None = None) -> str:
    headers = None if forwarded is None else {"X-Forwarded-For": forwarded}
    return str(clients.address(RequestFactory().get("/", REMOTE_ADDR=remote, headers=headers)))


@pytest.mark.parametrize(
    ("proxies", "forwarded", "address"),
    [
        (0, None, "203.0.113.9"),
        (0, "198.51.100.1", "203.0.113.9"),
        (1, "198.51.100.1", "198.51.100.1"),
        (1, "6.6.6.6, 198.51.100.1", "198.51.100.1"),
        (2, "6.6.6.6, 198.51.100.1, 10.0.0.1", "198.51.100.1"),
        (2, "198.51.100.1", "203.0.113.9"),
        (1, None, "203.0.113.9"),
        (1, "nonsense", "None"),
    ],
)
def test_it_believes_only_what_our_own_proxies_wrote(
    settings: Any, proxies: int, forwarded: str | None, address: str
) -> None:
    settings.ALLAUTH_TRUSTED_PROXY_COUNT = proxies
    assert seen("203.0.113.9", forwarded) == address


@pytest.mark.parametrize(
    ("remote", "network"),
    [
        ("203.0.113.9", "203.0.113.0/24"),
        ("::ffff:203.0.113.9", "203.0.113.0/24"),
        ("2001:db8:1:2::5", "2001:db8:1::/48"),
        ("fe80::1%eth0", "fe80::/48"),
        ("", "unknown"),
        ("unix:", "unknown"),
    ],
)
def test_it_counts_people_by_their_network(remote: str, network: str) -> None:
    address = clients.address(RequestFactory().get("/", REMOTE_ADDR=remote))
    assert clients.network(address, v4_bits=24, v6_bits=48) == network
