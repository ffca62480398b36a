"""What the webhooks API says of itself."""

from __future__ import annotations

from core import errors, openapi
from core.openapi import Fault, Operation, Parameter
from core.schemas import (
    boolean,
    choice,
    constant,
    deleted,
    integer,
    listed,
    moment,
    named,
    or_null,
    page,
    record,
    text,
    word,
)
from imagesapi import webhook_api, webhooks
from imagesapi.webhook_models import DeliveryStatus, WebhookEvent

_TAG = "Webhooks"
_ID = word("whk")
_PATH = {"word": Parameter("id", _ID)}
_ONE = {**_PATH, "delivery": Parameter("delivery", word("whd"))}
_EVENTS = listed(choice(WebhookEvent.values), minItems=1)
_MEMBERS = {
    "id": _ID,
    "object": constant("webhook"),
    "url": text(format="uri"),
    "events": _EVENTS,
    "description": text(),
    "enabled": boolean(),
    "disabled_reason": or_null(text("Why we switched it off.")),
    "created_at": moment(),
}
_WEBHOOK = named("Webhook", record("Who is told how asynchronous requests end.", **_MEMBERS))
_WITH_SECRET = named(
    "WebhookWithSecret",
    record("With its signing secret, shown this one time.", **_MEMBERS, secret=text(pattern="^whsec_")),
)
_DELIVERY = named(
    "WebhookDelivery",
    record(
        "One event on its way to one webhook.",
        id=word("whd"),
        object=constant("webhook_delivery"),
        event_id=word("evt"),
        event_type=choice(WebhookEvent.values),
        request_id=word("req"),
        status=choice(DeliveryStatus.values),
        tries=integer(minimum=0),
        next_try_at=or_null(moment()),
        last_status=or_null(integer()),
        last_error=or_null(text()),
        last_duration_ms=or_null(integer(minimum=0)),
        created_at=moment(),
        delivered_at=or_null(moment()),
    ),
)
_URL = text("Https, on a public host.", maxLength=webhooks.URL_MAX_CHARS, pattern="^https://")
_REST = {
    "events": or_null(_EVENTS),
    "description": or_null(text(maxLength=webhooks.DESCRIPTION_MAX_CHARS)),
    "enabled": or_null(boolean()),
}
_SETTING = (
    *openapi.JSON_BODY,
    *Fault.of(errors.InvalidRequest, "string_above_max_length"),
    *Fault.of(errors.UnsupportedMediaType),
)

openapi.describe(
    webhook_api.Webhooks,
    get=Operation(
        "list_webhooks",
        "The organization's webhooks",
        _TAG,
        {200: openapi.answer("All of them, newest first.", record(object=constant("list"), data=listed(_WEBHOOK)))},
    ),
    post=Operation(
        "create_webhook",
        "Be told how asynchronous requests end",
        _TAG,
        {201: openapi.answer("The webhook.", _WITH_SECRET)},
        faults=(*_SETTING, *Fault.of(errors.MissingParameter)),
        body=openapi.json_body(
            named("WebhookToMake", record(url=_URL, optional=_REST)),
            small={"url": "https://example.com/hooks/pixelpar", "events": ["request.completed", "request.failed"]},
        ),
    ),
)
openapi.describe(
    webhook_api.WebhookDetail,
    get=Operation(
        "get_webhook", "One webhook", _TAG, {200: openapi.answer("The webhook.", _WEBHOOK)}, openapi.MISSING, path=_PATH
    ),
    patch=Operation(
        "update_webhook",
        "Change a webhook",
        _TAG,
        {200: openapi.answer("The webhook as it is from now on.", _WEBHOOK)},
        faults=(*_SETTING, *openapi.MISSING),
        path=_PATH,
        body=openapi.json_body(
            named("WebhookChanges", record(optional={"url": or_null(_URL), **_REST})), off={"enabled": False}
        ),
    ),
    delete=Operation(
        "delete_webhook",
        "End a webhook, with the record of its deliveries",
        _TAG,
        {200: openapi.answer("It is gone.", deleted("webhook", _ID))},
        faults=openapi.MISSING,
        path=_PATH,
    ),
)
openapi.describe(
    webhook_api.WebhookSecret,
    post=Operation(
        "rotate_webhook_secret",
        "A new signing secret",
        _TAG,
        {200: openapi.answer("The webhook; the old secret has ended.", _WITH_SECRET)},
        faults=openapi.MISSING,
        path=_PATH,
    ),
)
openapi.describe(
    webhook_api.WebhookDeliveries,
    get=Operation(
        "list_webhook_deliveries",
        "What was sent to a webhook, newest first",
        _TAG,
        {200: openapi.answer("A page of deliveries.", page(_DELIVERY))},
        faults=(*openapi.MISSING, *openapi.QUERY),
        path=_PATH,
        parameters=openapi.page_parameters(word("whd"), "delivery"),
    ),
)
openapi.describe(
    webhook_api.WebhookReplay,
    post=Operation(
        "replay_webhook_delivery",
        "Send a delivery again",
        _TAG,
        {200: openapi.answer("The delivery, on its way.", _DELIVERY)},
        faults=openapi.MISSING,
        path=_ONE,
    ),
)
