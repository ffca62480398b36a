"""fal.ai: models called by one long run or through its queue, the pictures inline; one grammar for all its models."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any, Final, NoReturn

from core import http, money
from imagesapi.providers import _shared
from imagesapi.providers.base import (
    BadAnswer,
    Blocked,
    Call,
    InvalidInput,
    ModelGone,
    ProviderError,
    Setting,
    TimedOut,
    Unavailable,
)
from imagesapi.values import Answer, Fitted, Offer, Picture

SETTINGS: Final = (
    Setting("FAL_KEY", secret=True, required=True),
    Setting("FAL_RUN_URL", default="https://fal.run", is_base_url=True),
    Setting("FAL_QUEUE_URL", default="https://queue.fal.run", is_base_url=True),
    Setting("FAL_MODE", default="run"),  # "run" or "queue"
)

_OWN_FIELDS: Final = frozenset(
    {"prompt", "image_size", "num_images", "quality", "background", "output_format", "sync_mode", "openai_api_key"}
)
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
_DATA_URI: Final = re.compile(r"data:image/[a-z+.-]{1,20};base64", re.ASCII)
_IMAGE_TYPE: Final = re.compile(r"image/(png|jpeg|webp)")
_MAX_EDGE_PX: Final = 16_384
_MOST_PICTURES: Final = 4
_FIRST_POLL_S: Final = 0.25
_SLOWEST_POLL_S: Final = 1.0
_ONE_POLL_S: Final = 10.0
# Kept back from the deadline to cancel a job and hear what became of it.
_CANCEL_RESERVE_S: Final = 2.0


def build(fitted: Fitted, offer: Offer) -> dict[str, Any]:
    """The flat input object of a model; every picture comes inline, so nothing is left in fal's storage."""
    able = offer.capabilities
    body = {
        name: value
        for name, value in fitted.extras.items()
        if name in able.extras and name not in _OWN_FIELDS and value is not None
    }
    body.update(prompt=fitted.prompt, sync_mode=True)
    if able.max_n > 1:
        body["num_images"] = fitted.n
    if able.size_style == "enum":
        if able.sizes:
            body["image_size"] = fitted.size
    else:
        pixels = fitted.pixels
        body["image_size"] = {"width": pixels[0], "height": pixels[1]} if pixels else "auto"
    if able.output_formats:
        body["output_format"] = fitted.output_format
    if fitted.quality is not None:
        body["quality"] = fitted.quality
    if fitted.background is not None:
        body["background"] = fitted.background
    return body


def run(call: Call) -> Answer:
    """Make the call, by one run or through the queue as FAL_MODE says, and return its pictures."""
    values = call.offer.connection.settings
    if values.get("FAL_MODE") == "queue":
        return _by_queue(call)
    reply = _shared.send(
        "POST",
        f"{values['FAL_RUN_URL'].rstrip('/')}/{call.offer.wire_id}",
        deadline=call.deadline,
        max_bytes=_shared.answer_bytes(call),
        headers=_authorization(values),
        body=call.body,
    )
    return _answer(reply, values, n=call.fitted.n, deadline=call.deadline)


def resume(offer: Offer, reference: Mapping[str, Any], deadline: float) -> Answer | None:
    """The answer of a job submitted before a crash, None while it runs or cannot be asked about."""
    values = offer.connection.settings
    if _job(reference, values) is None:
        raise BadAnswer("The stored reference does not name a job on the provider's queue.")
    max_bytes = _MOST_PICTURES * _shared.MAX_PICTURE_BYTES
    return _ask(reference, values, n=_MOST_PICTURES, max_bytes=max_bytes, deadline=deadline)


def _authorization(values: Mapping[str, str]) -> dict[str, str]:
    return {"Authorization": f"Key {values['FAL_KEY']}"}


# The queue


def _by_queue(call: Call) -> Answer:
    values, n, max_bytes = call.offer.connection.settings, call.fitted.n, _shared.answer_bytes(call)
    job = _submit(call)
    try:
        call.remember(job)
    except BaseException:
        _cancel(job, values, deadline=call.deadline)
        raise
    give_up_at = call.deadline - min(_CANCEL_RESERVE_S, (call.deadline - time.monotonic()) / 4)
    wait_s = _FIRST_POLL_S
    while (now := time.monotonic()) < give_up_at:
        answer = _ask(job, values, n=n, max_bytes=max_bytes, deadline=give_up_at)
        if answer is not None:
            return answer
        time.sleep(min(wait_s, max(give_up_at - now, 0)))
        wait_s = min(wait_s * 1.5, _SLOWEST_POLL_S)
    return _abandon(job, call, n=n, max_bytes=max_bytes)


