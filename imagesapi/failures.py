"""From how attempts ended to what the caller is told; the operator's trouble upstream is never shown as theirs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from core import errors, money
from imagesapi.admission import Try
from imagesapi.providers.base import Blocked, Cancelled, InvalidInput, RateLimited, TimedOut


@dataclass(frozen=True, slots=True)
class Ending:
    """How a generation without images ends: its status, and the error for the caller."""

    status: str
    error: errors.PixelparError


def ending(tries: Sequence[Try]) -> Ending:
    """What the last attempt decides, with every attempt named in the message."""
    last = tries[-1].error
    if isinstance(last, Cancelled):
        return Ending("cancelled", errors.RequestCancelled("The request was cancelled, and nothing was charged."))
    if isinstance(last, Blocked):
        return Ending("rejected", errors.ContentBlocked(last.message, code=last.error_code, details=last.details))
    if isinstance(last, InvalidInput):
        return Ending("rejected", errors.InvalidRequest(last.message, param=last.param, code=last.error_code))
    story = "; ".join(f"{attempt.candidate.offer.provider}: {attempt.error_code}" for attempt in tries)
    if isinstance(last, TimedOut):
        message = f"No answer came from the provider in time, and nothing was charged ({story})."
        return Ending("upstream_failure", errors.ProviderTimeout(message))
    if all(isinstance(attempt.error, RateLimited) for attempt in tries):
        wait_s = max((attempt.error.retry_after_s or 5) for attempt in tries if attempt.error)
        message = f"Every provider of this model is busy ({story}). Try again."
        return Ending("upstream_failure", errors.Overloaded(message, retry_after_s=wait_s))
    message = f"No provider of this model could deliver, and nothing was charged ({story})."
    return Ending("upstream_failure", errors.AllProvidersFailed(message))


def above_max_cost(hold_nanos: int, max_cost_nanos: int) -> errors.PixelparError:
    return errors.MaxCostExceeded(
        f"The request could cost up to ${money.decimal(hold_nanos)}, more than the ${money.decimal(max_cost_nanos)} of "
        "max_cost. Name a size and a quality to narrow it down, or raise max_cost.",
        param="max_cost",
    )


def store_is_down() -> errors.PixelparError:
    """For a picture that was made; whoever says so has logged why."""
    return _logged(errors.StorageFailed("The image was made and could not be stored; nothing was charged."))


def inputs_are_not_stored() -> errors.PixelparError:
    return _logged(errors.StorageUnavailable("The pictures could not be stored, and nothing was charged. Try again."))


def taken_over() -> errors.PixelparError:
    """Another process closed this generation while we worked: we were presumed dead."""
    return errors.Interrupted("The request was interrupted. Look it up by its id to see whether it was completed.")


def settlement_pending() -> errors.PixelparError:
    return _logged(
        errors.Interrupted(
            "The image was made and is kept, and the answer could not be completed. Look the request up by its id "
            "shortly."
        )
    )


def database_is_down() -> errors.PixelparError:
    """For a request that had begun: what a provider did for it may have cost something."""
    return _logged(
        errors.Interrupted(
            "The database failed while this was worked on, and without an image nothing is charged. Look it up by its "
            "id shortly."
        )
    )


def broke_off() -> errors.PixelparError:
    return _logged(errors.InternalError("Something went wrong on our side, and nothing was charged."))


def _logged(error: errors.PixelparError) -> errors.PixelparError:
    error.is_logged = True
    return error
