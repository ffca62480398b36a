"""T-09 to T-11: the same request sent again is answered from what was kept: one provider call, one charge."""

from __future__ import annotations

import datetime as dt
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts import keys
from billing.models import Transfer
from core import ids, sql
from imagesapi import replays
from imagesapi.models import Generation
from tests import calls, money
from tests.envelope import assert_refused, error_of
from tests.fakes import misbehaviour
from tests.fakes.providers import ProviderFake
from tests.imagesapi.conftest import GENERATIONS
from tests.people import IssuedKey, issue
from tests.servers import LiveServer

ASKED = {"model": "gpt-image-1", "prompt": "a red fox", "size": "1024x1024", "quality": "low"}


class Program:
    """A client program with a customer's key."""

    def __init__(self, key: IssuedKey) -> None:
        self.key = key

    def ask(self, *, key: str | None = None, retry: int | None = None, path: str = GENERATIONS, **body: Any) -> Any:
        headers = dict(self.key.headers)
        if key is not None:
            headers["Idempotency-Key"] = key
        if retry is not None:
            headers["x-stainless-retry-count"] = str(retry)
        client = Client(raise_request_exception=False, headers=headers)
        try:
            return client.post(path, json.dumps({**ASKED, **body}), content_type="application/json")
        finally:
            sql.give_back()  # as the real server does; a thread that ends with one would keep it from the others


@pytest.fixture
def program(committed: None, providers: ProviderFake) -> Iterator[Program]:
    _, key = money.customer(wallet_nanos=10**10)
    yield Program(key)
    assert money.wrongs() == []


def charges() -> int:
    return Transfer.objects.filter(kind__in=["charge", "charge_promo"]).count()


def test_it_replays_the_same_bytes_for_the_same_key(program: Program, providers: ProviderFake) -> None:
    first, second, third = (program.ask(key="order-7") for _ in range(3))
    assert first.status_code == 200
    assert first.content == second.content == third.content
    assert first.headers.get("Idempotency-Replayed") is None
    assert second.headers["Idempotency-Replayed"] == "true"
    assert second.headers["x-request-id"] == first.json()["id"]
    told = {name for name in first.headers if name.lower().startswith("x-pixelpar-")}
    assert {"x-pixelpar-cost", "x-pixelpar-provider", "x-pixelpar-model"} <= {name.lower() for name in told}
    assert {name: second.headers[name] for name in told} == {name: first.headers[name] for name in told}
    assert (providers.calls, charges()) == (1, 1)


@pytest.mark.parametrize("response_format", ["url", "b64_json"])
def test_it_replays_in_the_form_that_was_asked_for(program: Program, response_format: str) -> None:
    first, second = (program.ask(key="k", response_format=response_format) for _ in range(2))
    assert first.content == second.content
    assert next(iter(first.json()["data"][0])) == response_format


def test_another_body_with_the_same_key_is_refused(program: Program, providers: ProviderFake) -> None:
    program.ask(key="order-7")
    assert_refused(program.ask(key="order-7", prompt="a blue fox"), 422, "idempotency_key_reused",
                   param="Idempotency-Key")  # fmt: skip
    assert providers.calls == 1


def test_a_request_that_is_worked_on_says_so(program: Program, providers: ProviderFake) -> None:
    gate = calls.Gate(providers)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(program.ask, key="slow")
        while not gate.waiting and not running.done():
            threading.Event().wait(0.01)
        answer = program.ask(key="slow")
        assert_refused(answer, 409, "request_in_progress")
        assert 1 <= int(answer.headers["Retry-After"]) < 60
        gate.open()
        assert running.result().status_code == 200
    assert program.ask(key="slow").headers["Idempotency-Replayed"] == "true"
    assert (providers.calls, charges()) == (1, 1)


def test_many_at_once_with_one_key_make_one(program: Program, providers: ProviderFake) -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: program.ask(key="rush"), range(16)))
    statuses = {answer.status_code for answer in answers}
    assert 200 in statuses
    assert statuses <= {200, 409}
    assert (providers.calls, charges()) == (1, 1)


def test_a_failed_request_may_be_sent_again(program: Program, providers: ProviderFake) -> None:
    providers.script(misbehaviour.status(500), misbehaviour.status(500))
    assert program.ask(key="try").status_code == 502
    assert program.ask(key="try").status_code == 200
    assert charges() == 1


def test_a_refused_request_does_not_use_the_key_up(program: Program) -> None:
    assert program.ask(key="try", max_cost="0.000001").status_code == 402
    assert program.ask(key="try").status_code == 200


