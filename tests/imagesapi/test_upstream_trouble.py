"""What a provider can do wrong: a clear error or another's image for the caller, and exact money either way."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import pytest

from accounts.models import Organization
from billing import ledger
from billing.models import Hold, Transfer
from core import ids, money
from imagesapi.models import Attempt, Generation, Image
from tests.envelope import error_of
from tests.fakes import misbehaviour
from tests.fakes.misbehaviour import Behaviour
from tests.fakes.providers import FAL_KEY, OPENAI_KEY, ProviderFake
from tests.imagesapi.conftest import Caller

# For providers that keep us waiting; the others have all the time of a slow machine.
SHORT_S = 0.4
# What fal bills for the request of these tests: its table says 0.011, and it rounds up to the cent.
FAL_NANOS = 20_000_000


@dataclass(frozen=True)
class Trouble:
    """How openai misbehaves, what the caller gets when it is asked alone, how the attempt ends, may fal be asked."""

    behaviour: Behaviour
    status: int
    code: str
    attempt: str
    fails_over: bool
    waits: bool = False


def unbilled(behaviour: Behaviour) -> Trouble:
    return Trouble(behaviour, 502, "all_providers_failed", "failed", True)


def unusable(behaviour: Behaviour) -> Trouble:
    """Likely billed, with nothing to deliver."""
    return Trouble(behaviour, 502, "all_providers_failed", "unknown", False)


def broken(behaviour: Behaviour) -> Trouble:
    """The connection ended, and nobody knows how far the work was."""
    return Trouble(behaviour, 504, "provider_timeout", "unknown", False)


def late(behaviour: Behaviour) -> Trouble:
    return Trouble(behaviour, 504, "provider_timeout", "unknown", False, waits=True)


def _error(code: str | None, kind: str = "invalid_request_error", **more: Any) -> dict[str, Any]:
    return {
        "error": {"message": f"It cannot be done with {OPENAI_KEY}.", "type": kind, "param": None, "code": code, **more}
    }


TROUBLES = {
    # refused or down, surely not billed
    "500": unbilled(misbehaviour.status(500, _error(None, "server_error"))),
    "500 without a body": unbilled(misbehaviour.status(500)),
    "502 in HTML": unbilled(misbehaviour.html(502)),
    "503 in HTML": unbilled(misbehaviour.html(503)),
    "a wrong key": unbilled(misbehaviour.status(401, _error("invalid_api_key"))),
    "a forbidden country": unbilled(misbehaviour.status(403, _error("unsupported_country"))),
    "an unpaid account": unbilled(misbehaviour.status(402, b"pay first")),
    "an empty account": unbilled(misbehaviour.out_of_quota()),
    "a hard limit": unbilled(misbehaviour.status(400, _error("billing_hard_limit_reached"))),
    "a model that is gone": unbilled(misbehaviour.status(404, _error("model_not_found"))),
    "404 in HTML": unbilled(misbehaviour.html(404)),
    "a redirect": unbilled(misbehaviour.redirect("http://127.0.0.1:9/elsewhere")),
    "a redirect to nowhere": unbilled(misbehaviour.status(302)),
    "418": unbilled(misbehaviour.status(418, b"teapot")),
    "a rate limit": Trouble(misbehaviour.rate_limited("7"), 503, "overloaded", "failed", True),
    "a rate limit for an hour": Trouble(misbehaviour.rate_limited("3600"), 503, "overloaded", "failed", True),
    # the request itself
    "a refusal of the content": Trouble(misbehaviour.blocked(), 400, "moderation_blocked", "refused", False),
    "an invalid request": Trouble(
        misbehaviour.status(400, _error("invalid_value", param="prompt")), 400, "invalid_value", "refused", False
    ),
    # nobody knows
    "silence": late(misbehaviour.hang()),
    "silence after the work": late(misbehaviour.bill_and_hang()),
    "a head in drops": late(misbehaviour.drip_head(0.05)),
    "a body in drops": late(misbehaviour.drip_body(0.05)),
    "a body in drops without a length": late(misbehaviour.drip_body(0.05, declared=False)),
    "an answer too late": late(misbehaviour.delayed(2)),
    "an end before the answer": broken(misbehaviour.drop()),
    "a reset before the answer": broken(misbehaviour.drop(reset=True)),
    "an end after the work": broken(misbehaviour.bill_and_drop()),
    "an end in the body": broken(misbehaviour.drop_in_body()),
    "a reset in the body": broken(misbehaviour.drop_in_body(reset=True)),
    "more declared than sent": broken(misbehaviour.wrong_length(+100)),
    "an interim answer": broken(misbehaviour.interim()),
    "no HTTP": broken(misbehaviour.not_http()),
    "a front's timeout": broken(misbehaviour.html(504)),
    # a success that is none
    "an end in the head": unusable(misbehaviour.drop_in_head()),
    "garbage": unusable(misbehaviour.garbage()),
    "an error in a 200": unusable(misbehaviour.error_in_200()),
    "HTML in a 200": unusable(misbehaviour.html(200)),
    "nothing in a 200": unusable(misbehaviour.status(200)),
    "an array": unusable(misbehaviour.altered(lambda body: [body])),
    "wrong types": unusable(misbehaviour.wrong_types()),
    "no images": unusable(misbehaviour.empty_data()),
    "text for an image": unusable(misbehaviour.not_an_image()),
    "a PNG that ends at once": unusable(
        misbehaviour.altered(lambda body: body["data"][0].update(b64_json="iVBORw0KGgo="))
    ),
    "base64 that is none": unusable(
        misbehaviour.altered(lambda body: body["data"][0].update(b64_json="iVBORw0KGgo=!!!!"))
    ),
    "an address for an image": unusable(
        misbehaviour.altered(lambda body: body.update(data=[{"url": "http://127.0.0.1:9/x.png"}]))
    ),
    "gigabytes": unusable(misbehaviour.huge_declared()),
    "no end": unusable(misbehaviour.endless_chunks()),
    "a gzip bomb": unusable(misbehaviour.gzip_bomb(16 * 1024**2)),
    "NaN in the usage": unusable(misbehaviour.nan_usage()),
}


def attempts() -> list[tuple[str, str]]:
    return list(Attempt.objects.order_by("sent_at", "number").values_list("provider", "status"))


def assert_nothing_is_charged(organization: Organization, credit: int) -> None:
    """The hold was given back whole: nothing lost, nothing booked."""
    assert [hold.state for hold in Hold.objects.all()] == ["voided"]
    assert not Transfer.objects.exclude(kind="grant").exists()
    balance = ledger.balance(organization.pk)
    assert (balance.available_nanos, balance.held_nanos) == (credit, 0)


@pytest.mark.parametrize("name", TROUBLES)
def test_a_provider_in_trouble_is_a_clear_error_and_no_charge(
    caller: Caller, providers: ProviderFake, organization: Organization, credit: int, settings: Any, name: str
) -> None:
    """Where another provider might be asked, the pin to openai forbids it; elsewhere it must not be asked anyway."""
    trouble = TROUBLES[name]
    providers.script(trouble.behaviour)
    limit_s = settings.PROVIDER_TIMEOUT_S = SHORT_S if trouble.waits else 20
    begun = time.monotonic()
    answer = caller.ask(model="openai/gpt-image-1" if trouble.fails_over else "gpt-image-1")
    assert time.monotonic() - begun < limit_s + 2
    settings.PROVIDER_TIMEOUT_S = 20
    error = error_of(answer)
    assert (answer.status_code, error["code"]) == (trouble.status, trouble.code), error
    assert OPENAI_KEY not in answer.content.decode()
    assert answer.headers.get("x-should-retry") == ("false" if trouble.status in (502, 504) else None)
    assert [seen.route for seen in providers.requests] == ["openai"]
    assert attempts() == [("openai", trouble.attempt)]
    generation = Generation.objects.get()
    assert generation.status == ("rejected" if trouble.status == 400 else "upstream_failure")
    assert (generation.error_code, generation.cost_nanos or 0) == (trouble.code, 0)
    assert_nothing_is_charged(organization, credit)
    # The connection and the house are as good as before.
    assert caller.ask().status_code == 200


@pytest.mark.parametrize("name", [name for name, trouble in TROUBLES.items() if trouble.fails_over])
def test_another_provider_is_asked_where_that_is_safe(
    caller: Caller, providers: ProviderFake, organization: Organization, credit: int, name: str
) -> None:
    providers.script(TROUBLES[name].behaviour, on="openai")
    answer = caller.ask()
    assert answer.status_code == 200, answer.content
    metadata = answer.json()["metadata"]
    assert [(one["provider"], one["status"]) for one in metadata["attempts"]] == [
        ("openai", "failed"),
        ("fal", "succeeded"),
    ]
    assert attempts() == [("openai", "failed"), ("fal", "succeeded")]
    assert (metadata["provider"], metadata["cost"]) == ("fal", 0.02)
    assert ledger.balance(organization.pk).available_nanos == credit - FAL_NANOS
    assert [hold.state for hold in Hold.objects.all()] == ["settled"]


BOTH = {
    "both down": (misbehaviour.html(502), 502, "all_providers_failed", "failed"),
    "both out of quota": (misbehaviour.out_of_quota(), 502, "all_providers_failed", "failed"),
    "both with a wrong key": (misbehaviour.status(401, {"detail": "no"}), 502, "all_providers_failed", "failed"),
    "both busy": (misbehaviour.rate_limited("7"), 503, "overloaded", "failed"),
    "both busy for an hour": (misbehaviour.rate_limited("3600"), 503, "overloaded", "failed"),
    "both busy for who knows": (misbehaviour.rate_limited(None), 503, "overloaded", "failed"),
}


@pytest.mark.parametrize("name", BOTH)
def test_every_provider_in_trouble(
    caller: Caller, providers: ProviderFake, organization: Organization, credit: int, name: str
) -> None:
    behaviour, status, code, attempt = BOTH[name]
    providers.behave(behaviour)
    answer = caller.ask()
    error = error_of(answer)
    assert (answer.status_code, error["code"]) == (status, code)
    assert "openai: " in error["message"] and "fal: " in error["message"]
    assert ("Retry-After" in answer.headers) == (status == 503)
    if status == 503:
        assert 1 <= int(answer.headers["Retry-After"]) < 60
    assert attempts() == [("openai", attempt), ("fal", attempt)]
    assert_nothing_is_charged(organization, credit)


def test_a_refused_connection_fails_over(
    caller: Caller, providers: ProviderFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    answer = caller.ask()
    assert answer.json()["metadata"]["provider"] == "fal"
    assert attempts() == [("openai", "failed"), ("fal", "succeeded")]
    assert Attempt.objects.get(number=1).error_code == "provider_unavailable"


def test_a_refusal_of_the_content_by_the_second_provider_is_the_answer(
    caller: Caller, providers: ProviderFake, organization: Organization, credit: int
) -> None:
    providers.script(misbehaviour.html(502), on="openai")
    providers.script(misbehaviour.blocked(), on="run")
    assert error_of(caller.ask())["code"] == "moderation_blocked"
    assert attempts() == [("openai", "failed"), ("fal", "refused")]
    assert_nothing_is_charged(organization, credit)


def test_a_refusal_says_which_category(caller: Caller, providers: ProviderFake) -> None:
    providers.script(misbehaviour.blocked())
    error = error_of(caller.ask())
    assert error["type"] == "image_generation_user_error"
    assert error["moderation_details"] == {"moderation_stage": "input", "categories": ["violence"]}


@pytest.mark.parametrize("name", ["an end after the work", "silence", "an answer too late"])
def test_after_a_timeout_the_operator_may_allow_another_try(
    caller: Caller, providers: ProviderFake, organization: Organization, credit: int, settings: Any, name: str
) -> None:
    settings.FAILOVER_AFTER_TIMEOUT = True
    settings.PROVIDER_TIMEOUT_S = 3
    providers.script(TROUBLES[name].behaviour, on="openai")
    answer = caller.ask()
    assert answer.json()["metadata"]["provider"] == "fal", answer.content
    assert attempts() == [("openai", "unknown"), ("fal", "succeeded")]
    assert ledger.balance(organization.pk).available_nanos == credit - FAL_NANOS


# Answers that are odd, and still deliver


@pytest.mark.parametrize(
    "behaviour",
    [
        misbehaviour.without_usage(),
        misbehaviour.odd_usage(output_tokens=-272),
        misbehaviour.odd_usage(output_tokens=2**70),
        misbehaviour.odd_usage(output_tokens="272"),
        misbehaviour.odd_usage(output_tokens=272.5),
        misbehaviour.odd_usage(output_tokens_details=[1]),
        misbehaviour.altered(lambda body: body.update(usage=["none"])),
        misbehaviour.altered(lambda body: body.update(usage={"input_tokens": {}, "output_tokens": None})),
    ],
    ids=["missing", "negative", "enormous", "text", "half", "odd details", "an array", "empty"],
)
def test_an_impossible_usage_is_estimated_and_never_free(
    caller: Caller, providers: ProviderFake, organization: Organization, credit: int, behaviour: Behaviour
) -> None:
    providers.script(behaviour)
    document = caller.ask().json()
    assert document["metadata"]["cost"] == pytest.approx(0.0109, abs=0.0001)
    assert ledger.balance(organization.pk).available_nanos == credit - round(document["metadata"]["cost"] * 1e9)
    receipt = Generation.objects.get().receipt or {}
    assert any(item["estimated"] for item in receipt["items"])
    assert "(estimated)" in receipt["explanation"]


def test_a_cost_above_the_hold_is_absorbed(
    caller: Caller, providers: ProviderFake, organization: Organization, credit: int
) -> None:
    usage = {"output_tokens": 900_000, "output_tokens_details": {"image_tokens": 900_000, "text_tokens": 0}}
    providers.script(misbehaviour.odd_usage(**usage, total_tokens=900_003))
    assert caller.ask().status_code == 200
    charged_nanos = Hold.objects.get().charged_nanos or 0
    assert ledger.balance(organization.pk).available_nanos == credit - charged_nanos
    absorbed = Transfer.objects.get(kind="absorbed")
    assert absorbed.amount_nanos + charged_nanos == pytest.approx(36 * money.NANOS_PER_USD, rel=0.001)


def test_more_images_than_asked_for_are_left_out(caller: Caller, providers: ProviderFake) -> None:
    providers.script(misbehaviour.altered(lambda body: body["data"].append(dict(body["data"][0]))))
    assert len(caller.ask().json()["data"]) == 1
    assert Image.objects.count() == 1


def test_a_usable_image_beside_an_unusable_one_is_delivered_alone(caller: Caller, providers: ProviderFake) -> None:
    providers.script(misbehaviour.altered(lambda body: body["data"][1].update(b64_json=None)))
    document = caller.ask(n=2).json()
    assert len(document["data"]) == 1
    assert document["metadata"]["cost"] < 0.012


def test_strange_headers_of_a_provider_stay_there(caller: Caller, providers: ProviderFake) -> None:
    providers.script(misbehaviour.with_header("Set-Cookie", "a=b; Domain=example.com"))
    answer = caller.ask()
    assert answer.status_code == 200
    assert not answer.cookies
    assert answer.headers["x-request-id"] == answer.json()["id"]


def test_an_answer_sent_twice_never_reaches_the_next_caller(caller: Caller, providers: ProviderFake) -> None:
    for length in (400, 40, 80, 4, 120):
        providers.script(misbehaviour.twice())
        usage = caller.ask(prompt="x" * length).json()["usage"]
        assert usage["input_tokens"] == length // 4
        time.sleep(0.06)


def test_bytes_after_the_answer_never_reach_the_next_caller(caller: Caller, providers: ProviderFake) -> None:
    providers.script(misbehaviour.wrong_length(-10))
    caller.ask(prompt="x" * 400)
    time.sleep(0.06)
    assert caller.ask(prompt="x" * 40).json()["usage"]["input_tokens"] == 10


# fal alone


FAL_TROUBLES = {
    "500": unbilled(misbehaviour.status(500, {"detail": "no", "error_type": "internal_server_error"})),
    "502 in HTML": unbilled(misbehaviour.html(502)),
    "a wrong key": unbilled(misbehaviour.status(401, {"detail": f"Cannot access with key {FAL_KEY}."})),
    "an empty account": unbilled(misbehaviour.out_of_quota()),
    "a model that is gone": unbilled(misbehaviour.status(404, {"detail": "Application not found"})),
    "a rate limit": Trouble(misbehaviour.rate_limited("7"), 503, "overloaded", "failed", True),
    "a refusal of the content": Trouble(misbehaviour.blocked(), 400, "moderation_blocked", "refused", False),
    "silence": late(misbehaviour.hang()),
    "an end in the body": broken(misbehaviour.drop_in_body()),
    "garbage": unusable(misbehaviour.garbage()),
    "wrong types": unusable(misbehaviour.wrong_types()),
    "no images": unusable(misbehaviour.empty_data()),
    "text for an image": unusable(misbehaviour.not_an_image()),
    "an image elsewhere": unusable(
        misbehaviour.altered(lambda body: body["images"][0].update(url="http://169.254.169.254/latest"))
    ),
    "a file": unusable(misbehaviour.altered(lambda body: body["images"][0].update(url="file:///etc/passwd"))),
}


@pytest.mark.parametrize("name", FAL_TROUBLES)
def test_fal_alone_in_trouble(
    caller: Caller, providers: ProviderFake, organization: Organization, credit: int, settings: Any, name: str
) -> None:
    trouble = FAL_TROUBLES[name]
    settings.PROVIDER_TIMEOUT_S = SHORT_S if trouble.waits else 20
    providers.script(trouble.behaviour)
    answer = caller.ask(model="fal/gpt-image-1")
    error = error_of(answer)
    assert (answer.status_code, error["code"]) == (trouble.status, trouble.code), error
    assert FAL_KEY not in answer.content.decode()
    assert [seen.route for seen in providers.requests] == ["run"]
    assert attempts() == [("fal", trouble.attempt)]
    assert_nothing_is_charged(organization, credit)


def test_a_hold_too_small_for_the_dearest_candidate_is_refused_before_any_call(
    caller: Caller, providers: ProviderFake, organization: Organization
) -> None:
    balance = ledger.balance(organization.pk).available_nanos
    spent = ids.new()
    ledger.hold(spent, organization_id=organization.pk, amount_nanos=balance - FAL_NANOS + 1)
    assert error_of(caller.ask())["code"] == "insufficient_balance"
    assert providers.calls == 0
    ledger.void(spent)
