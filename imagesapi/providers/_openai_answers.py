"""How OpenAI-like services answer: pictures, token usage, effective values, and what each of their errors means."""

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
    InvalidInput,
    ModelGone,
    OperatorTrouble,
    TimedOut,
)
from imagesapi.values import Answer, Picture, Usage

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


def read(reply: http.Reply, *, n: int) -> Answer:
    """An ordinary answer with its pictures in base64. Raises BadAnswer."""
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
    evidence: dict[str, Any] = {"usage": bounded(found.get("usage"))}
    if len(items) != n or len(pictures) != n:
        evidence.update(pictures_asked=n, pictures_received=len(items), pictures_usable=len(pictures))
    return Answer(
        pictures=pictures,
        usage=usage_of(found.get("usage")),
        request_id=request_id,
        evidence=evidence,
        effective=effective(found),
    )


def effective(found: Mapping[str, Any]) -> dict[str, str]:
    """The values that were used, as far as they are told and are what they should be."""
    return {
        name: found[name]
        for name, form in _EFFECTIVE.items()
        if isinstance(found.get(name), str) and form.fullmatch(found[name]) and found[name] != "auto"
    }


def _revised(item: Mapping[str, Any]) -> str | None:
    value = item.get("revised_prompt")
    return value if isinstance(value, str) and len(value) <= 32_000 else None


def bounded(value: Any) -> Any:
    """A provider's own words as evidence, unless they are too many."""
    try:
        size_bytes = len(orjson.dumps(value))
    except orjson.JSONEncodeError:  # nested deeper than it writes
        size_bytes = _MAX_EVIDENCE_BYTES + 1
    return value if size_bytes <= _MAX_EVIDENCE_BYTES else "too large to keep"


def usage_of(value: Any) -> Usage | None:
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


def fail(reply: http.Reply, *, secret: str) -> NoReturn:
    """Raise what a status other than success means."""
    request_id = _shared.word(reply.headers.get("x-request-id"))
    body = _shared.json_object(reply)
    error = body.get("error") if body is not None else None
    if not isinstance(error, dict):
        error = {}
    facts: dict[str, Any] = {"http_status": reply.status, "request_id": request_id}
    raise_by_code(error, secret=secret, facts=facts)
    if reply.status in (404, 410):
        raise ModelGone("The provider does not serve this model.", **facts)
    if reply.status in (400, 413, 422) and error:
        raise invalid(error, secret=secret, facts=facts)
    if reply.status in _GATEWAY_TIMEOUTS and not error:
        raise TimedOut("The provider did not answer in time.", **facts)
    _shared.raise_common(reply, request_id=request_id)


def raise_by_code(error: Mapping[str, Any], *, secret: str, facts: Mapping[str, Any]) -> None:
    """What an error object says beyond doubt, whatever status it came with."""
    kind, code = _shared.word(error.get("type")), _shared.word(error.get("code"))
    if code in _BLOCK_CODES:
        details = _moderation(error.get("moderation_details"))
        raise Blocked(_message(error, secret), details=details, **facts)
    if code in _ACCOUNT_CODES or kind in _ACCOUNT_CODES:
        raise OperatorTrouble("The provider does not accept the operator's key or account.", **facts)
    if code == "model_not_found":
        raise ModelGone("The provider does not serve this model.", **facts)


def invalid(error: Mapping[str, Any], *, secret: str, facts: Mapping[str, Any]) -> InvalidInput:
    """The provider's refusal of a parameter, in its own words."""
    code = _shared.word(error.get("code"))
    return InvalidInput(_message(error, secret), param=_param(error.get("param")), code=code, **facts)


def _message(error: Mapping[str, Any], secret: str) -> str:
    return _shared.tidy(error.get("message"), fallback="The provider refused the request.", secrets=(secret,))


def _param(value: Any) -> str | None:
    """A field by the name the caller knows: a list of files is `image[]` on the wire only."""
    name = _shared.word(value)
    return name.removesuffix("[]") if name is not None else None


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
