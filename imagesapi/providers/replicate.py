"""Replicate: predictions that are submitted, waited for and asked about; each model has its own names for its input."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from typing import Any, Final, NoReturn

import pybase64

from core import http
from imagesapi.providers import _shared
from imagesapi.providers.base import (
    BadAnswer,
    Blocked,
    Call,
    Cancelled,
    InvalidInput,
    ModelGone,
    ProviderError,
    Setting,
    TimedOut,
    Unavailable,
)
from imagesapi.values import Answer, Fitted, InputImage, Offer

_BASE: Final = Setting("REPLICATE_BASE_URL", default="https://api.replicate.com/v1", is_base_url=True)
SETTINGS: Final = (Setting("REPLICATE_API_TOKEN", secret=True, required=True), _BASE)

FILE_DOMAIN: Final = "replicate.delivery"
# The adapter writes these itself, or they would change what its answer looks like and where it goes.
_OWN_FIELDS: Final = frozenset(
    {"prompt", "aspect_ratio", "width", "height", "num_outputs", "output_format", "output_quality", "mask"}
)
_FORMATS: Final = {"jpeg": "jpg"}
_OPENAI_NAMES: Final = {
    "num_outputs": "n",
    "width": "size",
    "height": "size",
    "output_quality": "output_compression",
    "input_image": "image",
    "input_images": "image",
    "image_prompt": "image",
}
# A failed prediction tells only by its text that the content was refused.
_REFUSED_TEXT: Final = re.compile(
    r"nsfw|flagged|sensitive|moderat|safety|content polic|prohibited content|\bE005\b", re.IGNORECASE
)
_FIELD: Final = re.compile(r"\binput\.([a-z_]{1,40}?)(?:_\d+)?\b", re.ASCII)
_PICTURE_FIELD: Final = "image"
_MASK_FIELD: Final = "mask"
_MOST_PICTURES: Final = 4
# While the service holds its first answer back, the prediction can be neither remembered nor cancelled.
_LONGEST_WAIT_S: Final = 10
_SHORTEST_LIFE_S: Final = 5
_STOPPED_STATES: Final = ("canceled", "aborted")
_FIRST_POLL_S: Final = 0.25
_SLOWEST_POLL_S: Final = 1.0
_ONE_POLL_S: Final = 10.0
# Kept back from the deadline to cancel a prediction and hear what became of it.
_CANCEL_RESERVE_S: Final = 2.0
# A front that stopped waiting for the service behind it: the prediction may run.
_GATEWAY_TIMEOUTS: Final = frozenset({504, 524})
_LONGEST_PREDICTION_S: Final = 86_400


def build(fitted: Fitted, offer: Offer) -> dict[str, Any]:
    """The body of POST models/{owner}/{name}/predictions, without an edit's pictures."""
    able = offer.capabilities
    asked = {
        name: value
        for name, value in fitted.extras.items()
        if name in able.extras and name not in _OWN_FIELDS and value is not None
    }
    if fitted.prompt:
        asked["prompt"] = fitted.prompt
    asked.update(_size(fitted, offer))
    if able.max_n > 1:
        asked["num_outputs"] = fitted.n
    if able.output_formats:
        asked["output_format"] = _FORMATS.get(fitted.output_format, fitted.output_format)
    if fitted.output_compression is not None:
        asked["output_quality"] = fitted.output_compression
    if fitted.quality is not None:
        asked["quality"] = fitted.quality
    if fitted.background is not None:
        asked["background"] = fitted.background
    if fitted.scale_factor is not None:
        asked["scale"] = fitted.scale_factor
    return {"input": asked}


