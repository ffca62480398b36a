"""The shapes of what the images API answers: pictures, what they cost and how they came about, requests, receipts."""

from __future__ import annotations

from accounts.api_schemas import KEY_ID
from core.schemas import (
    Json,
    boolean,
    choice,
    constant,
    dollars,
    integer,
    listed,
    moment,
    named,
    number,
    or_null,
    page,
    record,
    text,
    word,
)
from imagesapi.models import AttemptStatus, GenerationStatus

_COUNT = integer(minimum=0)
_OPEN: Json = {"type": "object"}
_URL = text("A signed link on this server.", format="uri")
_PICTURE_SIZE = text(pattern="^[0-9]+x[0-9]+$")

# --- an answer with pictures ------------------------------------------------------------------------------------------

_TOKENS = record(text_tokens=_COUNT, image_tokens=_COUNT)
TOKEN_USAGE = named(
    "TokenUsage",
    record(
        "Tokens, where the provider counts them.",
        input_tokens=_COUNT,
        output_tokens=_COUNT,
        total_tokens=_COUNT,
        input_tokens_details=_TOKENS,
        output_tokens_details=_TOKENS,
    ),
)
ADJUSTMENT = named(
    "Adjustment",
    record(
        "One thing that was done to the request; after a purge without the values.",
        parameter=text(),
        why=text(),
        optional={"asked": {"description": "As it was sent."}, "used": {"description": "What the provider got."}},
    ),
)
_ATTEMPTED = {
    "provider": text(),
    "status": choice(AttemptStatus.values),
    "error_code": or_null(text()),
    "duration_ms": or_null(_COUNT),
}
METADATA = named(
    "AnswerMetadata",
    record(
        "What only a gateway knows.",
        model=text(),
        executed_model=text("The provider, and the model's name there."),
        provider=text(),
        provider_name=text(),
        simulated=boolean("Drawn by the offline provider in another's place."),
        cost=number("Dollars; what was charged.", minimum=0),
        cost_currency=constant("USD"),
        attempts=listed(record(**_ATTEMPTED)),
        adjustments=listed(ADJUSTMENT),
    ),
)
_LINK: dict[str, Json] = {
    "url": _URL,
    "expires_at": moment("When the link ends."),
    "revised_prompt": text("As the provider understood the prompt."),
}
_B64 = text("The picture.", contentEncoding="base64")
_DONE: dict[str, Json] = {
    "background": text(),
    "output_format": text(),
    "quality": text(),
    "size": _PICTURE_SIZE,
}
IMAGES = named(
    "ImagesAnswer",
    record(
        "OpenAI's object, and what is ours under `id` and `metadata`.",
        id=word("req"),
        created=moment(),
        data=listed(record(optional={**_LINK, "b64_json": _B64}), minItems=1),
        metadata=METADATA,
        **_DONE,
        optional={"usage": TOKEN_USAGE},
    ),
)

# --- the same as events -----------------------------------------------------------------------------------------------


def _events(kind: str) -> list[Json]:
    """What a stream of that kind carries, in the order of their coming."""
    name = "".join(part.capitalize() for part in kind.split("_"))
    partial = record(
        "An unfinished picture.",
        type=constant(f"{kind}.partial_image"),
        b64_json=_B64,
        partial_image_index=_COUNT,
        created_at=moment(),
        **{**_DONE, "size": text()},
    )
    completed = record(
        "One picture of the answer.",
        type=constant(f"{kind}.completed"),
        id=word("req"),
        b64_json=_B64,
        created_at=moment(),
        usage=TOKEN_USAGE,
        metadata=METADATA,
        **_DONE,
        optional=_LINK,
    )
    return [named(f"{name}PartialImageEvent", partial), named(f"{name}CompletedEvent", completed)]


_ERROR_EVENT = named(
    "ErrorEvent",
    record(
        "The stream ends without what is missing.", type=constant("error"), error={"$ref": "#/components/schemas/Error"}
    ),
)


def stream(kind: str) -> Json:
    """A stream of server-sent events, `image_generation` or `image_edit`."""
    data = text(contentMediaType="application/json", contentSchema={"oneOf": [*_events(kind), _ERROR_EVENT]})
    return record(
        "One of the stream's events; comments in between keep the connection alive.",
        event=text("The `type` of the data."),
        data=data,
    )


# --- a price beforehand -----------------------------------------------------------------------------------------------

DRY_RUN = named(
    "DryRun",
    record(
        "What a request would cost. Nothing was held and no provider was called.",
        estimated={"type": "boolean", "const": True},
        model=text(),
        provider=text(),
        simulated=boolean(),
        total_cost_micros=integer("The expected cost in millionths of a dollar, rounded up.", minimum=0),
        hold_micros=integer("What would be reserved, rounded up.", minimum=0),
        currency=constant("USD"),
        components=listed(
            record(
                type=choice(("input", "output")),
                metric=text(),
                quantity=number(minimum=0),
                billable_quantity=number(minimum=0),
                unit_price=number(minimum=0),
                total_cost=number(minimum=0),
            )
        ),
        adjustments=listed(ADJUSTMENT),
        metadata=record(cost=number(minimum=0), cost_currency=constant("USD")),
    ),
)

