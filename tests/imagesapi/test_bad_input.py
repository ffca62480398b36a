"""What a caller can send wrong: refused in OpenAI's shape with a way out, and nothing held, written or sent."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
import time_machine
from django.test import Client
from django.utils import timezone

from accounts import keys
from accounts.models import Organization
from billing import ledger
from billing.models import Account
from core import ids, money, openapi
from imagesapi.models import Generation
from tests.envelope import assert_refused, error_of
from tests.fakes.providers import ProviderFake
from tests.imagesapi.conftest import ASKED, GENERATIONS, Caller, assert_nothing_happened
from tests.people import IssuedKey


@pytest.fixture
def untouched(providers: ProviderFake) -> Iterator[None]:
    """What the test sends leaves no trace."""
    yield
    assert_nothing_happened(providers)


def nested(levels: int) -> bytes:
    return b'{"prompt": "a fox", "deep": %s1%s}' % (b"[" * levels, b"]" * levels)


BODIES: dict[str, tuple[bytes, int, str]] = {
    "nothing": (b"", 400, "invalid_json"),
    "half": (b'{"prompt": "a fox', 400, "invalid_json"),
    "text after it": (b'{"prompt": "a fox"} {}', 400, "invalid_json"),
    "single quotes": (b"{'prompt': 'a fox'}", 400, "invalid_json"),
    "NaN": (b'{"prompt": "a fox", "n": NaN}', 400, "invalid_json"),
    "not UTF-8": (b'{"prompt": "\xff\xfe"}', 400, "invalid_json"),
    "UTF-16": ('{"prompt": "a fox"}'.encode("utf-16"), 400, "invalid_json"),
    "an array": (b"[]", 400, "invalid_json"),
    "a text": (b'"a fox"', 400, "invalid_json"),
    "null": (b"null", 400, "invalid_json"),
    "a number": (b"7", 400, "invalid_json"),
    "100 000 deep": (nested(100_000), 400, "invalid_json"),
    "100 000 deep objects": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, 400, "invalid_json"),
    "1 000 deep": (nested(1_000), 400, "invalid_json"),
    "300 deep": (nested(300), 400, "invalid_json"),
    "a lone surrogate": (rb'{"prompt": "a \ud800 fox"}', 400, "invalid_json"),
    "a lone surrogate in a key": (rb'{"prompt": "a fox", "\udfff": 1}', 400, "invalid_json"),
    "a raw line break in a text": (b'{"prompt": "a\nfox"}', 400, "invalid_json"),
    "too large": (b'{"prompt": "' + b"x" * 1_100_000 + b'"}', 413, "request_too_large"),
}


@pytest.mark.parametrize("body", BODIES)
def test_it_refuses_a_body_that_is_no_object(caller: Caller, untouched: None, body: str) -> None:
    content, status, code = BODIES[body]
    assert_refused(caller.send(content), status, code)


@pytest.mark.parametrize("body", [rb'"prompt": "a \u0000 fox"', rb'"\u0000": 1', rb'"extra": [{"a": "\u0000"}]'])
def test_it_refuses_the_character_nul_wherever_it_is(caller: Caller, untouched: None, body: bytes) -> None:
    error = error_of(caller.send(b'{"model": "gpt-image-1", "prompt": "a fox", %s}' % body))
    assert error["code"] == "invalid_value"
    assert "NUL" in error["message"]


@pytest.mark.parametrize("number", ["1e30", "-1e19", "9223372036854775808", "1" * 40])
def test_it_refuses_numbers_that_it_could_not_give_back(caller: Caller, untouched: None, number: str) -> None:
    body = f'{{"model": "gpt-image-1", "prompt": "a fox", "extra": [{{"a": {number}}}]}}'
    assert_refused(caller.send(body), 400, "invalid_value", param="extra", says="64 bits")


WRONG_TYPES: dict[str, list[Any]] = {
    "prompt": [7, True, ["a fox"], {"text": "a fox"}],
    "model": [7, False, ["gpt-image-1"], {}],
    "n": ["1", 1.5, 1e9, True, [], {}],
    "size": [1024, [1024, 1024], {"width": 1024}, True],
    "quality": [1, True, ["low"], {}],
    "background": [1, True, []],
    "output_format": [1, True, ["png"]],
    "output_compression": ["80", 80.5, True, {}],
    "moderation": [1, True, []],
    "style": [1, True, {}],
    "response_format": [1, True, {"type": "url"}],
    "user": [1, True, ["me"]],
    "safety_identifier": [1, {}],
    "strict": ["true", 1, []],
    "stream": ["true", 1],
    "partial_images": ["1", 0.5],
    "max_cost": [True, [], {}],
    "dryRun": ["yes", 1],
    "aspect_ratio": [1.5, True, [16, 9]],
    "resolution": [1, True, ["1K"]],
    "metadata": [7, True, ["a"], "a"],
    "provider": ["openai", True, ["openai"]],
}


@pytest.mark.parametrize("name", WRONG_TYPES)
def test_it_refuses_a_value_of_the_wrong_type(caller: Caller, untouched: None, name: str) -> None:
    for value in WRONG_TYPES[name]:
        assert_refused(caller.ask(**{name: value}), 400, "invalid_type", param=name, says=name)


BAD_VALUES: list[tuple[dict[str, Any], str, str, str]] = [
    ({"n": 0}, "n", "invalid_value", "from 1 to 10"),
    ({"n": 11}, "n", "invalid_value", "from 1 to 10"),
    ({"n": -1}, "n", "invalid_value", "from 1 to 10"),
    ({"n": 1_000_000_000}, "n", "invalid_value", "from 1 to 10"),
    ({"n": 2**63 - 1}, "n", "invalid_value", "from 1 to 10"),
    ({"prompt": ""}, "prompt", "invalid_value", "empty"),
    ({"prompt": " \n\t"}, "prompt", "invalid_value", "empty"),
    ({"prompt": None}, "prompt", "missing_required_parameter", "required"),
    ({"prompt": "x" * 32_001}, "prompt", "string_above_max_length", "32000"),
    ({"size": "1024"}, "size", "invalid_value", "WIDTHxHEIGHT"),
    ({"size": "1024X1024"}, "size", "invalid_value", "WIDTHxHEIGHT"),
    ({"size": "0x0"}, "size", "invalid_value", "WIDTHxHEIGHT"),
    ({"size": "-1024x1024"}, "size", "invalid_value", "WIDTHxHEIGHT"),
    ({"size": "999999999999x1"}, "size", "invalid_value", "WIDTHxHEIGHT"),
    ({"size": "1024x1024\n"}, "size", "invalid_value", "WIDTHxHEIGHT"),
    ({"size": "١٠٢٤x١٠٢٤"}, "size", "invalid_value", "WIDTHxHEIGHT"),
    ({"size": "256x256"}, "size", "invalid_value", "1536x1024"),
    ({"model": "gpt-image-2", "size": "1000x1000"}, "size", "invalid_value", "multiple of 16"),
    ({"model": "gpt-image-2", "size": "99999x16"}, "size", "invalid_value", "multiple of 16"),
    ({"model": "gpt-image-2", "size": "16x16"}, "size", "invalid_value", "655360"),
    ({"quality": "perfect"}, "quality", "invalid_value", "low"),
    ({"quality": "LOW!"}, "quality", "invalid_value", "word"),
    ({"background": "blue"}, "background", "invalid_value", "transparent"),
    ({"background": "transparent", "output_format": "jpeg"}, "background", "invalid_value", "png or webp"),
    ({"output_format": "bmp"}, "output_format", "invalid_value", "webp"),
    ({"output_compression": 101, "output_format": "jpeg"}, "output_compression", "invalid_value", "0 to 100"),
    ({"output_compression": -1, "output_format": "jpeg"}, "output_compression", "invalid_value", "0 to 100"),
    ({"output_compression": 50}, "output_compression", "invalid_value", "'jpeg', 'webp' or 'avif'"),
    ({"moderation": "none"}, "moderation", "invalid_value", "auto"),
    ({"response_format": "json"}, "response_format", "invalid_value", "b64_json"),
    ({"user": "x" * 513}, "user", "string_above_max_length", "512"),
    ({"metadata": {"": "x"}}, "metadata", "invalid_value", "1 to 64"),
    ({"metadata": {"a": 1}}, "metadata", "invalid_value", "strings"),
    ({"metadata": {str(number): "x" for number in range(17)}}, "metadata", "invalid_value", "16"),
    ({"metadata": {"a": "x" * 513}}, "metadata", "invalid_value", "512"),
    ({"max_cost": 0}, "max_cost", "invalid_value", "positive"),
    ({"max_cost": -0.01}, "max_cost", "invalid_value", "positive"),
    ({"max_cost": "a dollar"}, "max_cost", "invalid_value", "dollars"),
    ({"max_cost": 1e300}, "max_cost", "invalid_value", "dollars"),
    ({"max_cost": 5e-324}, "max_cost", "invalid_value", "positive"),
    ({"stream": "true"}, "stream", "invalid_type", "true or false"),
    ({"stream": True, "output_format": "gif"}, "output_format", "invalid_value", "'png', 'jpeg' or 'webp'"),
    ({"partial_images": 4}, "partial_images", "invalid_value", "from 0 to 3"),
    ({"image": "https://example.com/a.png"}, "image", "unknown_parameter", "images/edits"),
    ({"mask": "x"}, "mask", "unknown_parameter", "images/edits"),
    ({"input_fidelity": "high"}, "input_fidelity", "unknown_parameter", "images/edits"),
    ({f"x{number}": 1 for number in range(33)}, "", "unknown_parameter", "33"),
    ({"model": "no such model!"}, "model", "invalid_value", "gpt-image-1"),
    ({"model": ""}, "model", "invalid_value", "gpt-image-1"),
    ({"model": "x" * 201}, "model", "invalid_value", "gpt-image-1"),
    ({"strict": True, "seed": 7}, "seed", "adjustment_refused", "seed would have to be left out"),
    ({"strict": True, "s" * 9_000: 7}, "s" * 64, "adjustment_refused", "left out"),
    ({"strict": True, "model": "fal/gpt-image-1", "quality": "auto"}, "quality", "adjustment_refused", "strict"),
]


@pytest.mark.parametrize("name", sorted({param for _, param, _, _ in BAD_VALUES}))
def test_it_says_what_is_allowed(caller: Caller, untouched: None, name: str) -> None:
    for changes, param, code, says in BAD_VALUES:
        if param == name:
            assert_refused(caller.ask(**changes), 400, code, param=param or None, says=says)


@pytest.mark.parametrize(
    ("model", "hint"),
    [
        ("gpt-image1", "gpt-image-1"),
        ("flux.1-schnel", "flux.1-schnell"),
        ("openai/gpt-image-9", "gpt-image-"),
        ("gpt-4o", ""),
        ("/", "GET /v1/models"),
        ("nobody/gpt-image-1", "gpt-image-1"),
        ("fal/mock-image", "mock"),
    ],
)
def test_it_names_the_nearest_model_for_an_unknown_one(caller: Caller, untouched: None, model: str, hint: str) -> None:
    assert_refused(caller.ask(model=model), 404, "model_not_found", param="model", says=hint)


def test_null_means_absent(caller: Caller, providers: ProviderFake) -> None:
    answer = caller.ask(n=None, response_format=None, user=None, stream=None, image=None, max_cost=None, seed=None)
    assert answer.status_code == 200
    assert answer.json()["metadata"]["adjustments"] == []


def test_of_two_equal_keys_the_last_counts_everywhere(caller: Caller, providers: ProviderFake) -> None:
    body = orjson.dumps({**ASKED, "n": 20}).replace(b"}", b', "n": 1, "prompt": "a blue fox"}')
    assert caller.send(body).status_code == 200
    sent = [seen.json for seen in providers.requests]
    assert [(one["n"], one["prompt"]) for one in sent] == [(1, "a blue fox")]
    assert Generation.objects.get().asked["prompt"] == "a blue fox"


def test_an_unknown_parameter_is_dropped_and_told(caller: Caller, providers: ProviderFake) -> None:
    answer = caller.ask(seed=7, api_base="http://127.0.0.1:1/", authorization="Bearer x")
    assert answer.status_code == 200
    told = {change["parameter"]: change["used"] for change in answer.json()["metadata"]["adjustments"]}
    assert told == {"seed": None, "api_base": None, "authorization": None}
    assert set(providers.requests[0].json) <= {"model", "prompt", "n", "size", "quality", "output_format"}


# Models whose time is over


@pytest.fixture
def public_endpoints(no_provider_keys: None, monkeypatch: pytest.MonkeyPatch, fake: ProviderFake) -> ProviderFake:
    """Keys, and the providers' own addresses, to which the life-cycle of an offer belongs; openai only."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    return fake