def _size(fitted: Fitted, offer: Offer) -> dict[str, Any]:
    able = offer.capabilities
    if fitted.scale_factor is not None or (able.edits and able.edits.keeps_size and fitted.operation == "edit"):
        return {}
    if able.size_style == "ratio":
        found = {"aspect_ratio": fitted.aspect_ratio, "resolution": fitted.resolution}
        return {
            name: value
            for name, value in found.items()
            if value is not None and (name == "aspect_ratio" or len(able.ratio_sizes) > 1)
        }
    if able.size_style == "enum":
        return {"size": fitted.size} if able.sizes else {}
    if fitted.pixels is None:
        return {}
    width, height = fitted.pixels
    # A model that has ratios as well takes pixels only with this word.
    custom = {"aspect_ratio": "custom"} if "aspect_ratio" in able.extras else {}
    return {"width": width, "height": height, **custom}


def run(call: Call) -> Answer:
    """Submit, wait, and return the pictures; a prediction nobody wants any more is cancelled."""
    values = call.offer.connection.settings
    found, facts = _submit(call)
    job = _job(found, values)
    if job is not None:
        _remember(call, job)
    give_up_at = call.deadline - min(_CANCEL_RESERVE_S, (call.deadline - time.monotonic()) / 4)
    wait_s = _FIRST_POLL_S
    while (answer := _judge(found, values, n=call.fitted.n, deadline=call.deadline)) is None:
        if job is None:
            raise _unusable(facts)
        now = time.monotonic()
        if now >= give_up_at or call.cancelled():
            return _abandon(job, call)
        time.sleep(min(wait_s, give_up_at - now))
        wait_s = min(wait_s * 1.5, _SLOWEST_POLL_S)
        found = _look(job, values, max_bytes=_most_bytes(call), deadline=give_up_at) or {}
    return answer


def resume(offer: Offer, reference: Mapping[str, Any], deadline: float) -> Answer | None:
    """The answer of a prediction submitted before a crash, None while it runs or cannot be asked about."""
    values = offer.connection.settings
    job = _checked(reference, values)
    if job is None:
        raise BadAnswer("The stored reference does not name a prediction of the provider.")
    max_bytes = _MOST_PICTURES * _shared.MAX_PICTURE_BYTES
    found = _look(job, values, max_bytes=max_bytes, deadline=deadline)
    return None if found is None else _judge(found, values, n=_MOST_PICTURES, deadline=deadline)


def _unusable(facts: Mapping[str, Any]) -> BadAnswer:
    return BadAnswer("The provider answered without a usable prediction.", **facts)


def _authorization(values: Mapping[str, str]) -> dict[str, str]:
    return {"Authorization": f"Bearer {values['REPLICATE_API_TOKEN']}"}


def _most_bytes(call: Call) -> int:
    """Pictures may come inline, and the answer repeats the input."""
    return _shared.answer_bytes(call) + _shared.SMALL_ANSWER_BYTES + 2 * sum(len(one.data) for one in _given(call))


# Submitting


def _submit(call: Call) -> tuple[dict[str, Any], dict[str, Any]]:
    """The prediction as the service first tells of it, and the facts of its answer."""
    values, offer = call.offer.connection.settings, call.offer
    model = (offer.edit_wire_id if call.fitted.operation == "edit" else "") or offer.wire_id
    left_s = call.deadline - time.monotonic()
    wait_s = min(_LONGEST_WAIT_S, int(left_s - _CANCEL_RESERVE_S))
    reply = _shared.send(
        "POST",
        f"{values['REPLICATE_BASE_URL'].rstrip('/')}/models/{model}/predictions",
        deadline=call.deadline,
        max_bytes=_most_bytes(call),
        headers={
            **_authorization(values),
            # It then ends by itself even if we cannot end it.
            "Cancel-After": f"{max(math.ceil(left_s), _SHORTEST_LIFE_S)}s",
            **({"Prefer": f"wait={wait_s}"} if wait_s >= 1 else {}),
        },
        body=_with_pictures(call),
    )
    if not 200 <= reply.status < 300:
        _fail(reply, values)
    facts: dict[str, Any] = {"http_status": reply.status}
    found = _shared.json_object(reply, pictures_under="output")
    if found is None:
        raise _unusable(facts)
    return found, facts


def _given(call: Call) -> list[InputImage]:
    return [*call.fitted.images, *([call.fitted.mask] if call.fitted.mask else [])]


