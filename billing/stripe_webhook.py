"""POST /billing/stripe/webhook: proves that an event is Stripe's, keeps it once, then acts on what it tells of."""

from __future__ import annotations

import re
import time

import orjson
import structlog
from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse, UnreadablePostError
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from billing import stripe_gateway, stripe_inbox, stripe_signature
from billing.stripe_facts import BadSignature, Event

log = structlog.get_logger(__name__)

SECRET_MIN_CHARS = 24
_BODY_MAX_BYTES = 1024 * 1024
_WORD = re.compile(r"[A-Za-z0-9_]{1,255}", re.ASCII)
_TYPE = re.compile(r"[a-z0-9_.]{1,100}", re.ASCII)


@csrf_exempt
@require_POST
def webhook(request: HttpRequest) -> HttpResponse:
    """200 once the event is on record, whether or not it could be acted on yet: that is tried again from there."""
    if not ready():
        return _say(503, "This server takes no events: no webhook secret is set.")
    try:
        body = request.body
        stripe_signature.check(
            body,
            request.headers.get("Stripe-Signature"),
            secret=settings.STRIPE_WEBHOOK_SECRET,
            now_s=int(time.time()),
        )
        event = read(body)
    except (BadSignature, RequestDataTooBig, UnreadablePostError) as error:
        return _say(400, f"Not an event that Stripe signed for this server: {error}")
    try:
        stripe_inbox.store(event)
    except DatabaseError:
        log.exception("an event could not be kept; Stripe will send it again")
        return _say(503, "The event could not be kept. Send it again.")
    stripe_inbox.process(event.id)
    return _say(200, "received")


def ready() -> bool:
    """Whether events can be told from forgeries: a blank or short secret is none."""
    return stripe_gateway.configured() and len(settings.STRIPE_WEBHOOK_SECRET.strip()) >= SECRET_MIN_CHARS


def _say(status: int, text: str) -> HttpResponse:
    return HttpResponse(text[:300], status=status, content_type="text/plain; charset=utf-8")


def read(body: bytes) -> Event:
    """What is needed of an event's body. Raises BadSignature for whatever is no event of our account's mode."""
    if len(body) > _BODY_MAX_BYTES:
        raise BadSignature("it is too large")
    try:
        found = orjson.loads(body)
        data = found["data"]["object"]
        event = Event(
            id=_word(found["id"]),
            type=found["type"],
            livemode=found["livemode"],
            created_s=found["created"],
            object_id=_word(data.get("id")),
            intent_id=_intent(data),
        )
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise BadSignature("its body is no event") from error
    known = isinstance(event.type, str) and _TYPE.fullmatch(event.type) and found.get("object") == "event"
    sane = isinstance(event.created_s, int) and 0 <= event.created_s < 1 << 33 and isinstance(event.livemode, bool)
    if not known or not sane:
        raise BadSignature("its body is no event")
    if event.livemode != stripe_gateway.livemode():
        raise BadSignature("it is of another mode (live or test) than our key")
    return event


def _word(value: object) -> str:
    if not isinstance(value, str) or not _WORD.fullmatch(value):
        raise ValueError("not an id")
    return value


def _intent(data: dict[str, object]) -> str:
    """The payment that an object belongs to, where it says so."""
    found = data.get("payment_intent")
    if isinstance(found, dict):
        found = found.get("id")
    return _word(found) if found is not None else ""