@pytest.mark.parametrize(
    ("model", "day", "successor"),
    [
        ("openai/gpt-image-1", "2026-11-22", "gpt-image-2"),
        ("openai/gpt-image-1.5", "2026-12-01", "gpt-image-2"),
        ("openai/gpt-image-1-mini", "2027-03-01", "gpt-image-2.5-flare"),
        ("chatgpt-image-latest", "2026-12-02", "gpt-image-2.6-sunburst"),
    ],
)
def test_a_retired_model_names_its_successor(
    api_key: IssuedKey, credit: int, public_endpoints: ProviderFake, model: str, day: str, successor: str
) -> None:
    with time_machine.travel(dt.datetime.fromisoformat(f"{day}T00:00:00+00:00"), tick=True):
        answer = Caller(api_key).ask(model=model)
    assert_refused(answer, 404, "model_retired", param="model", says=f"Use {successor} instead")
    assert_nothing_happened(public_endpoints)


def test_a_provider_without_a_key_is_not_the_callers_fault(
    api_key: IssuedKey, credit: int, no_provider_keys: None, fake: ProviderFake, settings: Any
) -> None:
    settings.SIMULATE_UNCONFIGURED = False
    answer = Caller(api_key).ask()
    assert_refused(answer, 503, "provider_not_configured", param="model", says="no key")
    assert answer.headers["x-should-retry"] == "false"
    assert_nothing_happened(fake)


