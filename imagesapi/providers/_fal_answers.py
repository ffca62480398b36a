"""How fal answers: pictures inline or as files, billable units, and both families of its errors."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn

from core import http, money
from imagesapi.providers import _shared
from imagesapi.providers.base import BadAnswer, Blocked, InvalidInput, ModelGone, Unavailable
from imagesapi.values import Answer

BASE_URLS: Final = {"FAL_RUN_URL": "https://fal.run", "FAL_QUEUE_URL": "https://queue.fal.run"}
_OPENAI_NAMES: Final = {
    "image_size": "size",
    "num_images": "n",
    "image_url": "image",
    "image_urls": "image",
    "mask_url": "mask",
    "mask_image_url": "mask",
}
_INTERNAL_FIELDS: Final = frozenset({"sync_mode", "openai_api_key"})
_BLOCK_KINDS: Final = frozenset({"content_policy_violation", "no_media_generated"})
# Documented as billed 0, whatever status they come with.
_UNBILLED_KINDS: Final = frozenset(
    {
        "internal_server_error",
        "generation_timeout",
        "downstream_service_error",
        "downstream_service_unavailable",
        "request_timeout",
        "startup_timeout",
        "runner_scheduling_failure",
        "runner_connection_timeout",
        "runner_connection_refused",
        "runner_connection_error",
        "runner_disconnected",
        "runner_incomplete_response",
        "runner_server_error",
        "internal_error",
    }
)
_UNITS: Final = re.compile(r"(\d{1,6})(?:\.(\d{1,12}))?", re.ASCII)
_IMAGE_TYPE: Final = re.compile(r"image/(png|jpeg|webp)")
_MAX_EDGE_PX: Final = 16_384


def read(reply: http.Reply, values: Mapping[str, str], *, n: int, deadline: float) -> Answer:
    """The answer of a run or of a finished job, whatever its status. Raises a ProviderError."""
    if not 200 <= reply.status < 300:
        fail(reply, values)
    found = _shared.json_object(reply, pictures_under="url") or {}
    items = found.get("images", [found.get("image")])
    flags = found.get("has_nsfw_concepts")
    if not isinstance(items, list):
        raise BadAnswer("The provider's answer holds no images.", **facts_of(reply))
    flagged = {index for index, flag in enumerate(flags if isinstance(flags, list) else ()) if flag is True}
    kept = [item for index, item in enumerate(items[:n]) if index not in flagged and isinstance(item, dict)]
    if not kept and flagged:
        raise Blocked("The provider's safety check blocked the result.", **facts_of(reply))
    found_pictures = [
        _shared.linked_picture(item.get("url"), deadline=deadline, may_fetch=_may_fetch(values)) for item in kept
    ]
    pictures = [picture for picture in found_pictures if picture]
    if not pictures:
        raise BadAnswer("The provider's answer holds no images.", **facts_of(reply))
    units = reply.headers.get("x-fal-billable-units")
    evidence: dict[str, Any] = {"billable_units": units[:64] if units is not None else None}
    if len(items) != n or len(pictures) != n:
        evidence.update(
            pictures_asked=n, pictures_received=len(items), pictures_usable=len(pictures), blocked=len(flagged)
        )
    return Answer(
        pictures=pictures,
        billable_units_micros=_micros(units),
        request_id=facts_of(reply)["request_id"],
        evidence=evidence,
        effective=_effective(kept),
    )


def _may_fetch(values: Mapping[str, str]) -> Callable[[str], bool]:
    """Whether result files may come from an address."""
    return lambda address: _shared.is_result_host(address, domain="fal.media", values=values, defaults=BASE_URLS)


def _micros(text: str | None) -> int | None:
    """Billable units, decimal text, in micro-units; None for anything that is not a plain decimal."""
    match = _UNITS.fullmatch(text.strip()) if text is not None else None
    if match is None:
        return None
    return money.divide_half_even(int(match[1] + (match[2] or "").ljust(12, "0")), 10**6)


def _effective(items: list[dict[str, Any]]) -> dict[str, str]:
    """The size and format that all pictures of an answer share, where it tells them."""
    found: dict[str, str] = {}
    edges = {(_edge(item.get("width")), _edge(item.get("height"))) for item in items}
    width, height = edges.pop()
    if not edges and width and height:
        found["size"] = f"{width}x{height}"
    kinds = {_shared.word(item.get("content_type")) for item in items}
    if len(kinds) == 1 and (match := _IMAGE_TYPE.fullmatch(kinds.pop() or "")):
        found["output_format"] = match[1]
    return found


def _edge(value: Any) -> int | None:
    return _shared.count(value, at_most=_MAX_EDGE_PX)


# Errors


def facts_of(reply: http.Reply) -> dict[str, Any]:
    """What names a reply in the log."""
    return {"http_status": reply.status, "request_id": _shared.word(reply.headers.get("x-fal-request-id"))}


def tidy(text: Any, values: Mapping[str, str]) -> str:
    """fal's message made fit to show."""
    secret = values["FAL_KEY"]
    return _shared.tidy(text, fallback="The provider refused the request.", secrets=(secret, *secret.split(":")[1:]))


def fail(reply: http.Reply, values: Mapping[str, str]) -> NoReturn:
    """Both families of errors: a list of model errors judged by `type`, or a platform error with an `error_type`."""
    body = _shared.json_object(reply) or {}
    detail = body.get("detail")
    entries = [entry for entry in detail[:20] if isinstance(entry, dict)] if isinstance(detail, list) else []
    entry = entries[0] if entries else {}
    message = tidy(entry.get("msg") if entries else detail, values)
    kinds = {_shared.word(one.get("type")) for one in entries}
    kinds |= {_shared.word(body.get("error_type")), _shared.word(reply.headers.get("x-fal-error-type"))}
    facts = facts_of(reply)
    raise_kind(kinds, message, facts)
    if reply.status in (404, 410):
        raise ModelGone("The provider does not serve this model.", **facts)
    if reply.status in (400, 413, 422) and (entries or isinstance(detail, str)):
        raise InvalidInput(message, param=_param(entry.get("loc")), **facts)
    _shared.raise_common(reply, request_id=facts["request_id"])


def raise_kind(kinds: set[str | None], message: str, facts: Mapping[str, Any]) -> None:
    """What a kind of error says beyond doubt, wherever it is found."""
    if kinds & _BLOCK_KINDS:
        raise Blocked(message, **facts)
    if kinds & _UNBILLED_KINDS:
        raise Unavailable("The provider could not do the job.", **facts)


def _param(loc: Any) -> str | None:
    """The field of a model error in OpenAI's names; None for one the caller never wrote."""
    field = _shared.word(loc[1]) if isinstance(loc, list) and len(loc) > 1 and loc[0] == "body" else None
    return None if field in _INTERNAL_FIELDS else _OPENAI_NAMES.get(field or "", field)
