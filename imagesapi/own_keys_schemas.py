"""What the API of own provider keys says of itself."""

from __future__ import annotations

from core import errors, openapi
from core.openapi import Fault, Operation, Parameter
from core.schemas import boolean, constant, deleted, listed, moment, named, or_null, record, text, word
from imagesapi import own_keys, own_keys_api

_TAG = "Provider keys"
_ID = word("pky")
_KEY = named(
    "ProviderKey",
    record(
        "A key of your own at a provider, without its secret.",
        id=_ID,
        object=constant("provider_key"),
        provider=text(),
        name=text("Which of the provider's settings it is."),
        last_four=text(),
        fallback=boolean("Whether the server's own key may stand in."),
        enabled=boolean(),
        created_at=moment(),
    ),
)
_WANTED = named(
    "ProviderKeyWanted",
    record(
        "What is absent stays as it is.",
        provider=text(minLength=1),
        optional={
            "name": or_null(text()),
            "secret": or_null(
                text(
                    "One line; it is kept encrypted and never shown.",
                    minLength=own_keys.SECRET_MIN_CHARS,
                    maxLength=own_keys.SECRET_MAX_CHARS,
                    pattern="^[ -~]+$",
                )
            ),
            "fallback": or_null(boolean()),
            "enabled": or_null(boolean()),
        },
    ),
)

openapi.describe(
    own_keys_api.ProviderKeys,
    get=Operation(
        "list_provider_keys",
        "Your own keys at providers",
        _TAG,
        {200: openapi.answer("All of them.", record(object=constant("list"), data=listed(_KEY)))},
    ),
    put=Operation(
        "set_provider_key",
        "Bring a key, or change one",
        _TAG,
        {200: openapi.answer("The key.", _KEY)},
        faults=(*openapi.JSON_BODY, *Fault.of(errors.MissingParameter), *Fault.of(errors.UnsupportedMediaType)),
        body=openapi.json_body(_WANTED, openai={"provider": "openai", "secret": "sk-0123456789abcdef"}),
    ),
)
openapi.describe(
    own_keys_api.ProviderKey,
    delete=Operation(
        "delete_provider_key",
        "Forget a key",
        _TAG,
        {200: openapi.answer("It is forgotten.", deleted("provider_key", _ID))},
        faults=openapi.MISSING,
        path={"word": Parameter("id", _ID)},
    ),
)