def test_another_organization_gets_its_own(program: Program, providers: ProviderFake) -> None:
    _, key = money.customer(wallet_nanos=10**10)
    first, other = program.ask(key="same"), Program(key).ask(key="same")
    assert first.json()["id"] != other.json()["id"]
    assert (providers.calls, charges()) == (2, 2)


def test_another_key_of_the_organization_gets_the_same(program: Program, providers: ProviderFake) -> None:
    first = program.ask(key="same")
    second = Program(issue(program.key.row.organization)).ask(key="same")
    assert first.content == second.content
    assert providers.calls == 1


def test_a_key_that_ended_gets_nothing(program: Program) -> None:
    program.ask(key="mine")
    keys.revoke(program.key.row)
    assert error_of(program.ask(key="mine"))["code"] == "invalid_api_key"


def test_a_purged_answer_is_gone_and_not_made_again(program: Program, providers: ProviderFake) -> None:
    word = program.ask(key="once").json()["id"]
    Client(headers=program.key.headers).delete(f"/v1/requests/{word}/payloads")
    assert_refused(program.ask(key="once"), 410, "request_purged")
    assert (providers.calls, charges()) == (1, 1)


@pytest.mark.parametrize("key", ["", " ", "a" * 256, "é", "a\tb"])
def test_it_says_what_a_key_may_be(program: Program, providers: ProviderFake, key: str) -> None:
    assert_refused(program.ask(key=key), 400, "invalid_value", param="Idempotency-Key", says="255")
    assert providers.calls == 0


# Stock SDKs, which send no key


def test_a_stock_retry_joins_what_was_made(program: Program, providers: ProviderFake) -> None:
    first, second, third = (program.ask(retry=count) for count in range(3))
    assert first.content == second.content == third.content
    assert second.headers["Idempotency-Replayed"] == "true"
    assert (providers.calls, charges()) == (1, 1)


def test_a_stock_retry_waits_for_what_is_being_made(program: Program, providers: ProviderFake) -> None:
    gate = calls.Gate(providers)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(program.ask, retry=0)
        while not gate.waiting and not first.done():
            threading.Event().wait(0.01)
        second = pool.submit(program.ask, retry=1)
        threading.Event().wait(0.3)
        gate.open()
        assert first.result().content == second.result().content
    assert (providers.calls, charges()) == (1, 1)


def test_parallel_prompts_keep_their_own_pictures(program: Program, providers: ProviderFake) -> None:
    one, two = program.ask(retry=0), program.ask(retry=0)
    retried = [program.ask(retry=1), program.ask(retry=1)]
    assert {answer.json()["id"] for answer in retried} == {one.json()["id"], two.json()["id"]}
    again = [program.ask(retry=2), program.ask(retry=2)]
    assert {answer.json()["id"] for answer in again} == {one.json()["id"], two.json()["id"]}
    assert (providers.calls, charges()) == (2, 2)


def test_a_retry_of_what_never_came_is_made_and_joined(program: Program, providers: ProviderFake) -> None:
    first, second = program.ask(retry=1), program.ask(retry=2)
    assert first.content == second.content
    assert (providers.calls, charges()) == (1, 1)


def test_a_retry_does_not_join_others(program: Program, providers: ProviderFake) -> None:
    program.ask(retry=0)
    other_key = Program(issue(program.key.row.organization))
    for answer in (program.ask(retry=1, prompt="another"), other_key.ask(retry=1)):
        assert "Idempotency-Replayed" not in answer.headers
    Generation.objects.update(created_at=timezone.now() - dt.timedelta(minutes=replays.JOIN_WITHIN_MINUTES + 1))
    assert "Idempotency-Replayed" not in program.ask(retry=1).headers
    assert providers.calls == 4


def test_a_retry_of_a_failure_is_made(program: Program, providers: ProviderFake) -> None:
    providers.script(misbehaviour.status(500), misbehaviour.status(500))
    assert program.ask(retry=0).status_code == 502
    assert program.ask(retry=1).status_code == 200
    assert charges() == 1


def test_replies_lost_on_the_way_cost_once_across_processes(server: LiveServer, fake: ProviderFake) -> None:
    import requests

    _, key = money.customer(wallet_nanos=10**10)
    for headers in ({"Idempotency-Key": f"k-{ids.token(6)}"}, {"x-stainless-retry-count": "0"}):
        fake.reset()
        before = charges()
        found = []
        for count in range(3):
            told = (
                {**headers, "x-stainless-retry-count": str(count)} if "x-stainless-retry-count" in headers else headers
            )
            body = {**calls.ASKED, "prompt": f"lost {sorted(headers)}"}
            reply = requests.post(server.url + calls.ROUTE, json=body, headers={**key.headers, **told}, timeout=30)
            found.append(reply.content)
        assert len(set(found)) == 1
        assert (fake.calls, charges() - before) == (1, 1)
