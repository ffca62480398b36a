"""What billing's API says of itself."""

from __future__ import annotations

from accounts.api_schemas import KEY_ID
from billing import api, budgets, budgets_api, limits, words
from core import errors, ids, money, openapi
from core.openapi import Fault, Operation, Parameter
from core.schemas import (
    MOMENT,
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
        balance_after=dollars("What that account had after it."),
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
        parameters=(
            *openapi.page_parameters(_TRANSACTION_ID, "transaction"),
            Parameter("kind", choice(words.KINDS)),
            Parameter("created_after", MOMENT, "From this moment on."),
            Parameter("created_before", MOMENT, "Until just before this moment."),
        ),
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

# --- budgets ----------------------------------------------------------------------------------------------------------

_BUDGET = named(
    "Budget",
    record(
        "What may be spent in a day, a month or in all, and how much of it is.",
        object=constant("budget"),
        scope=choice(("organization", "key", "member"), "Whom it binds."),
        key_id=or_null(KEY_ID),
        member=or_null(text("The member's address.")),
        window=choice(budgets.WINDOWS.values()),
        limit=dollars(),
        used=dollars("What was charged in the present window."),
        held=dollars("Reserved for requests that are being worked on."),
        left=dollars("What is neither used nor held."),
        currency=constant("usd"),
        resets_at=or_null(moment("When the next window begins.")),
    ),
)
_BUDGETS = record(object=constant("list"), data=listed(_BUDGET))
_SHOWN = {
    "object": "budget",
    "scope": "key",
    "key_id": "0123456789ab",
    "member": None,
    "window": "month",
    "limit": money.decimal(25 * money.NANOS_PER_USD),
    "used": money.decimal(4_989_120_000),
    "held": money.decimal(11_000_000),
    "left": money.decimal(19_999_880_000),
    "currency": "usd",
    "resets_at": 1798761600,
}
_BUDGETS_SHOWN = {"object": "list", "data": [_SHOWN]}
_KEY_PATH = {"word": Parameter("id", KEY_ID, example="0123456789ab")}

openapi.describe(
    budgets_api.Budgets,
    get=Operation(
        "list_budgets",
        "Every budget, and how much of it is used",
        "Budgets",
        {
            200: openapi.answer(
                "The organization's own, then its keys', then its members'.", _BUDGETS, example=_BUDGETS_SHOWN
            )
        },
    ),
)
openapi.describe(
    budgets_api.KeyBudgets,
    get=Operation(
        "get_key_budgets",
        "One key's budgets",
        "Budgets",
        {200: openapi.answer("The key's budgets.", _BUDGETS, example=_BUDGETS_SHOWN)},
        faults=openapi.MISSING,
        path=_KEY_PATH,
    ),
    put=Operation(
        "set_key_budgets",
        "Set a key's budgets",
        "Budgets",
        {200: openapi.answer("The budgets as they are from now on.", _BUDGETS, example=_BUDGETS_SHOWN)},
        description="What is absent or null has no limit from the next request on; the key's rates stay as they are.",
        faults=(*openapi.JSON_BODY, *openapi.MISSING, *Fault.of(errors.UnsupportedMediaType)),
        path=_KEY_PATH,
        body=openapi.json_body(
            named(
                "KeyBudgetsWanted",
                record(
                    "The budgets that a key shall have, and no others.",
                    optional=dict.fromkeys(limits.BUDGETS, or_null(_SPEND)),
                ),
            ),
            monthly={"spend_month_usd": "25.00"},
            none={},
        ),
    ),
)
