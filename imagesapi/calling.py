"""One attempt at one offer: as many provider calls as its pictures need, side by side, merged to one answer."""

from __future__ import annotations

import contextvars
import hashlib
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import structlog
from django.db import DatabaseError

from core import errors, faults, memory, sql
from imagesapi import delivery, imaging, pictures, providers
from imagesapi.admission import Try
from imagesapi.delivery import Kept
from imagesapi.providers.base import BadAnswer, Call, InvalidInput, ProviderError, Unavailable
from imagesapi.values import Adjustment, Answer, Fitted, ImageRequest, InputImage, Offer, Partial, Usage

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a call needs beside its offer; `remember` gets the number of the call and its job's reference."""

    request: ImageRequest
    generation_id: str
    deadline: float
    remember: Callable[[int | None, dict[str, Any]], None]
    on_partial: Callable[[Partial], None] | None = None
    cancelled: Callable[[], bool] = lambda: False


@dataclass(slots=True)
class _Part:
    """One call and how it went."""

    fitted: Fitted
    number: int | None  # None when it is the only one
    answer: Answer | None = None
    images: tuple[Kept, ...] = ()
    error: ProviderError | None = None
    duration_ms: int = 0

    def as_dict(self) -> dict[str, Any]:
        """For the attempt's row: what reconciliation needs to find this call on the provider's bill."""
        status = "succeeded" if self.error is None else "unknown" if self.error.possibly_billed else "failed"
        told = self.answer.request_id if self.answer else self.error.request_id if self.error else None
        return {
            "n": self.fitted.n,
            "status": status,
            "error_code": self.error.error_code if self.error else None,
            "provider_request_id": told,
            "duration_ms": self.duration_ms,
        }


def run(attempt: Try, surroundings: Surroundings) -> tuple[Answer, tuple[Kept, ...]]:
    """Make the calls and look at their pictures. Raises the ProviderError that decides when none brought any.

    What came short of the wish is told in the attempt's adjustments; several calls are noted in `attempt.parts`.
    """
    offer = attempt.candidate.offer
    started = time.monotonic()
    try:
        fitted = _made_ready(attempt.candidate.fitted, offer)
        parts = _split(fitted, offer)
        if len(parts) == 1:
            _call(parts[0], attempt, surroundings, body=attempt.candidate.body)
        else:
            _call_all(parts, attempt, surroundings)
    finally:
        attempt.duration_ms = round((time.monotonic() - started) * 1000)
    if len(parts) > 1:
        attempt.parts = [part.as_dict() for part in parts]
    _raise_if_empty(parts)
    images = _in_order(parts)
    _tell_shortfall(attempt, parts, delivered=len(images))
    return merged([part.answer for part in parts if part.answer]), images


