"""What the images API says of itself: creating, pictures, models, requests, usage."""

from __future__ import annotations

from typing import get_args

from accounts.api_schemas import KEY_ID
from core import errors, openapi
from core.openapi import Answer, Fault, Operation, Parameter
from core.schemas import (
    DAY,
    FLAG,
    MOMENT,
    Json,
    boolean,
    choice,
    constant,
    deleted,
    dollars,
    integer,
    listed,
    named,
    number,
    or_null,
    record,
    text,
    word,
)
from imagesapi import answer_schemas as shapes
from imagesapi import api, catalog, history_api, pictures, request_schemas, usage
from imagesapi import own_keys_schemas as _own_keys  # noqa: F401 - describes itself
from imagesapi import webhook_schemas as _webhooks  # noqa: F401 - describes itself
from imagesapi.catalogue_format import METERS
from imagesapi.models import GenerationStatus
from imagesapi.reports import api_schemas as _reports  # noqa: F401 - describes itself

_REQUEST = {"word": Parameter("id", word("req"))}
_IMAGE = {"word": Parameter("id", word("img"))}

# --- creating ---------------------------------------------------------------------------------------------------------

# What can go wrong between a parsed request and its pictures.
_CREATING = (
    *openapi.JSON_BODY,
    *Fault.of(errors.InvalidRequest, "adjustment_refused", "string_above_max_length", openapi.OF_A_PROVIDER),
    *Fault.of(errors.MissingParameter),
    *Fault.of(errors.Unpriced),
    *Fault.of(errors.ContentBlocked),
    *Fault.of(errors.PaymentRequired, errors.PaymentRequired.code, "balance_frozen"),
    *Fault.of(errors.BudgetReached),
    *Fault.of(errors.MaxCostExceeded),
    *Fault.of(errors.PermissionDenied, "model_not_allowed", "size_not_allowed", "quality_not_allowed"),
    *Fault.of(errors.PermissionDenied, "own_provider_key_unusable"),
    *Fault.of(errors.ModelNotFound),
    *Fault.of(errors.ModelRetired),
    *Fault.of(errors.InProgress),
    *Fault.of(errors.RequestCancelled),
    *Fault.of(errors.Gone, "request_purged"),
    *Fault.of(errors.UnsupportedMediaType),
    *Fault.of(errors.KeyReused),
    *Fault.of(errors.TooManyRequests),
    *Fault.of(errors.AllProvidersFailed),
    *Fault.of(errors.Overloaded, "providers_resting"),
    *Fault.of(errors.StorageUnavailable),
    *Fault.of(errors.StorageFailed),
    *Fault.of(errors.Interrupted),
    *Fault.of(errors.NotConfigured),
    *Fault.of(errors.ProviderTimeout),
)
_FROM_PICTURES = (
    *_CREATING,
    *Fault.of(errors.MalformedForm),
    *Fault.of(errors.InvalidRequest, "unsupported_file_mimetype", "invalid_image_file", "invalid_image_url"),
    *Fault.of(errors.InvalidRequest, "invalid_mask", "invalid_markup", "too_many_images"),
    *Fault.of(errors.InvalidRequest, "unsupported_operation", "unsupported_value"),
)


def _header(description: str, schema: Json) -> Json:
    return {"description": description, "schema": schema}


_REPLAYED = _header("An answer that was given before, for the same Idempotency-Key.", {"const": "true"})
_MADE = {
    "x-pixelpar-provider": _header("Who made it.", text()),
    "x-pixelpar-model": _header("Under which name of theirs.", text()),
    "x-pixelpar-cost": _header("Dollars; what was charged.", dollars()),
    "openai-processing-ms": _header("How long it took.", integer(minimum=0)),
    "x-ratelimit-limit-requests": _header("Requests a minute, of the tightest limit there is.", integer(minimum=1)),
    "x-ratelimit-remaining-requests": _header("How many of them are left.", integer(minimum=0)),
    "x-ratelimit-reset-requests": _header("Until the next minute.", text(pattern="^([0-9]+m)?[0-9]+s$")),
    "x-ratelimit-limit-concurrent": _header("Requests at a time, of the tightest limit.", integer(minimum=1)),
    "x-ratelimit-remaining-concurrent": _header("How many places were free.", integer(minimum=0)),
    "Idempotency-Replayed": _REPLAYED,
}
_LATER = {
    "Location": {**_header("Where to look.", text(pattern="^/v1/requests/req_")), "required": True},
    "Preference-Applied": _header("What was understood.", constant("respond-async")),
    "Idempotency-Replayed": _REPLAYED,
}


