"""Google's Gemini image models: one picture a call, sizes by ratio and tier, refusals inside a success."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NoReturn

import pybase64

from core import http
from imagesapi.providers import _shared
from imagesapi.providers.base import (
    BadAnswer,
    Blocked,
    Call,
    InvalidInput,
    ModelGone,
    OperatorTrouble,
    RateLimited,
    Setting,
    TimedOut,
    Unavailable,
)
from imagesapi.values import Answer, Fitted, Offer, Picture, Usage

SETTINGS: Final = (
    Setting("GEMINI_API_KEY", secret=True, required=True),
    Setting("GEMINI_BASE_URL", default="https://generativelanguage.googleapis.com/v1beta", is_base_url=True),
)

_OWN_SETTINGS: Final = frozenset({"responseModalities", "imageConfig", "maxOutputTokens", "candidateCount"})
# Reasons of a candidate without a picture that mean the content was refused.
_BLOCK_REASONS: Final = frozenset(
    {
        "SAFETY",
        "RECITATION",
        "BLOCKLIST",
        "PROHIBITED_CONTENT",
        "SPII",
        "IMAGE_SAFETY",
        "IMAGE_PROHIBITED_CONTENT",
        "IMAGE_RECITATION",
        "IMAGE_OTHER",
        "NO_IMAGE",
    }
)
_REFUSED: Final = "The provider refused the request."
_BLOCKED: Final = "The provider refused the content."
_NO_PICTURE: Final = "The provider's answer holds no images."
# The last words of Google's field paths, in OpenAI's names.
_OPENAI_NAMES: Final = {
    "text": "prompt",
    "contents": "prompt",
    "parts": "prompt",
    "data": "image",
    "mime_type": "image",
    "inline_data": "image",
    "image_size": "resolution",
    "max_output_tokens": None,
    "response_modalities": None,
}
_FIELD: Final = re.compile(r"[\w.\[\]]{1,200}", re.ASCII)
_DELAY: Final = re.compile(r"(\d{1,6}(?:\.\d{1,9})?)s", re.ASCII)
_MAX_RETRY_AFTER_S: Final = 3_600
_IMAGE_TYPE: Final = re.compile(r"image/(png|jpeg|webp)")
# A front that stopped waiting for the service behind it: the work may have been done and billed.
_GATEWAY_TIMEOUTS: Final = frozenset({504, 524})
_MAX_TOKENS: Final = 10_000_000
_MAX_CANDIDATES: Final = 8
_MAX_PARTS: Final = 32


def build(fitted: Fitted, offer: Offer) -> dict[str, Any]:
    """The body of POST models/{model}:generateContent."""
    able = offer.capabilities
    config = {
        name: value
        for name, value in fitted.extras.items()
        if name in able.extras and name not in _OWN_SETTINGS and value is not None
    }
    config["responseModalities"] = ["IMAGE"]
    shape: dict[str, str] = {}
    if fitted.aspect_ratio is not None:
        shape["aspectRatio"] = fitted.aspect_ratio
    # Models with one tier take no word for it.
    if fitted.resolution is not None and len(able.ratio_sizes) > 1:
        shape["imageSize"] = fitted.resolution
    if shape:
        config["imageConfig"] = shape
    # What the hold covers is what the model may write: its thoughts are billed as text.
    ceiling = offer.pricing.get("text_output_ceiling_tokens")
    if ceiling is not None:
        config["maxOutputTokens"] = ceiling
    return {"contents": [{"role": "user", "parts": [{"text": fitted.prompt}]}], "generationConfig": config}


def run(call: Call) -> Answer:
    """Make the call and return its picture, or raise a ProviderError."""
    values, offer = call.offer.connection.settings, call.offer
    model = (offer.edit_wire_id if call.fitted.operation == "edit" else "") or offer.wire_id
    reply = _shared.send(
        "POST",
        f"{values['GEMINI_BASE_URL'].rstrip('/')}/models/{model}:generateContent",
        deadline=call.deadline,
        max_bytes=_shared.answer_bytes(call),
        headers={"x-goog-api-key": values["GEMINI_API_KEY"]},
        body=_with_pictures(call),
    )
    if not 200 <= reply.status < 300:
        _fail(reply, secret=values["GEMINI_API_KEY"])
    return _answer(reply, n=call.fitted.n, secret=values["GEMINI_API_KEY"])


def _with_pictures(call: Call) -> Mapping[str, Any]:
    """The body with an edit's pictures behind its prompt, in the caller's order."""
    if not call.fitted.images:
        return call.body
    parts = [
        {"inlineData": {"mimeType": one.content_type, "data": pybase64.b64encode_as_string(one.data)}}
        for one in call.fitted.images
    ]
    turn = call.body["contents"][0]
    return {**call.body, "contents": [{**turn, "parts": [*turn["parts"], *parts]}]}


# Answers


def _answer(reply: http.Reply, *, n: int, secret: str) -> Answer:
    found = _shared.json_object(reply, pictures_under="data")
    if found is None or found.get("error"):
        raise BadAnswer(_NO_PICTURE, http_status=reply.status)
    facts: dict[str, Any] = {"http_status": reply.status, "request_id": _shared.word(found.get("responseId"))}
    _raise_feedback(found.get("promptFeedback"), facts, secret=secret)
    listed = found.get("candidates")
    candidates = [one for one in listed[:_MAX_CANDIDATES] if isinstance(one, dict)] if isinstance(listed, list) else []
    drawn = [inline for one in candidates for inline in _drawn(one)]
    usable = [inline for inline in drawn if _shared.is_picture_text(inline.get("data"))]
    if not usable:
        _raise_finish(candidates, facts, secret=secret)
    usage = found.get("usageMetadata")
    evidence: dict[str, Any] = {"usage": _counts(usage)}
    if len(drawn) != n or len(usable) != n:
        evidence.update(pictures_asked=n, pictures_received=len(drawn), pictures_usable=len(usable))
    return Answer(
        pictures=[Picture(b64=inline["data"]) for inline in usable[:n]],
        usage=_usage(usage),
        request_id=facts["request_id"],
        evidence=evidence,
        effective=_effective(usable[:n]),
    )


def _drawn(candidate: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The files of a candidate; pictures that belong to its thoughts are drafts, neither asked for nor billed."""
    content = candidate.get("content")
    parts = content.get("parts") if isinstance(content, dict) else None
    for part in parts[:_MAX_PARTS] if isinstance(parts, list) else ():
        if isinstance(part, dict) and part.get("thought") is not True and isinstance(part.get("inlineData"), dict):
            yield part["inlineData"]


