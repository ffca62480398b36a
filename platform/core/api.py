"""How the API answers: JSON by orjson in one piece, errors in OpenAI's envelope, bodies read with a limit."""

from __future__ import annotations

from typing import Any

import orjson
import structlog
from django.conf import settings
from django.core.exceptions import RequestDataTooBig, SuspiciousOperation
from django.http import Http404, HttpRequest, HttpResponse, UnreadablePostError
from django.http.response import ResponseHeaders
from rest_framework import exceptions as drf

from core import bigjson, errors, outages

log = structlog.get_logger(__name__)

# Deeper than any honest body, and shallow enough for every recursive reader and writer behind us.
LEVELS_MAX = 32


class _Headers(ResponseHeaders):
    """Django's, quicker about what needs no second look: an answer has a dozen of them."""

    def __setitem__(self, key: Any, value: Any) -> None:
        if type(value) is str and value.isascii() and value.isprintable() and key.isascii() and key.isprintable():
            self._store[key.lower()] = (key, value)
        else:
            super().__setitem__(key, value)


class _Answer(HttpResponse):
    def __init__(self, pieces: list[bytes | memoryview], *, status: int) -> None:
        super().__init__(status=status, content_type="application/json")
        self._container = pieces
        headers = _Headers({})
        headers._store = self.headers._store
        self.headers = headers


def render(document: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> HttpResponse:
    """A JSON answer; private by default, since what the API says depends on who asks."""
    pieces = bigjson.pieces(document)
    response = _Answer(pieces, status=status)
    # Without it the server would send it in chunks, for which it copies the megabytes once more.
    response.headers["Content-Length"] = str(sum(map(len, pieces)))
    response.headers["Cache-Control"] = "no-store"
    for name, value in (headers or {}).items():
        response.headers[name] = value
    return response


def render_error(error: errors.PixelparError) -> HttpResponse:
    """An error in OpenAI's envelope with the headers that tell a client whether to try again."""
    return render(error.envelope(), status=error.status, headers=error.headers())


def exception_handler(raised: Exception, context: dict[str, Any]) -> HttpResponse:
    """REST framework's exception handler: whatever a view raises leaves as OpenAI's envelope."""
    error = _translate(raised, context)
    if error.status >= 500 and not isinstance(raised, errors.PixelparError) and not error.is_logged:
        log.error("request failed", exc_info=raised)
    response = render_error(error)
    if error.is_logged:
        response._has_been_logged = True  # type: ignore[attr-defined] # Django would write a line of its own
    if isinstance(raised, drf.MethodNotAllowed):
        response.headers["Allow"] = _allowed(context)
    return response


def _allowed(context: dict[str, Any]) -> str:
    return ", ".join(context["view"].allowed_methods)


def _translate(raised: Exception, context: dict[str, Any]) -> errors.PixelparError:
    match raised:
        case errors.PixelparError():
            return raised
        case Http404():
            return errors.NotFound("There is nothing here.")
        case drf.MethodNotAllowed():
            asked = str(context["request"].method)[:20]
            return errors.MethodNotAllowed(f"This route takes {_allowed(context)}, not {asked}.")
        case drf.NotAuthenticated() | drf.AuthenticationFailed():
            return errors.InvalidApiKey(str(raised.detail))
        case drf.PermissionDenied():
            return errors.PermissionDenied(str(raised.detail))
        case drf.APIException():
            return errors.InvalidRequest(str(raised.detail))
        case RequestDataTooBig():
            return errors.BodyTooLarge("The body is larger than what is taken here.")
        case SuspiciousOperation():  # such as thousands of parameters in the address
            return errors.InvalidRequest("The request could not be read: it has too many parameters, or broken ones.")
    if outages.is_outage(raised):
        outages.tell(log, "the database cannot serve", raised)
        error = errors.Overloaded(
            "The database does not answer just now. Try again shortly.", retry_after_s=outages.RETRY_AFTER_S
        )
        error.is_logged = True
        return error
    return errors.InternalError(
        "Something went wrong on our side. The request id in this answer's headers finds it in our log."
    )


def read_body(request: HttpRequest, *, max_bytes: int | None = None) -> bytes:
    """The whole body, refused above the limit (JSON_BODY_MAX_BYTES, or another one) before it is read.

    Raises BodyTooLarge or MalformedBody.
    """
    limit_bytes = settings.JSON_BODY_MAX_BYTES if max_bytes is None else max_bytes
    try:
        declared_bytes = int(request.META.get("CONTENT_LENGTH") or 0)
    except ValueError:
        declared_bytes = 0
    if declared_bytes > limit_bytes:
        raise errors.BodyTooLarge(f"The body is larger than the {limit_bytes} bytes that JSON here may have.")
    try:
        # Past Django's own, smaller limit where this route takes more.
        body = request.body if max_bytes is None else request.read(declared_bytes)
    except RequestDataTooBig as error:
        raise errors.BodyTooLarge(
            f"The body is larger than the {limit_bytes} bytes that JSON here may have."
        ) from error
    except UnreadablePostError as error:
        raise errors.MalformedBody("The body ended before it was complete.") from error
    if len(body) < declared_bytes:
        raise errors.MalformedBody(f"The body ended after {len(body)} of the {declared_bytes} bytes it declared.")
    return body


def read_object(request: HttpRequest) -> dict[str, Any]:
    """The JSON object that a request brings, where nothing else is taken. A body without any type is taken for JSON.

    Raises UnsupportedMediaType, BodyTooLarge or MalformedBody.
    """
    content_type = request.content_type or ""
    if content_type not in ("application/json", ""):
        raise errors.UnsupportedMediaType(
            f"This route takes JSON: send Content-Type: application/json, not {content_type[:60]!r}."
        )
    return parse_object(read_body(request))


def parse_object(body: bytes) -> dict[str, Any]:
    """A JSON object from a body. Broken, too deep, with lone surrogates or no object: MalformedBody, saying which."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        reason = str(error)
        if "recursion" in reason:
            reason = f"it is nested deeper than the {LEVELS_MAX} levels that are taken"
        raise errors.MalformedBody(f"The body is not valid JSON: {reason}.") from error
    if not isinstance(document, dict):
        raise errors.MalformedBody('The body must be a JSON object, such as {"prompt": "a red fox"}.')
    return document