# Who asks


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer  "},
        {"Authorization": "Basic YTpi"},
        {"Authorization": "Bearer sk-proj-0123456789"},
        {"Authorization": "Bearer pxp_000000000000.short"},
        {"Authorization": "Bearer pxp_000000000000." + "A" * 43},
        {"Authorization": "Bearer " + "x" * 5_000},
        {"Authorization": "Bearer pxp_é' OR 1=1 --"},
        {"X-Api-Key": "pxp_000000000000." + "A" * 43},
        {"Api-Key": "anything"},
    ],
    ids=lambda headers: "".join(headers.values())[:30] or "nothing",
)
def test_it_asks_for_a_key(credit: int, providers: ProviderFake, untouched: None, headers: dict[str, str]) -> None:
    answer = Client().post(GENERATIONS, ASKED, content_type="application/json", headers=headers)
    assert_refused(answer, 401, "invalid_api_key")


def test_a_key_in_the_address_is_refused(caller: Caller, untouched: None) -> None:
    answer = Client().post(f"{GENERATIONS}?api_key={caller.key.raw}", ASKED, content_type="application/json")
    assert_refused(answer, 401, "invalid_api_key", says="address")
    assert caller.key.raw not in answer.content.decode()


def test_a_revoked_key_is_refused_at_once(caller: Caller, untouched: None) -> None:
    keys.revoke(caller.key.row)
    assert_refused(caller.ask(), 401, "invalid_api_key", says="revoked")