def _with_pictures(call: Call) -> Mapping[str, Any]:
    """The body with an edit's pictures as data URIs in the fields the offer names: `input_image mask`, for example.

    Further pictures go to `input_image_2` and so on; a field in the plural takes them all as a list.
    """
    if not _given(call):
        return call.body
    edits = call.offer.capabilities.edits
    field, _, mask_field = (edits.image_field if edits and edits.image_field else _PICTURE_FIELD).partition(" ")
    pictures = [_data_uri(one) for one in call.fitted.images]
    asked: dict[str, Any] = dict(call.body["input"])
    if field.endswith("s"):
        asked[field] = pictures
    else:
        asked.update({field if index == 1 else f"{field}_{index}": one for index, one in enumerate(pictures, start=1)})
    if call.fitted.mask is not None:
        asked[mask_field or _MASK_FIELD] = _data_uri(call.fitted.mask)
    return {**call.body, "input": asked}


def _data_uri(image: InputImage) -> str:
    return f"data:{image.content_type};base64,{pybase64.b64encode_as_string(image.data)}"


def _job(found: Mapping[str, Any], values: Mapping[str, str]) -> dict[str, Any] | None:
    """What is remembered of a prediction; None when it cannot be asked about."""
    urls = found.get("urls")
    if not isinstance(urls, dict):
        return None
    told = {"request_id": found.get("id"), "get_url": urls.get("get"), "cancel_url": urls.get("cancel")}
    return _checked(told, values)


def _checked(told: Mapping[str, Any], values: Mapping[str, str]) -> dict[str, Any] | None:
    """A reference whose addresses are on the service's own host; None when one is missing or elsewhere."""
    home = _shared.place(values["REPLICATE_BASE_URL"])
    job: dict[str, Any] = {"request_id": _shared.word(told.get("request_id"))}
    for name in ("get_url", "cancel_url"):
        address = told.get(name)
        if home is None or not isinstance(address, str) or len(address) > _shared.MAX_ADDRESS_CHARS:
            return None
        if _shared.place(address) != home:
            return None
        job[name] = address
    return job


def _remember(call: Call, job: dict[str, Any]) -> None:
    try:
        call.remember(job)
    except BaseException:
        _cancel(job, call.offer.connection.settings, deadline=call.deadline)
        raise


# Asking and cancelling


def _look(
    job: Mapping[str, Any], values: Mapping[str, str], *, max_bytes: int, deadline: float
) -> dict[str, Any] | None:
    """The prediction as it stands, None when it could not be asked just now; BadAnswer when it is known no more."""
    try:
        reply = _shared.send(
            "GET",
            job["get_url"],
            deadline=min(deadline, time.monotonic() + _ONE_POLL_S),
            max_bytes=max_bytes,
            headers=_authorization(values),
        )
    except (Unavailable, TimedOut):
        return None
    if reply.status >= 500 or reply.status in (408, 429):
        return None
    found = _shared.json_object(reply, pictures_under="output")
    if not 200 <= reply.status < 300 or found is None:
        raise BadAnswer("The provider no longer tells about the prediction.", **_facts(reply, job))
    return found


def _judge(found: Mapping[str, Any], values: Mapping[str, str], *, n: int, deadline: float) -> Answer | None:
    """The answer of a prediction that ended, None while it runs; raises the error of one that failed."""
    facts: dict[str, Any] = {"request_id": _shared.word(found.get("id"))}
    match found.get("status"):
        case "succeeded":
            return _answer(found, values, n=n, deadline=deadline)
        case "failed":
            message = _tidy(found.get("error"), values)
            if _REFUSED_TEXT.search(message):
                raise Blocked(message, **facts)
            raise Unavailable(f"The provider's prediction failed: {message}", **facts)
        case "aborted":
            raise Unavailable("The provider's prediction ended before it began.", **facts)
        case "canceled":
            # The service may bill what ran until then.
            raise TimedOut("The provider's prediction was cancelled while it ran.", **facts)
    return None


