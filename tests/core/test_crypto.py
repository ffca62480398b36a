"""Keyed hashes: what is remembered between two of them changes none."""

from __future__ import annotations

import hashlib
import hmac
from concurrent.futures import ThreadPoolExecutor

from pytest_django.fixtures import Settings

from core import crypto


def _written_out(secret: bytes, purpose: bytes, message: bytes) -> bytes:
    key = hmac.new(secret, b"pixelpar/" + purpose, hashlib.sha256).digest()
    return hmac.new(key, message, hashlib.sha256).digest()


def test_a_keyed_hash_is_its_own_whoever_hashes_beside_it(settings: Settings) -> None:
    settings.SECRET_KEY = "first"
    messages = [number.to_bytes(4) * number for number in range(200)]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda message: crypto.keyed_hash("one", message), messages * 5))
    assert found == [_written_out(b"first", b"one", message) for message in messages] * 5


def test_each_purpose_and_each_secret_has_its_own_key(settings: Settings) -> None:
    settings.SECRET_KEY = "first"
    first, other = crypto.keyed_hash("one", b"message"), crypto.keyed_hash("other", b"message")
    settings.SECRET_KEY = "second"
    assert crypto.keyed_hash("one", b"message") == _written_out(b"second", b"one", b"message")
    assert len({first, other, crypto.keyed_hash("one", b"message")}) == 3