def _creates(name: str, summary: str, body: openapi.Body, *, kind: str, faults: tuple[Fault, ...]) -> Operation:
    made = Answer(
        "The pictures; a stream of them with `stream`; the price alone with `dryRun`.",
        {openapi.JSON: {"anyOf": [shapes.IMAGES, shapes.DRY_RUN]}, "text/event-stream": shapes.stream(kind)},
        _MADE,
    )
    return Operation(
        name,
        summary,
        "Images",
        {200: made, 202: openapi.answer("Accepted: a worker does it.", shapes.REQUEST, headers=_LATER)},
        description="The worst case is held, the exact cost is charged, and nothing is where no picture is made.",
        faults=faults,
        parameters=request_schemas.PARAMETERS,
        body=body,
    )


openapi.describe(
    api.Generations,
    post=_creates(
        "create_image",
        "Make pictures from a prompt",
        request_schemas.GENERATION,
        kind="image_generation",
        faults=_CREATING,
    ),
)
openapi.describe(
    api.Edits,
    post=_creates(
        "create_image_edit", "Change pictures", request_schemas.EDIT, kind="image_edit", faults=_FROM_PICTURES
    ),
)
openapi.describe(
    api.Variations,
    post=_creates(
        "create_image_variation", "Vary a picture", request_schemas.VARIATION, kind="image_edit", faults=_FROM_PICTURES
    ),
)

# --- pictures ---------------------------------------------------------------------------------------------------------

_BYTES = {f"image/{kind}": {"type": "string", "format": "binary"} for kind in pictures.CONVERTIBLE}
_SIGNED = (
    Parameter("expires", text(pattern="^[0-9]{1,12}$"), "Of a signed link."),
    Parameter("signature", text(pattern=r"^[A-Za-z0-9_-]{43}$"), "Of a signed link."),
)

openapi.describe(
    api.ImageContent,
    get=Operation(
        "get_image_content",
        "The bytes of a picture",
        "Images",
        {200: Answer("The picture.", _BYTES, {"Cache-Control": _header("The link's holder may keep it.", text())})},
        description="By a signed link, whatever key comes along; without a signature by a key of its organization.",
        faults=(
            *openapi.MISSING,
            *Fault.of(errors.InvalidApiKey),
            *Fault.of(errors.PermissionDenied, "link_expired", "organization_suspended"),
        ),
        path=_IMAGE,
        parameters=_SIGNED,
        needs_key=False,
    ),
)
openapi.describe(
    history_api.ImageDetail,
    get=Operation(
        "get_image",
        "One stored picture, with a fresh link",
        "Images",
        {200: openapi.answer("The picture's facts.", shapes.IMAGE)},
        faults=openapi.MISSING,
        path=_IMAGE,
    ),
    delete=Operation(
        "delete_image",
        "Delete a picture",
        "Images",
        {200: openapi.answer("It is gone.", deleted("image", word("img")))},
        faults=openapi.MISSING,
        path=_IMAGE,
    ),
)

# --- models -----------------------------------------------------------------------------------------------------------

_DAY = or_null(text(format="date"))
_PRICE = record(
    meter=choice(METERS, "What is counted."),
    conditions={"type": "object", "additionalProperties": text()},
    unit_price=dollars(),
    basis=choice(("billed", "listed")),
    source=text(),
    as_of=text(format="date"),
)
_STATE = choice(get_args(catalog.State))
_MODEL = named(
    "Model",
    record(
        "OpenAI's model, and what only a gateway knows of it.",
        id=text(),
        object=constant("model"),
        created=integer(),
        owned_by=text(),
        shutdown_date=_DAY,
        name=text(),
        description=text(),
        creator_organization=text(),
        model_status=_STATE,
        starting_price=or_null(dollars("Of the cheapest picture.")),
        free=boolean(),
        tags=listed(text()),
        aliases=listed(text()),
        capabilities=listed(text()),
        modality=constant("image"),
        modalities=record(input=listed(text()), output=listed(text())),
        providers=listed(
            record(
                provider=text(),
                name=text(),
                executed_model=text(),
                status=_STATE,
                configured=boolean("Whether this server can reach it."),
                deprecated_on=_DAY,
                retires_on=_DAY,
                starting_price=or_null(dollars()),
                prices=listed(_PRICE),
                max_n=integer(minimum=1),
                sizes={"anyOf": [text("How sizes are chosen, where there is no list."), listed(text())]},
                qualities=listed(text()),
                output_formats=listed(text()),
            )
        ),
        model_page_path=text(),
        image_url=or_null(text()),
    ),
)
openapi.describe(
    api.Models,
    get=Operation(
        "list_models",
        "The catalogue",
        "Models",
        {200: openapi.answer("Every listed model, by name.", record(object=constant("list"), data=listed(_MODEL)))},
    ),
)
openapi.describe(
    api.ModelDetail,
    get=Operation(
        "get_model",
        "One model",
        "Models",
        {200: openapi.answer("The model.", _MODEL)},
        faults=(*openapi.MISSING, *Fault.of(errors.ModelNotFound)),
        path={
            "name": Parameter(
                "model", text("A slug, an alias, or `provider/slug`.", minLength=1), example="gpt-image-1"
            )
        },
    ),
)