def _submit(call: Call) -> dict[str, Any]:
    values = call.offer.connection.settings
    start_within_s = max(int(call.deadline - time.monotonic()), 2)
    reply = _shared.send(
        "POST",
        f"{values['FAL_QUEUE_URL'].rstrip('/')}/{call.offer.wire_id}",
        deadline=call.deadline,
        max_bytes=_shared.SMALL_ANSWER_BYTES,
        # Without these the queue tries again by itself, and a success after our failover is paid as well.
        headers={
            **_authorization(values),
            "x-fal-no-retry": "1",
            "x-fal-request-timeout": str(start_within_s),
        },
        body=call.body,
    )
    if not 200 <= reply.status < 300:
        _fail(reply, values)
    job = _job(_shared.json_object(reply) or {}, values)
    if job is None:
        raise BadAnswer("The provider's queue answered without a usable job.", **_facts(reply))
    return job


def _job(found: Mapping[str, Any], values: Mapping[str, str]) -> dict[str, Any] | None:
    """The addresses of a job, each on the queue's own host; None when one is missing or elsewhere."""
    home = _shared.place(values["FAL_QUEUE_URL"])
    job: dict[str, Any] = {"request_id": _shared.word(found.get("request_id"))}
    for name in ("status_url", "response_url", "cancel_url"):
        address = found.get(name)
        if home is None or not isinstance(address, str) or len(address) > 2_000 or _shared.place(address) != home:
            return None
        job[name] = address
    return job


def _ask(
    job: Mapping[str, Any], values: Mapping[str, str], *, n: int, max_bytes: int, deadline: float
) -> Answer | None:
    """The job's answer once it has one; None while it runs or when asking failed in a way that may pass."""
    status = _state(job, values, deadline=deadline)
    if status is None or status.get("status") != "COMPLETED":
        return None
    try:
        reply = _shared.send(
            "GET", job["response_url"], deadline=deadline, max_bytes=max_bytes, headers=_authorization(values)
        )
    except (Unavailable, TimedOut):
        return None
    if _is_front_trouble(reply):
        return None
    kind = _shared.word(status.get("error_type"))
    if 200 <= reply.status < 300 and (status.get("error") or kind):
        _raise_kind({kind}, _tidy(status.get("error"), values), _facts(reply))
        raise BadAnswer("The provider's job both failed and has a result.", **_facts(reply))
    return _answer(reply, values, n=n, deadline=deadline)


def _state(job: Mapping[str, Any], values: Mapping[str, str], *, deadline: float) -> dict[str, Any] | None:
    """What the queue says of a job, None when it could not be asked just now; BadAnswer when it knows it no more."""
    try:
        reply = _shared.send(
            "GET",
            job["status_url"],
            deadline=min(deadline, time.monotonic() + _ONE_POLL_S),
            max_bytes=_shared.SMALL_ANSWER_BYTES,
            headers=_authorization(values),
        )
    except (Unavailable, TimedOut):
        return None
    if reply.status >= 500 or reply.status in (408, 429):
        return None
    found = _shared.json_object(reply)
    if not 200 <= reply.status < 300 or found is None:
        raise BadAnswer("The provider's queue no longer tells about the job.", **_facts(reply))
    return found


def _is_front_trouble(reply: http.Reply) -> bool:
    """A result that did not come from the job: its own errors carry a `detail` or an error kind, a proxy's do not."""
    if reply.status in (408, 429):
        return True
    return (
        reply.status >= 500
        and "x-fal-error-type" not in reply.headers
        and "detail" not in (_shared.json_object(reply) or {})
    )


def _abandon(job: Mapping[str, Any], call: Call, *, n: int, max_bytes: int) -> Answer:
    """Cancel at the deadline. Unbilled only when the queue then says that the job ended without a result."""
    values = call.offer.connection.settings
    accepted = _cancel(job, values, deadline=call.deadline)
    late = TimedOut("The provider did not answer in time.", request_id=job.get("request_id"))
    try:
        answer = _ask(job, values, n=n, max_bytes=max_bytes, deadline=call.deadline)
    except Blocked:
        raise
    except ProviderError as error:
        if error.possibly_billed and not (accepted and error.http_status == 404):
            raise late from error
        raise Unavailable("The provider was not done in time; the job was cancelled.") from error
    if answer is None:
        raise late
    return answer


def _cancel(job: Mapping[str, Any], values: Mapping[str, str], *, deadline: float) -> bool:
    """Whether the queue took the wish to cancel; a job that runs may still finish."""
    try:
        reply = _shared.send(
            "PUT",
            job["cancel_url"],
            deadline=deadline,
            max_bytes=_shared.SMALL_ANSWER_BYTES,
            headers=_authorization(values),
        )
    except ProviderError:
        return False
    return 200 <= reply.status < 300


# Answers