def _effective(files: list[dict[str, Any]]) -> dict[str, str]:
    kinds = {_shared.word(one.get("mimeType")) for one in files}
    match = _IMAGE_TYPE.fullmatch(kinds.pop() or "") if len(kinds) == 1 else None
    return {"output_format": match[1]} if match else {}


def _raise_feedback(feedback: Any, facts: Mapping[str, Any], *, secret: str) -> None:
    """A prompt that was refused, said in a success."""
    reason = _shared.word(feedback.get("blockReason")) if isinstance(feedback, dict) else None
    if reason is None or reason == "BLOCK_REASON_UNSPECIFIED":
        return
    message = _shared.tidy(feedback.get("blockReasonMessage"), fallback=_BLOCKED, secrets=(secret,))
    raise Blocked(message, details=_moderation("input", reason), **facts)


def _raise_finish(candidates: list[dict[str, Any]], facts: Mapping[str, Any], *, secret: str) -> NoReturn:
    """A success without a picture: the content was refused, or the answer is none."""
    for candidate in candidates:
        reason = _shared.word(candidate.get("finishReason"))
        if reason in _BLOCK_REASONS:
            message = _shared.tidy(candidate.get("finishMessage"), fallback=_BLOCKED, secrets=(secret,))
            raise Blocked(message, details=_moderation("output", str(reason)), **facts)
    raise BadAnswer(_NO_PICTURE, **facts)


def _moderation(stage: str, reason: str) -> dict[str, Any]:
    return {"moderation_details": {"moderation_stage": stage, "categories": [reason.lower()]}}


# Usage


def _usage(value: Any) -> Usage | None:
    """The tokens by kind, or None when the numbers cannot be true. Thoughts are billed like text."""
    if not isinstance(value, dict):
        return None
    read, written = _count(value, "promptTokenCount"), _count(value, "candidatesTokenCount")
    thought = _count(value, "thoughtsTokenCount") if "thoughtsTokenCount" in value else 0
    if read is None or written is None or thought is None:
        return None
    seen = _of_pictures(value.get("promptTokensDetails"), absent=0)
    drawn = _of_pictures(value.get("candidatesTokensDetails"), absent=written)
    if seen is None or drawn is None or seen > read or drawn > written:
        return None
    return Usage(
        text_input_tokens=read - seen,
        image_input_tokens=seen,
        image_output_tokens=drawn,
        text_output_tokens=written - drawn + thought,
    )


