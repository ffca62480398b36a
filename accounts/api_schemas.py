"""What the keys API says of itself, and what a key is."""

from __future__ import annotations

from accounts import keys, keys_api, rules, scopes
from accounts.models import KEY_ID_LENGTH, ApiKey
from core import errors, openapi
from core.openapi import Fault, Operation, Parameter
from core.schemas import (
    choice,
    constant,
    deleted,
    integer,
    listed,
    moment,
    named,
    or_null,
    page,
    pattern,
    record,
    ref,
    text,
)

_TAG = "Keys"

openapi.credential(
    {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "pxp_<id>.<secret>",
        "description": "In this one header and in no other place. What a key needs is named with each operation: "
        + "; ".join(f"`{scope}` lets it {said}" for scope, said in scopes.WORDS.items())
        + ". Every key may read the catalogue.",
    }
)

KEY_ID = text(
    "A key's id: what stands between `pxp_` and the dot.",
    pattern=f"^[0-9a-z]{{{KEY_ID_LENGTH}}}$",
)
_SCOPES = listed(choice(scopes.ALL), minItems=1)  # once each in answers; named twice is as good as once
_RULE_LISTS = {
    name: listed(text(said, pattern=pattern(form), maxLength=rules.ENTRY_MAX_CHARS), maxItems=rules.ENTRIES_MAX)
    for name, (form, said) in rules.FORMS.items()
}
_ON_REFUSAL = choice(rules.ON_REFUSAL, "After one provider refused the content: stop, or ask the next one.")
_RULES = named(
    "KeyRules",
    record("What a key may ask for; an empty list allows everything.", **_RULE_LISTS, on_refusal=_ON_REFUSAL),
)
_RULES_WANTED = named(
    "KeyRulesWanted",
    record(
        "The rules that a key shall have, and no others.",
        optional={name: or_null(schema) for name, schema in {**_RULE_LISTS, "on_refusal": _ON_REFUSAL}.items()},
    ),
)
_MEMBERS = {
    "id": KEY_ID,
    "object": constant("key"),
    "name": text(),
    "last_four": text(minLength=4, maxLength=4),
    "status": choice(ApiKey.STATUSES),
    "created_at": moment(),
    "last_used_at": or_null(moment("To the minute.")),
    "expires_at": or_null(moment()),
    "scopes": _SCOPES,
    "rules": _RULES,
    "limits": ref("KeyLimits"),
}
_KEY = named("Key", record("An API key, without what only its maker ever has.", **_MEMBERS))
_NEW_KEY = named(
    "NewKey",
    record(
        "A key that was just made.",
        **_MEMBERS,
        key=text("The raw key, shown this one time.", pattern=pattern(keys.RAW)),
    ),
)
_NAME = text("Says where the key is used.", minLength=1, maxLength=keys.NAME_MAX_CHARS, pattern=r"[^\s]")
_EXPIRES = integer("Unix time in seconds.", minimum=1, maximum=keys_api.EXPIRES_MAX_S)
_REST = {
    "scopes": or_null(_SCOPES),
    "rules": or_null(_RULES_WANTED),
    "limits": or_null(ref("KeyLimitsWanted")),
}
_CHANGES = {"name": or_null(_NAME), **_REST}
_PATH = {"word": Parameter("id", KEY_ID, example="0123456789ab")}
# No key gives more than it has.
_GIVING = (
    *openapi.JSON_BODY,
    *Fault.of(errors.UnsupportedMediaType),
    *Fault.of(errors.PermissionDenied, "insufficient_scope"),
)

openapi.describe(
    keys_api.Keys,
    get=Operation(
        "list_keys",
        "The organization's keys, newest first",
        _TAG,
        {200: openapi.answer("A page of keys.", page(_KEY))},
        faults=openapi.QUERY,
        parameters=openapi.page_parameters(KEY_ID, "key"),
    ),
    post=Operation(
        "create_key",
        "Make a key",
        _TAG,
        {201: openapi.answer("The key, with its raw form this one time.", _NEW_KEY)},
        description="It gets only scopes of the key that makes it, and ends with it at the latest.",
        faults=(*_GIVING, *Fault.of(errors.MissingParameter)),
        body=openapi.json_body(
            named("KeyToMake", record(name=_NAME, optional={**_REST, "expires_at": or_null(_EXPIRES)})),
            small={"name": "shop"},
            bounded={
                "name": "shop",
                "scopes": ["images"],
                "rules": {"models": ["gpt-image-1"], "qualities": ["low"]},
                "limits": {"requests_per_minute": 60, "spend_month_usd": "25.00"},
                "expires_at": 1893456000,
            },
        ),
    ),
)


def _change(name: str) -> Operation:
    return Operation(
        name,
        "Change a key",
        _TAG,
        {200: openapi.answer("The key as it is from now on.", _KEY)},
        description="Each member that is sent replaces what was there, whole.",
        faults=(*_GIVING, *openapi.MISSING),
        path=_PATH,
        body=openapi.json_body(
            named("KeyChanges", record(optional=_CHANGES)), renamed={"name": "shop, old"}, narrowed={"scopes": ["keys"]}
        ),
    )


openapi.describe(
    keys_api.KeyDetail,
    get=Operation(
        "get_key", "One key", _TAG, {200: openapi.answer("The key.", _KEY)}, faults=openapi.MISSING, path=_PATH
    ),
    patch=_change("update_key"),
    post=_change("update_key_by_post"),
    delete=Operation(
        "delete_key",
        "End a key, for good",
        _TAG,
        {200: openapi.answer("It has ended.", deleted("key", KEY_ID))},
        faults=openapi.MISSING,
        path=_PATH,
    ),
)
