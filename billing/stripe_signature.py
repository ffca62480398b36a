"""Whether a body was signed by Stripe just now: the package's check, behind stricter ones of our own."""

from __future__ import annotations

import re

from billing import stripe_gateway
from billing.stripe_facts import BadSignature

HEADER_MAX_BYTES = 4096
TOLERANCE_S = 300
_PART = re.compile(r"(t=\d{1,12}|(?!t=)[a-z0-9]{1,16}=[0-9a-zA-Z]{1,256})", re.ASCII)


def check(body: bytes, header: str | None, *, secret: str, now_s: int) -> None:
    """Raises BadSignature for anything but a body signed with `secret` within five minutes, past or future.

    The package by itself takes any time in the future, thousands of signatures, and fails oddly on what is not ASCII.
    """
    if not header:
        raise BadSignature("it has no signature")
    if len(header.encode("utf-8", "replace")) > HEADER_MAX_BYTES:
        raise BadSignature("its signature header is too large")
    parts = header.split(",")
    if not all(_PART.fullmatch(part) for part in parts):
        raise BadSignature("its signature header is malformed")
    times = [part for part in parts if part.startswith("t=")]
    if len(times) != 1:
        raise BadSignature("its signature header is malformed")
    if abs(now_s - int(times[0][2:])) > TOLERANCE_S:
        raise BadSignature("it was signed too long ago, or in the future")
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise BadSignature("its body is not UTF-8") from error
    stripe_gateway.verify_signature(text, header, secret=secret, tolerance_s=TOLERANCE_S)