# --- receipts ---------------------------------------------------------------------------------------------------------

_ITEM = record(
    label=text(),
    meter=text("What is counted."),
    conditions=_OPEN,
    quantity=text(),
    billable_quantity=text(),
    unit_price=dollars(),
    amount=dollars(),
    estimated=boolean("Counted by us, as the provider told no number."),
    price_line=or_null(integer()),
    source=text(),
    as_of=text(format="date"),
)
_ROUNDING = listed(record(by=choice(("provider", "platform")), rule=text(), **{"from": dollars(), "to": dollars()}))
_RECEIPT: dict[str, Json] = {
    "version": _COUNT,
    "model": text(),
    "provider": or_null(text()),
    "simulated": boolean(),
    "items": listed(_ITEM),
    "currency": constant("USD"),
    "total": dollars(),
    "charged": dollars(),
    "explanation": text("The sum in one line."),
}
_RECEIPT_OF_A_CHARGE: dict[str, Json] = {
    "provider_name": text(),
    "executed_model": text(),
    "asked": _OPEN,
    "sent": _OPEN,
    "effective": _OPEN,
    "rounding": _ROUNDING,
    "priced_at": text(format="date-time"),
    "held_for_this_offer": dollars(),
    "evidence": {**_OPEN, "description": "What the provider itself said."},
    "list_price": record(items=listed(_ITEM), rounding=_ROUNDING, total=dollars()),
    "absorbed": dollars("What it cost above what was held; the platform bore it."),
}
_STORED_RECEIPT = named("StoredReceipt", record(**_RECEIPT, optional=_RECEIPT_OF_A_CHARGE))
RECEIPT = named(
    "Receipt",
    record(
        "The proof of a charge, or that there is none and why.",
        object=constant("receipt"),
        request_id=word("req"),
        created_at=moment(),
        status=choice(GenerationStatus.values),
        **_RECEIPT,
        optional=_RECEIPT_OF_A_CHARGE,
    ),
)

# --- requests and their pictures --------------------------------------------------------------------------------------

_REQUEST: dict[str, Json] = {
    "id": word("req"),
    "object": constant("request"),
    "created_at": moment(),
    "model": text(),
    "modality": constant("image"),
    "endpoint": text(),
    "status": choice(GenerationStatus.values),
    "provider": or_null(text()),
    "cost": number("Dollars.", minimum=0),
    "currency": constant("usd"),
    "duration_ms": or_null(integer()),
    "key_id": or_null(KEY_ID),
    "error_code": or_null(text()),
    "error_message": or_null(text()),
    "user": or_null(text()),
    "metadata": {**_OPEN, "additionalProperties": text(), "description": "What you sent along."},
    "simulated": boolean(),
    "request_size_bytes": or_null(_COUNT),
    "response_size_bytes": or_null(_COUNT),
}
REQUEST = named("Request", record("One request for images, as lists show it.", **_REQUEST))
_IMAGE: dict[str, Json] = {
    "id": word("img"),
    "object": constant("image"),
    "url": _URL,
    "expires_at": moment("When the link ends."),
    "content_type": text(),
    "width": _COUNT,
    "height": _COUNT,
    "size_bytes": _COUNT,
    "revised_prompt": or_null(text()),
}
IMAGE = named("Image", record("One stored picture.", **_IMAGE, request_id=word("req"), created_at=moment()))
_ATTEMPT = record(
    number=integer(minimum=1),
    executed_model=text(),
    http_status=or_null(integer()),
    provider_request_id=or_null(text()),
    **_ATTEMPTED,
)
REQUEST_DETAIL = named(
    "RequestDetail",
    record(
        "One request with its attempts, its receipt and fresh links to its pictures.",
        **_REQUEST,
        asked={**_OPEN, "description": "As it came in; empty after a purge."},
        sent=or_null({**_OPEN, "description": "What the provider got."}),
        adjustments=listed(ADJUSTMENT),
        attempts=listed(_ATTEMPT),
        images=listed(record(**_IMAGE)),
        receipt=or_null(_STORED_RECEIPT),
        purged_at=or_null(moment()),
        optional={
            "result": or_null(IMAGES),
            "cancel_requested": boolean("Of an asynchronous request."),
        },
    ),
)
_MODEL_SUM = record(count=_COUNT, cost=number(minimum=0))
REQUESTS = named(
    "Requests",
    page(
        REQUEST,
        optional={
            "summary": record(
                "Totals over all pages, as far back as `complete` says.",
                count=_COUNT,
                cost=number(minimum=0),
                currency=constant("usd"),
                by_status={**_OPEN, "additionalProperties": _COUNT},
                by_model={**_OPEN, "additionalProperties": _MODEL_SUM},
                complete=boolean(),
            )
        },
    ),
)
PURGED = named(
    "Purged",
    record(
        "What a purge erased.",
        id=word("req"),
        object=constant("request"),
        purged={"type": "boolean", "const": True},
        already_purged=boolean(),
        media_deleted=integer("How many pictures went with it.", minimum=0),
    ),
)
