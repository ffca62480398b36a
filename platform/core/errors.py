"""The one tree of errors a caller can meet: each class fixes an HTTP status, OpenAI's `type` and a stable `code`."""

from __future__ import annotations

from typing import Any, ClassVar


class PixelparError(Exception):
    """Base of everything we refuse or fail at on purpose; rendered as OpenAI's envelope or as a page."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    code: ClassVar[str] = "internal_error"
    # A stock SDK sends a POST again on 409, 429 and 5xx unless this says no.
    should_retry: ClassVar[bool | None] = None
    # For those that say when to come again even where nobody knows it better: all of 429 and 503.
    retry_after_default_s: ClassVar[int | None] = None

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: int | None = None,
        details: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.error_code = code or self.code
        self.retry_after_s = self.retry_after_default_s if retry_after_s is None else retry_after_s
        self.details = details or {}
        # Set by whoever has already written the one line that our log gets about it.
        self.is_logged = False
        self.more_headers = headers or {}

    def envelope(self) -> dict[str, Any]:
        """OpenAI's error object: the four keys always, then what this error adds (limits, categories)."""
        return {
            "error": {
                "message": self.message,
                "type": self.type,
                "param": self.param,
                "code": self.error_code,
                **self.details,
            }
        }

    def headers(self) -> dict[str, str]:
        """Retry-After (kept below 60 s: one SDK obeys any value), x-should-retry, and what this error adds."""
        found = dict(self.more_headers)
        if self.retry_after_s is not None:
            found["Retry-After"] = str(min(max(self.retry_after_s, 1), 59))
        if self.should_retry is not None:
            found["x-should-retry"] = "true" if self.should_retry else "false"
        return found


class InvalidRequest(PixelparError):
    status, type, code = 400, "invalid_request_error", "invalid_value"


class MalformedBody(InvalidRequest):
    code = "invalid_json"


class MalformedForm(MalformedBody):
    code = "invalid_multipart"


class MissingParameter(InvalidRequest):
    code = "missing_required_parameter"


class UnknownParameter(InvalidRequest):
    code = "unknown_parameter"


class Unpriced(InvalidRequest):
    code = "unpriced"


class ContentBlocked(PixelparError):
    status, type, code = 400, "image_generation_user_error", "moderation_blocked"


class InvalidApiKey(PixelparError):
    status, type, code = 401, "invalid_request_error", "invalid_api_key"


class PaymentRequired(PixelparError):
    status, type, code = 402, "insufficient_quota", "insufficient_balance"


class BudgetReached(PaymentRequired):
    code = "billing_hard_limit_reached"


class MaxCostExceeded(PaymentRequired):
    code = "max_cost_exceeded"


class MalformedHttp(PixelparError):
    """What came is no HTTP that the server can read, so there is no request that anything else could be said of."""

    status, type, code = 400, "invalid_request_error", "invalid_request"


class PermissionDenied(PixelparError):
    status, type, code = 403, "invalid_request_error", "permission_denied"


class NotFound(PixelparError):
    status, type, code = 404, "invalid_request_error", "not_found"


class ModelNotFound(NotFound):
    code = "model_not_found"


class ModelRetired(NotFound):
    code = "model_retired"


class MethodNotAllowed(PixelparError):
    status, type, code = 405, "invalid_request_error", "method_not_allowed"


class NotFinished(PixelparError):
    """It will be possible once the request has come to its end."""

    status, type, code = 409, "invalid_request_error", "not_finished"


class InProgress(PixelparError):
    """The same request is still being worked on, or is not yet what it must be for this."""

    status, type, code = 409, "invalid_request_error", "request_in_progress"


class AlreadyFinished(PixelparError):
    status, type, code = 409, "invalid_request_error", "already_finished"


class RequestCancelled(PixelparError):
    status, type, code = 409, "invalid_request_error", "cancelled"
    should_retry = False


class Gone(PixelparError):
    status, type, code = 410, "invalid_request_error", "request_purged"


class BodyTooLarge(PixelparError):
    status, type, code = 413, "invalid_request_error", "request_too_large"


class UnsupportedMediaType(PixelparError):
    status, type, code = 415, "invalid_request_error", "unsupported_media_type"


class KeyReused(PixelparError):
    status, type, code = 422, "invalid_request_error", "idempotency_key_reused"


class TooManyRequests(PixelparError):
    status, type, code = 429, "requests", "rate_limit_exceeded"
    retry_after_default_s = 5


class PlaygroundClosed(TooManyRequests):
    """The credit that visitors share is spent for today: trying again soon does not help."""

    code = "playground_closed"
    should_retry = False


class InternalError(PixelparError):
    """Our own fault; the details are in our log, found by the request id."""

    should_retry = False


class AllProvidersFailed(PixelparError):
    status, type, code = 502, "server_error", "all_providers_failed"
    should_retry = False


class Overloaded(PixelparError):
    status, type, code = 503, "server_error", "overloaded"
    retry_after_default_s = 5


class StorageUnavailable(PixelparError):
    """Pictures cannot be kept just now, which was noticed before anything was done."""

    status, type, code = 503, "server_error", "storage_unavailable"
    retry_after_default_s = 5


class StorageFailed(StorageUnavailable):
    """A picture could not be kept once it was there; another try is another picture."""

    code = "storage_failed"
    should_retry = False


class Interrupted(PixelparError):
    """Cut short by trouble of ours. It may be completed yet, so another try may be a second picture."""

    status, type, code = 503, "server_error", "interrupted"
    should_retry = False
    retry_after_default_s = 30


class NotConfigured(PixelparError):
    status, type, code = 503, "server_error", "provider_not_configured"
    should_retry = False
    retry_after_default_s = 59


class ProviderTimeout(PixelparError):
    status, type, code = 504, "server_error", "provider_timeout"
    should_retry = False
