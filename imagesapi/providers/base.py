"""What every provider file is: its settings, how it writes a request, how it runs one, and the ways that can fail."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from imagesapi.values import Answer, Fitted, Offer, Partial


@dataclass(frozen=True, slots=True)
class Setting:
    """One value an adapter needs, by the name of its environment variable; a secret one is never shown."""

    name: str
    default: str = ""
    secret: bool = False
    required: bool = False
    is_base_url: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """One call about to be made.

    `fitted.n` is what this one call shall make. `body` is what `build` wrote; an edit's pictures are not in it: `run`
    adds them from `fitted.images`, `fitted.mask` and `fitted.markup`, so that no copy of them is kept with the plan.
    `on_partial` is set when `fitted.stream` is; a call that streams hands each unfinished picture to it at once.
    `cancelled` tells whether the caller wants no result any more: adapters that poll look at it and cancel upstream.
    `deadline` is on time.monotonic()'s clock. `remember` stores a provider's own job reference with the attempt, so
    that recovery can ask about a queued job after a crash; queue adapters call it right after submitting.
    """

    offer: Offer
    fitted: Fitted
    body: Mapping[str, Any]
    deadline: float
    generation_id: str
    remember: Callable[[dict[str, Any]], None]
    on_partial: Callable[[Partial], None] | None = None
    cancelled: Callable[[], bool] = lambda: False


class Adapter(Protocol):
    """A module in this package. `resume` exists only where `Call.remember` is used. One that serves several providers
    has `settings_for(slug, options)` beside an empty SETTINGS: its settings carry the provider's name."""

    SETTINGS: tuple[Setting, ...]

    def build(self, fitted: Fitted, offer: Offer) -> dict[str, Any]:
        """The provider's own JSON body for a fitted request, without input pictures. Pure: no clock, no network."""

    def run(self, call: Call) -> Answer:
        """Make the call and return its pictures, or raise a ProviderError."""

    def resume(self, offer: Offer, reference: Mapping[str, Any], deadline: float) -> Answer | None:
        """The answer of a job submitted before a crash, None while it runs; raises a ProviderError if it failed."""


class ProviderError(Exception):
    """A call that gave no picture. `possibly_billed` decides whether the attempt is `failed` or `unknown`."""

    may_fail_over = True
    possibly_billed = False
    refused = False
    code = "provider_error"

    def __init__(
        self,
        message: str,
        *,
        http_status: int | None = None,
        request_id: str | None = None,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: int | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.http_status = http_status
        self.request_id = request_id
        self.param = param
        self.error_code = code or self.code
        self.retry_after_s = retry_after_s
        self.details = details or {}


class Blocked(ProviderError):
    """The prompt or the result was refused for its content; another provider is not asked behind the caller's back."""

    may_fail_over = False
    refused = True
    code = "moderation_blocked"


class InvalidInput(ProviderError):
    """The provider says the request itself is wrong; `param` is in OpenAI's names."""

    may_fail_over = False
    refused = True
    code = "invalid_value"


class Cancelled(ProviderError):
    """The provider confirmed that it stopped a job which the caller had cancelled."""

    may_fail_over = False
    code = "cancelled"


class OperatorTrouble(ProviderError):
    """Our own key, quota or account at the provider: never shown to the caller as theirs."""

    code = "provider_account"


class RateLimited(ProviderError):
    code = "provider_rate_limited"


class ModelGone(ProviderError):
    code = "provider_model_gone"


class Unavailable(ProviderError):
    """Refused connections, 5xx and failures documented as unbilled."""

    code = "provider_unavailable"


class TimedOut(ProviderError):
    """No answer in time, or the connection broke after the request was sent: the outcome is unknown."""

    may_fail_over = False
    possibly_billed = True
    code = "provider_timeout"


class BadAnswer(ProviderError):
    """A success status with something that is not an answer: likely billed, nothing to deliver."""

    may_fail_over = False
    possibly_billed = True
    code = "provider_bad_answer"