def _count(value: Mapping[str, Any], name: str) -> int | None:
    return _shared.count(value.get(name), at_most=_MAX_TOKENS)


def _of_pictures(details: Any, *, absent: int) -> int | None:
    """The tokens of pictures in a list by modality; `absent` where there is no list, None where it makes no sense."""
    if details is None:
        return absent
    if not isinstance(details, list) or not all(isinstance(one, dict) for one in details):
        return None
    counts = [_count(one, "tokenCount") for one in details if one.get("modality") == "IMAGE"]
    return sum(number for number in counts if number is not None) if None not in counts else None


def _counts(value: Any) -> dict[str, Any]:
    """What was reported, as evidence: its whole numbers and its lists by modality."""
    if not isinstance(value, dict):
        return {}
    found: dict[str, Any] = {}
    for name, one in list(value.items())[:20]:
        if _shared.word(name) is None:
            continue
        if isinstance(one, list):
            rows = [row for row in one[:9] if isinstance(row, dict)]
            pairs = [(_shared.word(row.get("modality")), row.get("tokenCount")) for row in rows]
            found[name] = {kind: number for kind, number in pairs if kind and _is_count(number)}
        elif _is_count(one):
            found[name] = one
    return found


def _is_count(value: Any) -> bool:
    return _shared.count(value, at_most=_MAX_TOKENS) is not None


# Errors


def _fail(reply: http.Reply, *, secret: str) -> NoReturn:
    body = _shared.json_object(reply) or {}
    error = body.get("error")
    if not isinstance(error, dict):
        error = {}
    listed = error.get("details")
    details = [one for one in listed[:20] if isinstance(one, dict)] if isinstance(listed, list) else []
    kind = _shared.word(error.get("status"))
    facts: dict[str, Any] = {"http_status": reply.status}
    message = _shared.tidy(error.get("message"), fallback=_REFUSED, secrets=(secret,))
    # A wrong key is called an invalid argument there; only the reason tells.
    if any(str(one.get("reason")).startswith("API_KEY_") for one in details):
        kind = "UNAUTHENTICATED"
    match kind:
        case "INVALID_ARGUMENT" | "OUT_OF_RANGE":
            raise InvalidInput(message, param=_param(details), **facts)
        case "UNAUTHENTICATED" | "PERMISSION_DENIED" | "FAILED_PRECONDITION":
            raise OperatorTrouble("The provider does not accept the operator's key or account.", **facts)
        case "RESOURCE_EXHAUSTED":
            raise RateLimited("The provider is at its rate limit.", retry_after_s=_wait_s(details, reply), **facts)
        case "NOT_FOUND":
            raise ModelGone("The provider does not serve this model.", **facts)
        case "DEADLINE_EXCEEDED":
            raise TimedOut("The provider did not answer in time.", **facts)
        case "UNAVAILABLE" | "INTERNAL" | "UNKNOWN" | "ABORTED" | "CANCELLED":
            raise Unavailable("The provider could not do the job.", **facts)
    if reply.status in _GATEWAY_TIMEOUTS:
        raise TimedOut("The provider did not answer in time.", **facts)
    if reply.status in (404, 410):
        raise ModelGone("The provider does not serve this model.", **facts)
    _shared.raise_common(reply, request_id=None)


def _param(details: list[dict[str, Any]]) -> str | None:
    """The field that the first violation is about, in OpenAI's names."""
    for one in details:
        violations = one.get("fieldViolations")
        first = violations[0] if isinstance(violations, list) and violations else None
        path = first.get("field") if isinstance(first, dict) else None
        if isinstance(path, str) and _FIELD.fullmatch(path):
            last = re.sub(r"\[\d*\]", "", path).rpartition(".")[2]
            return _OPENAI_NAMES.get(last, last or None)
    return None


def _wait_s(details: list[dict[str, Any]], reply: http.Reply) -> int | None:
    """How long to wait: from the header, else from the error's own details ("34.07s")."""
    told = _shared.retry_after_s(reply)
    if told is not None:
        return told
    for one in details:
        match = _DELAY.fullmatch(str(one.get("retryDelay"))[:32])
        if match:
            return min(math.ceil(float(match[1])), _MAX_RETRY_AFTER_S)
    return None