def test_an_expired_key_is_refused(organization: Organization, credit: int, untouched: None) -> None:
    expires_at = timezone.now() + dt.timedelta(hours=1)
    key = IssuedKey(*keys.create(organization, name="short", expires_at=expires_at))
    with time_machine.travel(expires_at + dt.timedelta(seconds=1)):
        answer = Caller(key).ask()
    assert_refused(answer, 401, "invalid_api_key", says="expired")


def test_a_suspended_organization_is_refused(caller: Caller, untouched: None, organization: Organization) -> None:
    Organization.objects.filter(pk=organization.pk).update(suspended_at=timezone.now())
    assert_refused(caller.ask(), 403, "organization_suspended", says="suspended")


# Money


def test_an_empty_balance_says_what_was_needed_and_what_is_there(
    api_key: IssuedKey, providers: ProviderFake, untouched: None, organization: Organization
) -> None:
    ledger.grant(organization.pk, amount_nanos=1_000_000, reason="test", reference=ids.new())
    answer = Caller(api_key).ask()
    error = error_of(answer)
    assert (answer.status_code, error["code"], error["type"]) == (402, "insufficient_balance", "insufficient_quota")
    assert error["available"] == "0.001"
    assert money.nanos(error["needed"]) > 10_880_000
    assert error["limit"] == {"scope": "organization", "window": "total", "cap": None}
    assert f"${error['needed']}" in error["message"] and "$0.001" in error["message"]