def _answer(reply: http.Reply, values: Mapping[str, str], *, n: int, deadline: float) -> Answer:
    if not 200 <= reply.status < 300:
        _fail(reply, values)
    found = _shared.json_object(reply, pictures_under="url") or {}
    items = found.get("images", [found.get("image")])
    flags = found.get("has_nsfw_concepts")
    if not isinstance(items, list):
        raise BadAnswer("The provider's answer holds no images.", **_facts(reply))
    flagged = {index for index, flag in enumerate(flags if isinstance(flags, list) else ()) if flag is True}
    kept = [item for index, item in enumerate(items[:n]) if index not in flagged and isinstance(item, dict)]
    if not kept and flagged:
        raise Blocked("The provider's safety check blocked the result.", **_facts(reply))
    pictures = [picture for item in kept if (picture := _picture(item.get("url"), values, deadline=deadline))]
    if not pictures:
        raise BadAnswer("The provider's answer holds no images.", **_facts(reply))
    units = reply.headers.get("x-fal-billable-units")
    evidence: dict[str, Any] = {"billable_units": units[:64] if units is not None else None}
    if len(items) != n or len(pictures) != n:
        evidence.update(
            pictures_asked=n, pictures_received=len(items), pictures_usable=len(pictures), blocked=len(flagged)
        )
    return Answer(
        pictures=pictures,
        billable_units_micros=_micros(units),
        request_id=_facts(reply)["request_id"],
        evidence=evidence,
        effective=_effective(kept),
    )


def _picture(address: Any, values: Mapping[str, str], *, deadline: float) -> Picture | None:
    head = bytes(address[:64]).decode("latin-1") if isinstance(address, memoryview) else str(address)[:64]
    comma = head.find(",")
    if comma > 0 and _DATA_URI.fullmatch(head, 0, comma):
        text = address[comma + 1 :]
        return Picture(b64=text) if _shared.is_picture_text(text) else None
    if not isinstance(address, str) or not _may_fetch(address, values):
        return None
    data = _shared.download(address, deadline=deadline)
    return Picture(data=data) if data is not None else None


def _may_fetch(address: str, values: Mapping[str, str]) -> bool:
    """Result files come from fal's own file hosts, or from the endpoint itself where the operator chose another."""
    place = _shared.place(address) if len(address) <= 2_000 else None
    if place is None:
        return False
    scheme, host, port = place
    if scheme == "https" and port == 443 and (host == "fal.media" or host.endswith(".fal.media")):
        return True
    defaults = {setting.name: setting.default for setting in SETTINGS if setting.is_base_url}
    chosen = {_shared.place(values[name]) for name, default in defaults.items() if values[name] != default}
    return place in chosen and (scheme == "https" or host in ("localhost", "127.0.0.1"))


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


def _facts(reply: http.Reply) -> dict[str, Any]:
    return {"http_status": reply.status, "request_id": _shared.word(reply.headers.get("x-fal-request-id"))}


def _tidy(text: Any, values: Mapping[str, str]) -> str:
    secret = values["FAL_KEY"]
    return _shared.tidy(text, fallback="The provider refused the request.", secrets=(secret, *secret.split(":")[1:]))


def _fail(reply: http.Reply, values: Mapping[str, str]) -> NoReturn:
    """Both families of errors: a list of model errors judged by `type`, or a platform error with an `error_type`."""
    body = _shared.json_object(reply) or {}
    detail = body.get("detail")
    entries = [entry for entry in detail[:20] if isinstance(entry, dict)] if isinstance(detail, list) else []
    entry = entries[0] if entries else {}
    message = _tidy(entry.get("msg") if entries else detail, values)
    kinds = {_shared.word(one.get("type")) for one in entries}
    kinds |= {_shared.word(body.get("error_type")), _shared.word(reply.headers.get("x-fal-error-type"))}
    facts = _facts(reply)
    _raise_kind(kinds, message, facts)
    if reply.status in (404, 410):
        raise ModelGone("The provider does not serve this model.", **facts)
    if reply.status in (400, 413, 422) and (entries or isinstance(detail, str)):
        raise InvalidInput(message, param=_param(entry.get("loc")), **facts)
    _shared.raise_common(reply, request_id=facts["request_id"])


def _raise_kind(kinds: set[str | None], message: str, facts: Mapping[str, Any]) -> None:
    if kinds & _BLOCK_KINDS:
        raise Blocked(message, **facts)
    if kinds & _UNBILLED_KINDS:
        raise Unavailable("The provider could not do the job.", **facts)


def _param(loc: Any) -> str | None:
    """The field of a model error in OpenAI's names; None for one the caller never wrote."""
    field = _shared.word(loc[1]) if isinstance(loc, list) and len(loc) > 1 and loc[0] == "body" else None
    return None if field in _INTERNAL_FIELDS else _OPENAI_NAMES.get(field or "", field)