def _split(fitted: Fitted, offer: Offer) -> list[_Part]:
    """One part for each call: full ones first, the rest in the last."""
    most = max(offer.capabilities.max_n, 1)
    if fitted.n <= most:
        return [_Part(fitted, None)]
    counts = [most] * (fitted.n // most) + ([fitted.n % most] if fitted.n % most else [])
    return [_Part(replace(fitted, n=count), number) for number, count in enumerate(counts)]


def _call_all(parts: list[_Part], attempt: Try, surroundings: Surroundings) -> None:
    with ThreadPoolExecutor(max_workers=len(parts), thread_name_prefix="calls") as pool:
        waiting = [
            pool.submit(contextvars.copy_context().run, _call_aside, part, attempt, surroundings) for part in parts
        ]
    for future in waiting:
        future.result()


def _call_aside(part: _Part, attempt: Try, surroundings: Surroundings) -> None:
    """A call among several, in its own thread: whatever happens to it is its own failure, not the others'."""
    offer = attempt.candidate.offer
    try:
        with memory.scope():
            _call(part, attempt, surroundings, body=providers.load(offer.adapter).build(part.fitted, offer))
    except DatabaseError as error:
        log.exception("a call's job could not be remembered")
        part.error = BadAnswer("the call could not be noted")
        part.error.__cause__ = error
    finally:
        sql.give_back()


def _call(part: _Part, attempt: Try, surroundings: Surroundings, *, body: Mapping[str, Any]) -> None:
    """One provider call, and its pictures looked at: garbage in a success is the provider's failure."""
    offer = attempt.candidate.offer
    started = time.monotonic()
    call = Call(
        offer=offer,
        fitted=part.fitted,
        body=body,
        deadline=surroundings.deadline,
        generation_id=surroundings.generation_id,
        remember=lambda reference: surroundings.remember(part.number, reference),
        on_partial=surroundings.on_partial if part.fitted.stream else None,
        cancelled=surroundings.cancelled,
    )
    try:
        faults.point("before_call")
        part.answer = providers.load(offer.adapter).run(call)
        faults.point("after_call")
        part.images = delivery.examine(part.answer, part.fitted, surroundings.request)
    except ProviderError as error:
        part.error = error
    except DatabaseError:
        raise
    except Exception as error:  # an adapter's bug must not become a lost hold or a 500
        log.exception("an adapter failed in a way it should not", adapter=offer.adapter)
        part.error = BadAnswer(f"{offer.provider_name}'s answer could not be understood")
        part.error.__cause__ = error
    finally:
        part.duration_ms = round((time.monotonic() - started) * 1000)
    if part.error is not None:
        part.answer, part.images = None, ()


def _raise_if_empty(parts: list[_Part]) -> None:
    """Without any picture the gravest failure decides: what may have been billed is never called unbilled."""
    if any(part.images for part in parts):
        return
    failures = [part.error for part in parts if part.error is not None]
    raise next((error for error in failures if error.possibly_billed), failures[0])


def _in_order(parts: list[_Part]) -> tuple[Kept, ...]:
    images = tuple(image for part in parts for image in part.images)
    for position, image in enumerate(images):
        image.position = position
    return images


def _tell_shortfall(attempt: Try, parts: list[_Part], *, delivered: int) -> None:
    """Fewer pictures than asked for: delivered and charged are those that came, and the caller is told."""
    candidate = attempt.candidate
    if delivered >= candidate.fitted.n:
        return
    failed = [part.error for part in parts if part.error is not None]
    reasons = ", ".join(sorted({error.error_code for error in failed}))
    why = f"{candidate.offer.provider_name} delivered {delivered} of {candidate.fitted.n}"
    change = Adjustment("n", candidate.fitted.n, delivered, f"{why} ({reasons})" if reasons else why)
    fitted = replace(candidate.fitted, adjustments=(*candidate.fitted.adjustments, change))
    attempt.candidate = replace(candidate, fitted=fitted)


def merged(answers: list[Answer]) -> Answer:
    """The answers of several calls as one, the calls in its evidence; a count that one of them lacks is nobody's."""
    if len(answers) == 1:
        return answers[0]
    usages = [answer.usage for answer in answers]
    units = [answer.billable_units_micros for answer in answers]
    costs = [answer.reported_cost_picos for answer in answers]
    shared = set.intersection(*(set(answer.effective.items()) for answer in answers))
    return Answer(
        pictures=[picture for answer in answers for picture in answer.pictures],
        usage=_summed([usage for usage in usages if usage is not None]) if all(usages) else None,
        billable_units_micros=sum(filter(None, units)) if None not in units else None,
        reported_cost_picos=sum(filter(None, costs)) if None not in costs else None,
        request_id=answers[0].request_id,
        evidence={
            "calls": [
                {"provider_request_id": answer.request_id, "pictures": len(answer.pictures), **answer.evidence}
                for answer in answers
            ]
        },
        effective=dict(shared),
    )


def _summed(usages: list[Usage]) -> Usage:
    return Usage(
        text_input_tokens=sum(usage.text_input_tokens for usage in usages),
        image_input_tokens=sum(usage.image_input_tokens for usage in usages),
        image_output_tokens=sum(usage.image_output_tokens for usage in usages),
        text_output_tokens=sum(usage.text_output_tokens for usage in usages),
    )


# Input pictures, as the offer takes them


def _made_ready(fitted: Fitted, offer: Offer) -> Fitted:
    """The caller's pictures in the kinds this provider takes: its sort of mask, its formats."""
    edits = offer.capabilities.edits
    if fitted.operation != "edit" or edits is None:
        return fitted
    try:
        mask = pictures.mask_for(fitted.mask, edits.mask) if fitted.mask is not None and edits.mask else None
        images = tuple(_as_taken(image, edits.input_formats) for image in fitted.images)
    except errors.Overloaded as error:
        raise Unavailable("No place was free to convert the input pictures.") from error
    except (imaging.NotAnImage, ValueError) as error:
        raise InvalidInput(
            "The picture could not be converted to a kind that this provider takes.",
            param="image",
            code="invalid_image_file",
        ) from error
    return replace(fitted, mask=mask, images=images)


def _as_taken(image: InputImage, formats: tuple[str, ...]) -> InputImage:
    if not image.data or image.content_type.removeprefix("image/") in formats:
        return image
    wanted = "png" if "png" in formats else formats[0]
    data = pictures.convert(image.data, to=wanted, compression=None)
    digest = hashlib.sha256(data).hexdigest()
    return replace(image, data=data, content_type=f"image/{wanted}", sha256=digest)