def test_a_frozen_balance_is_refused(caller: Caller, untouched: None, organization: Organization) -> None:
    Account.objects.filter(organization=organization).update(frozen=True)
    assert_refused(caller.ask(), 402, "balance_frozen", says="frozen")


@pytest.mark.parametrize("max_cost", ["", "0", "-1", "1e-2", "0.05, 0.10", "NaN", "0.0000000001"])
def test_a_wrong_max_cost_is_named_as_it_was_sent(caller: Caller, untouched: None, max_cost: str) -> None:
    answer = caller.send(ASKED, headers={"X-Max-Cost": max_cost})
    assert_refused(answer, 400, "invalid_value", param="X-Max-Cost", says="9 decimal places")
    assert_refused(caller.ask(max_cost=max_cost), 400, "invalid_value", param="max_cost", says="9 decimal places")


@pytest.mark.parametrize("max_cost", [" " * 38 + "0.001", "0.001" + " " * 99])
def test_spaces_do_not_change_max_cost(caller: Caller, untouched: None, max_cost: str) -> None:
    """Cut off after forty characters, the first of these was "0."."""
    assert_refused(caller.ask(max_cost=max_cost), 402, "max_cost_exceeded", param="max_cost", says="$0.001")


@pytest.mark.parametrize("how", ["body", "header"])
def test_more_than_max_cost_is_refused_before_anything_is_held(caller: Caller, untouched: None, how: str) -> None:
    answer = caller.ask(max_cost=0.001) if how == "body" else caller.send(ASKED, headers={"X-Max-Cost": "0.001"})
    assert_refused(answer, 402, "max_cost_exceeded", param="max_cost", says="$0.001")


# Addresses, methods, headers, encodings


@pytest.mark.parametrize("root", ["/openai/v1", "/v1"])
@pytest.mark.parametrize("method", ["get", "post"])
def test_an_unknown_route_is_json_under_both_roots(caller: Caller, untouched: None, root: str, method: str) -> None:
    for route in ("", "/", "/nothing", "/images", "/images/generations/", "/chat/completions", "/a/../../x", "//"):
        answer = getattr(caller.client, method)(f"{root}{route}")
        assert_refused(answer, 404, "not_found", says="/openai/v1")


@pytest.mark.parametrize("method", ["get", "put", "patch", "delete", "options", "trace"])
def test_a_wrong_method_names_the_right_one(caller: Caller, untouched: None, method: str) -> None:
    answer = getattr(caller.client, method)(GENERATIONS)
    assert_refused(answer, 405, "method_not_allowed")
    assert answer.headers["Allow"].startswith("POST")


