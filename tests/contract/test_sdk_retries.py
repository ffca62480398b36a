"""T-09 and T-10 with the stock SDKs: they send again what they believe is lost, and it is made and charged once."""

from __future__ import annotations

from typing import Any

from billing.models import Transfer
from tests.contract.conftest import Customer, Pictures, Sdk
from tests.contract.lossy import LossyLine
from tests.contract.matrix import SDKS, shows
from tests.contract.test_sdk_edits import described
from tests.fakes.providers import ProviderFake

ASKED: dict[str, Any] = {"model": "gpt-image-1", "prompt": "a red fox", "size": "1024x1024", "quality": "low"}

# It has read its form away by the time it would send it again, and waits for ever.
ONE_FORM_ONLY = ("node 4",)


def charges() -> int:
    return Transfer.objects.filter(kind__in=["charge", "charge_promo"]).count()


@shows("lost reply costs once", clients=SDKS)
def test_a_lost_reply_costs_once(customer: Customer, sdk: Sdk, fake: ProviderFake, lossy: LossyLine) -> None:
    lossy.lose(1)
    answer = sdk.do("generate", customer, base_url=lossy.base_url, **ASKED)["answer"]
    assert answer["data"][0]["url"]
    assert lossy.retry_counts == ["0", "1"]
    assert (fake.calls, charges()) == (1, 1)


@shows("lost reply of an edit", clients=[name for name in SDKS if name not in ONE_FORM_ONLY])
def test_a_lost_reply_of_an_edit_costs_once(
    customer: Customer, sdk: Sdk, fake: ProviderFake, lossy: LossyLine, pictures: Pictures
) -> None:
    lossy.lose(1, quietly=False)
    image = described(pictures.source, "bytes")
    answer = sdk.do("edit", customer, base_url=lossy.base_url, image=image, **ASKED)["answer"]
    assert answer["data"][0]["url"]
    assert lossy.retry_counts == ["0", "1"]
    assert (fake.calls, charges()) == (1, 1)


@shows("`Idempotency-Key`", clients=SDKS)
def test_three_calls_with_one_key_cost_once(customer: Customer, sdk: Sdk, fake: ProviderFake, lossy: LossyLine) -> None:
    lossy.lose(2, quietly=False)
    how = {"default_headers": {"Idempotency-Key": "order-7"}}
    first = sdk.do("generate", customer, base_url=lossy.base_url, how=how, **ASKED)["answer"]
    assert lossy.retry_counts == ["0", "1", "2"]
    again = sdk.do("generate", customer, how=how, **ASKED)["answer"]
    assert again["data"] == first["data"]
    assert (fake.calls, charges()) == (1, 1)
    error = sdk.do("generate", customer, how=how, **{**ASKED, "prompt": "a blue fox"})["error"]
    assert (error["class"], error["status"]) == ("UnprocessableEntityError", 422)