def _abandon(job: Mapping[str, Any], call: Call) -> Answer:
    """Cancel, and see what comes of it until the deadline: a result of the last moment is taken."""
    values, unwanted = call.offer.connection.settings, call.cancelled()
    _cancel(job, values, deadline=call.deadline)
    while time.monotonic() < call.deadline:
        found = _look(job, values, max_bytes=_most_bytes(call), deadline=call.deadline) or {}
        if unwanted and found.get("status") in _STOPPED_STATES:
            raise Cancelled("The provider stopped the prediction.", request_id=job["request_id"])
        answer = _judge(found, values, n=call.fitted.n, deadline=call.deadline)
        if answer is not None:
            return answer
        time.sleep(min(_FIRST_POLL_S, max(call.deadline - time.monotonic(), 0)))
    raise TimedOut("The provider did not answer in time.", request_id=job["request_id"])


def _cancel(job: Mapping[str, Any], values: Mapping[str, str], *, deadline: float) -> None:
    """Wish for the end of a prediction; one that is about to finish may still do so."""
    try:
        _shared.send(
            "POST",
            job["cancel_url"],
            deadline=deadline,
            max_bytes=_shared.SMALL_ANSWER_BYTES,
            headers=_authorization(values),
        )
    except ProviderError:
        return


# Answers


def _answer(found: Mapping[str, Any], values: Mapping[str, str], *, n: int, deadline: float) -> Answer:
    output, request_id = found.get("output"), _shared.word(found.get("id"))
    items = output if isinstance(output, list) else [output] if output else []

    def may_fetch(address: str) -> bool:
        return _shared.is_result_host(address, domain=FILE_DOMAIN, values=values, defaults={_BASE.name: _BASE.default})

    pictures = [
        picture
        for item in items[:n]
        if (picture := _shared.linked_picture(item, deadline=deadline, may_fetch=may_fetch))
    ]
    if not pictures:
        raise BadAnswer("The provider's answer holds no images.", request_id=request_id)
    evidence: dict[str, Any] = {"prediction_id": request_id, "predict_time_s": _predict_time_s(found)}
    if len(items) != n or len(pictures) != n:
        evidence.update(pictures_asked=n, pictures_received=len(items), pictures_usable=len(pictures))
    return Answer(pictures=pictures, request_id=request_id, evidence=evidence)


def _predict_time_s(found: Mapping[str, Any]) -> str | None:
    """How long the model ran, as text: what time-priced models are billed by."""
    metrics = found.get("metrics")
    value = metrics.get("predict_time") if isinstance(metrics, dict) else None
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= _LONGEST_PREDICTION_S:
        return None
    return f"{value:.6f}"


# Errors


def _facts(reply: http.Reply, job: Mapping[str, Any] | None = None) -> dict[str, Any]:
    return {"http_status": reply.status, "request_id": job["request_id"] if job else None}


def _tidy(text: Any, values: Mapping[str, str]) -> str:
    return _shared.tidy(text, fallback="The provider gave no reason.", secrets=(values["REPLICATE_API_TOKEN"],))


def _fail(reply: http.Reply, values: Mapping[str, str]) -> NoReturn:
    """Problem details: a title, a detail, and the fields that are wrong."""
    body = _shared.json_object(reply) or {}
    detail, facts = body.get("detail"), _facts(reply)
    if reply.status in (404, 410):
        raise ModelGone("The provider does not serve this model.", **facts)
    if reply.status in (400, 413, 422) and isinstance(detail, str):
        message = _tidy(detail, values)
        if _REFUSED_TEXT.search(message):
            raise Blocked(message, **facts)
        raise InvalidInput(message, param=_param(detail), **facts)
    if reply.status in _GATEWAY_TIMEOUTS and detail is None:
        raise TimedOut("The provider did not answer in time.", **facts)
    _shared.raise_common(reply, request_id=None)


def _param(detail: str) -> str | None:
    """The first field that the detail names, in OpenAI's names."""
    match = _FIELD.search(detail[:2_000])
    return _OPENAI_NAMES.get(match[1], match[1]) if match else None
