"""OpenAI's images API: the request it takes, the answer it gives, and what each of its errors means to us."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NoReturn

import orjson

from core import http
from imagesapi.providers import _shared
from imagesapi.providers.base import (
    BadAnswer,
    Blocked,
    Call,
    InvalidInput,
    ModelGone,
    OperatorTrouble,
    Setting,
    TimedOut,
)
from imagesapi.values import Answer, Fitted, Offer, Picture, Usage

SETTINGS: Final = (
    Setting("OPENAI_API_KEY", secret=True, required=True),
    Setting("OPENAI_BASE_URL", default="https://api.openai.com/v1", is_base_url=True),
)

_OPTIONAL: Final = ("quality", "background", "output_compression", "moderation", "style", "user")
# The adapter reads one plain answer with base64 in it; these would change its form.
_NEVER_SENT: Final = frozenset({"response_format", "stream", "partial_images"})
_ACCOUNT_CODES: Final = frozenset(
    {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "account_deactivated", "invalid_api_key"}
)
_BLOCK_CODES: Final = frozenset({"moderation_blocked", "content_policy_violation"})
# A front that stopped waiting for the service behind it: the work may have been done and billed.
_GATEWAY_TIMEOUTS: Final = frozenset({504, 524})
_MODERATION_STAGES: Final = frozenset({"input", "output", "unknown"})
_EFFECTIVE: Final = {
    "size": re.compile(r"[1-9]\d{1,4}x[1-9]\d{1,4}", re.ASCII),
    "quality": re.compile(r"[a-z]{2,12}"),
    "background": re.compile(r"transparent|opaque"),
    "output_format": re.compile(r"[a-z]{3,5}"),
}
# Far above any real request (10 pictures of 14 272 tokens), far below what could overflow a price.
_MAX_TOKENS: Final = 10_000_000
_MAX_EVIDENCE_BYTES: Final = 4_096


def build(fitted: Fitted, offer: Offer) -> dict[str, Any]:
    """The body of POST /images/generations."""
    able = offer.capabilities
    body = {
        name: value
        for name, value in fitted.extras.items()
        if name in able.extras and name not in _NEVER_SENT and value is not None
    }
    body.update(model=offer.wire_id, prompt=fitted.prompt, n=fitted.n)
    if able.sizes or able.size_style != "enum":
        body["size"] = fitted.size
    if able.output_formats:
        body["output_format"] = fitted.output_format
    for name in _OPTIONAL:
        value = getattr(fitted, name)
        if value is not None:
            body[name] = value
    return body


def run(call: Call) -> Answer:
    """Make the call and return its pictures, or raise a ProviderError."""
    values = call.offer.connection.settings
    reply = _shared.send(
        "POST",
        f"{values['OPENAI_BASE_URL'].rstrip('/')}/images/generations",
        deadline=call.deadline,
        max_bytes=_shared.answer_bytes(call),
        headers={"Authorization": f"Bearer {values['OPENAI_API_KEY']}"},
        body=call.body,
    )
    if not 200 <= reply.status < 300:
        _fail(reply, secret=values["OPENAI_API_KEY"])
    return _answer(reply, n=call.fitted.n)


def _answer(reply: http.Reply, *, n: int) -> Answer:
    request_id = _shared.word(reply.headers.get("x-request-id"))
    found = _shared.json_object(reply, pictures_under="b64_json")
    items = found.get("data") if found is not None else None
    if found is None or found.get("error") or not isinstance(items, list):
        raise BadAnswer("The provider's answer holds no images.", http_status=reply.status, request_id=request_id)
    pictures = [
        Picture(b64=item["b64_json"], revised_prompt=_revised(item))
        for item in items[:n]
        if isinstance(item, dict) and _shared.is_picture_text(item.get("b64_json"))
    ]
    if not pictures:
        raise BadAnswer("The provider's answer holds no images.", http_status=reply.status, request_id=request_id)
    evidence: dict[str, Any] = {"usage": _bounded(found.get("usage"))}
    if len(items) != n or len(pictures) != n:
        evidence.update(pictures_asked=n, pictures_received=len(items), pictures_usable=len(pictures))
    return Answer(
        pictures=pictures,
        usage=_usage(found.get("usage")),
        request_id=request_id,
        evidence=evidence,
        effective={
            name: found[name]
            for name, form in _EFFECTIVE.items()
            if isinstance(found.get(name), str) and form.fullmatch(found[name]) and found[name] != "auto"
        },
    )


def _revised(item: Mapping[str, Any]) -> str | None:
    value = item.get("revised_prompt")
    return value if isinstance(value, str) and len(value) <= 32_000 else None


def _bounded(value: Any) -> Any:
    try:
        size_bytes = len(orjson.dumps(value))
    except orjson.JSONEncodeError:  # nested deeper than it writes
        size_bytes = _MAX_EVIDENCE_BYTES + 1
    return value if size_bytes <= _MAX_EVIDENCE_BYTES else "too large to keep"


def _usage(value: Any) -> Usage | None:
    """The tokens of the request, or None when the numbers cannot be true: then they never make a price."""
    if not isinstance(value, dict):
        return None
    read = _parts(value, "input_tokens", main="text_tokens", other="image_tokens")
    written = _parts(value, "output_tokens", main="image_tokens", other="text_tokens")
    if read is None or written is None:
        return None
    return Usage(
        text_input_tokens=read[0],
        image_input_tokens=read[1],
        image_output_tokens=written[0],
        text_output_tokens=written[1],
    )


def _parts(usage: Mapping[str, Any], name: str, *, main: str, other: str) -> tuple[int, int] | None:
    """A total split by its details; without details all of it is of the main kind."""
    total = _shared.count(usage.get(name), at_most=_MAX_TOKENS)
    details = usage.get(f"{name}_details")
    if total is None or details is None:
        return None if total is None else (total, 0)
    if not isinstance(details, dict):
        return None
    mains = _shared.count(details.get(main, 0), at_most=_MAX_TOKENS)
    others = _shared.count(details.get(other, 0), at_most=_MAX_TOKENS)
    if mains is None or others is None or mains + others != total:
        return None
    return mains, others


def _fail(reply: http.Reply, *, secret: str) -> NoReturn:
    request_id = _shared.word(reply.headers.get("x-request-id"))
    body = _shared.json_object(reply)
    error = body.get("error") if body is not None else None
    if not isinstance(error, dict):
        error = {}
    kind, code = _shared.word(error.get("type")), _shared.word(error.get("code"))
    facts: dict[str, Any] = {"http_status": reply.status, "request_id": request_id}
    message = _shared.tidy(error.get("message"), fallback="The provider refused the request.", secrets=(secret,))
    if code in _BLOCK_CODES:
        raise Blocked(message, details=_moderation(error.get("moderation_details")), **facts)
    if code in _ACCOUNT_CODES or kind in _ACCOUNT_CODES:
        raise OperatorTrouble("The provider does not accept the operator's key or account.", **facts)
    if reply.status in (404, 410) or code == "model_not_found":
        raise ModelGone("The provider does not serve this model.", **facts)
    if reply.status in (400, 413, 422) and error:
        raise InvalidInput(message, param=_shared.word(error.get("param")), code=code, **facts)
    if reply.status in _GATEWAY_TIMEOUTS and not error:
        raise TimedOut("The provider did not answer in time.", **facts)
    _shared.raise_common(reply, request_id=request_id)


def _moderation(value: Any) -> dict[str, Any]:
    """The provider's stage and categories, as far as they are what they should be."""
    if not isinstance(value, dict):
        return {}
    found: dict[str, Any] = {}
    if _shared.word(value.get("moderation_stage")) in _MODERATION_STAGES:
        found["moderation_stage"] = value["moderation_stage"]
    if isinstance(value.get("categories"), list):
        found["categories"] = [entry for entry in value["categories"][:20] if _shared.word(entry)]
    return {"moderation_details": found} if found else {}
