"""Keyed hashes, signatures and encryption at rest; every use derives its own key, so no token fits another lock."""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings

_NONCE_BYTES = 12


@functools.lru_cache(maxsize=64)
def _derive(purpose: str, secret: str) -> bytes:
    return hmac.digest(secret.encode(), f"pixelpar/{purpose}".encode(), "sha256")


@functools.lru_cache(maxsize=64)
def _begun(purpose: str, secret: str) -> hmac.HMAC:
    """To be copied: choosing the algorithm anew and preparing the key take longer than hashing a short message."""
    return hmac.new(_derive(purpose, secret), digestmod="sha256")


def keyed_hash(purpose: str, message: bytes) -> bytes:
    """HMAC-SHA-256 under the server's secret, 32 bytes, one key per purpose."""
    hashing = _begun(purpose, settings.SECRET_KEY).copy()
    hashing.update(message)
    return hashing.digest()


def sign(purpose: str, message: str) -> str:
    """A URL-safe signature, 43 characters."""
    return base64.urlsafe_b64encode(keyed_hash(purpose, message.encode())).rstrip(b"=").decode()


def verify(purpose: str, message: str, signature: str) -> bool:
    """Whether `signature` is ours for this purpose and message; constant time, any text accepted."""
    return hmac.compare_digest(sign(purpose, message).encode(), signature.encode("utf-8", "replace"))


def _ring() -> list[str]:
    """Encryption secrets, the current one first; older ones stay readable until rows are written anew."""
    return [settings.ENCRYPTION_KEY or settings.SECRET_KEY, *settings.ENCRYPTION_KEY_FALLBACKS]


def _fingerprint(secret: str) -> bytes:
    return hashlib.sha256(_derive("encryption-id", secret)).digest()[:4]


def encrypt(plain: str, *, row: str) -> bytes:
    """AES-256-GCM under the current key; `row` (its table and id) is bound in, so a value cannot be moved."""
    secret = _ring()[0]
    nonce = os.urandom(_NONCE_BYTES)
    sealed = AESGCM(_derive("encryption", secret)).encrypt(nonce, plain.encode(), row.encode())
    return _fingerprint(secret) + nonce + sealed


def decrypt(sealed: bytes, *, row: str) -> str:
    """The plain text again; ValueError when no key of the ring opens it or it belongs to another row."""
    head, nonce, body = sealed[:4], sealed[4 : 4 + _NONCE_BYTES], sealed[4 + _NONCE_BYTES :]
    for secret in _ring():
        if hmac.compare_digest(head, _fingerprint(secret)):
            try:
                return AESGCM(_derive("encryption", secret)).decrypt(nonce, body, row.encode()).decode()
            except InvalidTag as error:
                raise ValueError("the stored value was changed or belongs to another row") from error
    raise ValueError("no key of the ring opens this value")
