"""What billing's API says of itself."""

from __future__ import annotations

from billing import api, limits, words
from core import ids, money, openapi
from core.openapi import Operation
from core.schemas import choice, constant, dollars, integer, moment, named, number, or_null, page, record, text, word

_TAG = "Balance"

_AMOUNT = record(amount=number("Dollars, exact to fifteen digits."), currency=constant("usd"))
_BALANCE = named(
    "Balance",
    record(
        "What an organization can spend.",
        object=constant("balance"),
        billing_type=constant("prepaid"),
        available={**_AMOUNT, "description": "What a new request may use; held amounts are taken off already."},
        held={**_AMOUNT, "description": "Reserved for requests that are being worked on."},
        promo={**_AMOUNT, "description": "The part of `available` that is promotional credit."},
    ),
)
_TRANSACTION_ID = text("The movement's id.", pattern=f"{ids.pattern('txn')[:-1]}_[a-z_]{{1,24}}$")
_TRANSACTION = named(
    "Transaction",
    record(
        "One movement of an organization's money, which never changes.",
        id=_TRANSACTION_ID,
        object=constant("transaction"),
        kind=choice(words.KINDS, "Why money moved."),
        amount=dollars("What came in, or with a minus what went out."),
        currency=constant("usd"),
        account=choice(("promo", "wallet")),
        created_at=moment(),
        request_id=or_null(word("req", "Of a charge, the request it is for.")),
        note=or_null(text()),
    ),
)

openapi.describe(
    api.Balance,
    get=Operation(
        "get_balance",
        "What can be spent now",
        _TAG,
        {
            200: openapi.answer(
                "The balance.",
                _BALANCE,
                example={
                    "object": "balance",
                    "billing_type": "prepaid",
                    "available": {"amount": money.json_number(4_989_120_000), "currency": "usd"},
                    "held": {"amount": money.json_number(0), "currency": "usd"},
                    "promo": {"amount": money.json_number(4_989_120_000), "currency": "usd"},
                },
            )
        },
    ),
)
openapi.describe(
    api.Transactions,
    get=Operation(
        "list_transactions",
        "The journal, newest first",
        _TAG,
        {200: openapi.answer("A page of transactions.", page(_TRANSACTION))},
        faults=openapi.QUERY,
        parameters=openapi.page_parameters(_TRANSACTION_ID, "transaction"),
    ),
)

# The limits of keys, which accounts' operations name.
_COUNT = integer(minimum=1, maximum=limits.COUNT_MAX)
_SPEND = {
    "anyOf": [
        number(exclusiveMinimum=0, maximum=limits.SPEND_MAX_NANOS // money.NANOS_PER_USD),
        text(pattern=r"^[0-9]{1,7}(\.[0-9]{1,9})?$"),
    ],
    "description": "Dollars, as a string or a number.",
}
_IS_SPEND = {name: meter == "spend" for name, (meter, _) in limits.NAMES.items()}
named(
    "KeyLimits",
    record(
        "Every limit of a key; null where there is none.",
        **{name: or_null(dollars() if is_spend else _COUNT) for name, is_spend in _IS_SPEND.items()},
    ),
)
named(
    "KeyLimitsWanted",
    record(
        "The limits that a key shall have, and no others; docs/keys.md explains each.",
        optional={name: or_null(_SPEND if is_spend else _COUNT) for name, is_spend in _IS_SPEND.items()},
    ),
)