def test_head_answers_like_get_without_a_body(caller: Caller, untouched: None) -> None:
    answer = caller.client.head("/openai/v1/models")
    assert (answer.status_code, answer.content) == (200, b"")
    assert caller.client.head(GENERATIONS).status_code == 405


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1:80:80", "a b", "[::1", "x@127.0.0.1", ""])
def test_a_foreign_host_is_refused_in_json(caller: Caller, untouched: None, host: str) -> None:
    answer = caller.send(ASKED, headers={"Host": host})
    assert_refused(answer, 400, "invalid_value", says="host")


@pytest.mark.parametrize(
    "content_type",
    ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain", "application/xml", "x/y/z"],
)
def test_only_json_is_taken(caller: Caller, untouched: None, content_type: str) -> None:
    answer = caller.send(b"prompt=a+fox", content_type=content_type)
    assert_refused(answer, 415, "unsupported_media_type", says="application/json")


def test_a_browser_may_ask_first_and_read_the_refusal(caller: Caller, untouched: None) -> None:
    origin = {"Origin": "https://app.example"}
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
    preflight = Client().options(GENERATIONS, headers={**origin, **asked})
    assert preflight.status_code == 200
    assert "authorization" in preflight.headers["Access-Control-Allow-Headers"]
    refusal = caller.send(b"{", headers=origin)
    assert_refused(refusal, 400, "invalid_json")
    assert refusal.headers["Access-Control-Allow-Origin"] == "*"


def test_a_browser_may_read_every_header_that_is_described(caller: Caller) -> None:
    """x-should-retry above all: an SDK that cannot read it sends again what a provider may have billed."""
    document = openapi.document()
    described = {
        name.lower()
        for operations in document["paths"].values()
        for operation in operations.values()
        for answer in operation["responses"].values()
        for shown in [answer, document["components"]["responses"].get(answer.get("$ref", "").rpartition("/")[2], {})]
        for name in shown.get("headers", {})
    }
    answer = caller.client.get("/openai/v1/models", headers={"Origin": "https://app.example"})
    exposed = set(answer.headers["Access-Control-Expose-Headers"].split(", "))
    assert "x-should-retry" in exposed
    assert described - exposed <= {"cache-control"}  # which every browser shows


@pytest.mark.parametrize("value", ["maybe", "2", "TRUE!", ""])
def test_a_flag_in_the_address_is_true_or_false(caller: Caller, untouched: None, value: str) -> None:
    assert_refused(caller.send(ASKED, path=f"{GENERATIONS}?dryRun={value}"), 400, "invalid_value", param="dryRun")


@pytest.mark.parametrize("query", ["dryRun=true&dryRun=false", "dryRun=true&dryRun=true"])
def test_a_price_is_asked_for_once(caller: Caller, untouched: None, query: str) -> None:
    """Of two answers to the question whether to pay, none is taken for the right one."""
    answer = caller.send(ASKED, path=f"{GENERATIONS}?{query}")
    assert_refused(answer, 400, "invalid_value", param="dryRun", says="send it once")


@pytest.mark.parametrize("name", ["dryrun", "dry_run", "dry-run", "DryRun", "maxCost", "max-cost", "MaxCost"])
def test_a_misspelled_guard_is_not_paid_for(caller: Caller, untouched: None, name: str) -> None:
    meant = "'dryRun'" if name.lower().startswith("dry") else "'max_cost'"
    for answer in (caller.send(ASKED, path=f"{GENERATIONS}?{name}=true"), caller.ask(**{name: "0.01"})):
        assert_refused(answer, 400, "unknown_parameter", param=name, says=meant)


def test_a_ceiling_in_the_address_is_not_read_past(caller: Caller, untouched: None) -> None:
    answer = caller.send(ASKED, path=f"{GENERATIONS}?max_cost=0.000001")
    assert_refused(answer, 400, "unknown_parameter", param="max_cost", says="X-Max-Cost")


def test_other_parameters_in_the_address_are_read_past(caller: Caller) -> None:
    """Clients put things there that concern nobody here, such as a version."""
    assert caller.send(ASKED, path=f"{GENERATIONS}?api-version=2024-10-21").status_code == 200


@pytest.mark.parametrize("path", ["/v1/requests/{}", "/openai/v1/images/{}/content", "/openai/v1/models/{}"])
def test_a_strange_id_is_a_missing_one(caller: Caller, untouched: None, path: str) -> None:
    for word in ("%00", "%ff%fe", "req_", "req_zzzzzzzzzzzzzzzzzzzzzzzzzz", "1", "' OR 1=1"):
        assert error_of(caller.client.get(path.format(word)))["code"] in ("not_found", "model_not_found")


def test_a_refusal_tells_no_secret(caller: Caller, untouched: None) -> None:
    answer = caller.send(b'{"prompt": 7, "model": "gpt-image-1"}')
    text = answer.content.decode() + str(answer.headers)
    assert caller.key.raw not in text
    assert answer.headers["x-request-id"].startswith("req_")
    assert answer.headers["Cache-Control"] == "no-store"