# --- requests ---------------------------------------------------------------------------------------------------------

openapi.describe(
    history_api.Requests,
    get=Operation(
        "list_requests",
        "Your requests, newest first",
        "Requests",
        {200: openapi.answer("A page of requests.", shapes.REQUESTS)},
        description="`metadata[key]=value` finds requests by what you sent along.",
        faults=openapi.QUERY,
        parameters=(
            *openapi.page_parameters(word("req"), "request"),
            Parameter("created_after", MOMENT),
            Parameter("created_before", MOMENT),
            Parameter("key_id", KEY_ID, "Of the key that asked, also of one that has ended."),
            Parameter("status", choice(GenerationStatus.values)),
            Parameter("model", text(minLength=1, maxLength=512)),
            Parameter("user", text(minLength=1, maxLength=512)),
            Parameter("summary", FLAG, "true: with totals over all pages."),
        ),
    ),
)
openapi.describe(
    history_api.RequestDetail,
    get=Operation(
        "get_request",
        "One request, whole",
        "Requests",
        {
            200: openapi.answer(
                "The request; of an asynchronous one that is completed also its `result`.", shapes.REQUEST_DETAIL
            )
        },
        faults=(*openapi.MISSING, *Fault.of(errors.Gone, "request_purged")),
        path=_REQUEST,
    ),
    delete=Operation(
        "cancel_request",
        "Cancel a request",
        "Requests",
        {
            200: openapi.answer("It has ended.", shapes.REQUEST),
            202: openapi.answer("It ends as soon as its provider lets it.", shapes.REQUEST),
        },
        faults=(*openapi.MISSING, *Fault.of(errors.AlreadyFinished)),
        path=_REQUEST,
    ),
)
openapi.describe(
    history_api.RequestReceipt,
    get=Operation(
        "get_receipt",
        "The proof of a charge",
        "Requests",
        {200: openapi.answer("The receipt, or that nothing was charged and why.", shapes.RECEIPT)},
        faults=(*openapi.MISSING, *Fault.of(errors.NotFinished)),
        path=_REQUEST,
    ),
)
openapi.describe(
    history_api.RequestPayloads,
    delete=Operation(
        "purge_request",
        "Erase what was sent and made",
        "Requests",
        {200: openapi.answer("What it cost stays on record; the rest is gone.", shapes.PURGED)},
        faults=(*openapi.MISSING, *openapi.QUERY, *Fault.of(errors.NotFinished)),
        path=_REQUEST,
        parameters=(Parameter("media", FLAG, "false keeps the pictures."),),
    ),
)

# --- usage ------------------------------------------------------------------------------------------------------------

_SUMS = {
    **dict.fromkeys(("requests", "completed", "failed", "images"), integer(minimum=0)),
    "cost": number("Dollars.", minimum=0),
    "cost_decimal": dollars(),
}
_BUCKETS: list[Json] = [
    record(day=text(format="date"), **_SUMS),
    record(model=or_null(text()), **_SUMS),
    record(provider=or_null(text()), **_SUMS),
    record(key_id=or_null(KEY_ID), key_name=or_null(text()), **_SUMS),
]
_USAGE = named(
    "Usage",
    record(
        "What an organization used.",
        object=constant("usage"),
        to=text(format="date"),
        timezone=constant("UTC"),
        group_by=choice(usage.GROUPS),
        currency=constant("usd"),
        total=record(**_SUMS),
        data=listed({"anyOf": _BUCKETS}, maxItems=usage.BUCKETS_MAX),
        truncated=boolean(),
        **{"from": text(format="date")},
    ),
)
openapi.describe(
    history_api.Usage,
    get=Operation(
        "get_usage",
        "What was used, by day, model, key or provider",
        "Usage",
        {200: openapi.answer("The sums.", _USAGE)},
        faults=openapi.QUERY,
        parameters=(
            Parameter("from", DAY, "The first day, in UTC."),
            Parameter("to", DAY, "The last day, in UTC."),
            Parameter("group_by", choice(usage.GROUPS)),
        ),
    ),
)
