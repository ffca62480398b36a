"""Asynchronous requests: accepted at once, done by a worker, polled, cancelled, and never lost or done twice."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from django.db.models.functions import Now
from django.test import Client

from billing.models import Hold, Transfer
from imagesapi import jobs, recovery, store
from imagesapi.models import Attempt, Generation
from tests import calls, money
from tests.envelope import assert_refused
from tests.fakes import misbehaviour
from tests.fakes.providers import ProviderFake
from tests.imagesapi import steps
from tests.imagesapi.canvas import mask, picture
from tests.imagesapi.conftest import GENERATIONS
from tests.imagesapi.steps import session_victims, victims  # noqa: F401 - fixtures
from tests.imagesapi.test_edits import EDITS, FIELDS, VARIATIONS, form
from tests.people import IssuedKey
from tests.servers import LiveServer
from tests.victims import Victims

ASKED: dict[str, Any] = {"model": "gpt-image-1", "prompt": "a fox", "size": "1024x1024", "quality": "low"}
LATER = {"Prefer": "respond-async"}


class Program:
    def __init__(self, key: IssuedKey) -> None:
        self.client = Client(raise_request_exception=False, headers=key.headers)

    def ask(self, *, headers: dict[str, str] | None = None, **body: Any) -> Any:
        return self.client.post(
            GENERATIONS,
            json.dumps({**ASKED, **body}),
            content_type="application/json",
            headers={**LATER, **(headers or {})},
        )

    def send(self, path: str, *parts: tuple[str, str | None, bytes]) -> Any:
        kind = "multipart/form-data; boundary=simple-boundary"
        return self.client.post(path, form(*parts), content_type=kind, headers=LATER)

    def poll(self, word: str) -> dict[str, Any]:
        answer = self.client.get(f"/v1/requests/{word}")
        assert answer.status_code == 200, answer.content
        found: dict[str, Any] = answer.json()
        return found

    def cancel(self, word: str) -> Any:
        return self.client.delete(f"/v1/requests/{word}")


@pytest.fixture
def program(committed: None, providers: ProviderFake) -> Iterator[Program]:
    _, key = money.customer(wallet_nanos=10**10)
    yield Program(key)
    assert money.wrongs() == []


def work() -> None:
    """What the worker does with whatever waits."""
    for number in Generation.objects.filter(status="pending").values_list("pk", flat=True):
        jobs.run(str(number))


def test_it_accepts_at_once_and_keeps_the_answer(program: Program, providers: ProviderFake) -> None:
    answer = program.ask()
    assert answer.status_code == 202
    word = answer.json()["id"]
    assert answer.headers["Location"] == f"/v1/requests/{word}"
    assert answer.headers["Preference-Applied"] == "respond-async"
    assert answer.json()["status"] == "pending"
    assert Hold.objects.get().state == "held"
    assert providers.calls == 0
    work()
    found = program.poll(word)
    assert found["status"] == "completed"
    assert found["result"]["data"][0]["url"]
    assert found["result"]["metadata"]["cost"] == found["cost"] > 0
    assert providers.calls == 1


def test_all_three_routes_can_answer_later(program: Program, providers: ProviderFake) -> None:
    accepted = [
        program.ask(model="openai/gpt-image-1"),
        program.send(EDITS, *FIELDS, ("image", "x", picture()), ("mask", "m", mask())),
        program.send(VARIATIONS, ("model", None, b"openai/gpt-image-1"), ("image", "x", picture())),
    ]
    assert [answer.status_code for answer in accepted] == [202] * 3
    work()
    assert [program.poll(answer.json()["id"])["status"] for answer in accepted] == ["completed"] * 3
    sent = [one for one in providers.requests if one.path.endswith("/edits")]
    # Side by side, so in any order.
    assert sorted(sum(part.filename is not None for part in one.parts) for one in sent) == [1, 2]


def test_input_pictures_are_forgotten_afterwards(program: Program, settings: Any) -> None:
    program.send(EDITS, *FIELDS, ("image", "x", picture()))
    (entry,) = Generation.objects.get().inputs or []
    with store.open_image(entry["path"]) as handle:
        assert handle.read()
    work()
    assert not (settings.STORE_DIR / entry["path"]).exists()


def test_a_failure_is_told_and_costs_nothing(program: Program, providers: ProviderFake) -> None:
    providers.script(misbehaviour.blocked())
    word = program.ask().json()["id"]
    work()
    found = program.poll(word)
    assert (found["status"], found["error_code"]) == ("rejected", "moderation_blocked")
    assert not Transfer.objects.filter(kind="charge").exists()


def test_it_refuses_like_any_other_before_it_accepts(program: Program) -> None:
    assert_refused(program.ask(size="7x7"), 400, "invalid_value", param="size")
    assert_refused(program.ask(max_cost="0.000001"), 402, "max_cost_exceeded", param="max_cost")
    assert not Generation.objects.exists()


def test_the_same_key_is_accepted_once(program: Program, providers: ProviderFake) -> None:
    first, second = (program.ask(headers={"Idempotency-Key": "k"}) for _ in range(2))
    assert first.json()["id"] == second.json()["id"]
    assert second.status_code == 202
    work()
    assert providers.calls == 1


def test_two_jobs_for_one_request_do_it_once(program: Program, providers: ProviderFake) -> None:
    program.ask()
    number = str(Generation.objects.get().pk)
    jobs.run(number)
    jobs.run(number)
    assert (providers.calls, Transfer.objects.filter(kind="charge").count()) == (1, 1)


# Cancelling


def test_one_that_waits_is_cancelled_at_once(program: Program, providers: ProviderFake) -> None:
    word = program.ask().json()["id"]
    answer = program.cancel(word)
    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    work()
    assert program.poll(word)["status"] == "cancelled"
    assert providers.calls == 0
    assert Hold.objects.get().state == "voided"


def test_one_that_ended_cannot_be_cancelled(program: Program) -> None:
    word = program.ask().json()["id"]
    work()
    assert_refused(program.cancel(word), 409, "already_finished")
    assert_refused(program.cancel("req_nothing"), 404, "not_found")


def test_one_that_ended_in_spite_of_a_wish_cannot_be_cancelled_either(program: Program) -> None:
    """A 200 would say to whoever asks once more that nothing was made and charged."""
    word = program.ask().json()["id"]
    work()
    Generation.objects.update(cancel_requested_at=Now())  # while a provider worked that cannot be stopped
    assert_refused(program.cancel(word), 409, "already_finished", says="completed")


# Interrupted workers


def test_a_worker_killed_anywhere_loses_nothing_and_charges_once(
    committed: None,
    fake: ProviderFake,
    victims: Victims,  # noqa: F811
) -> None:
    wrong = []
    shared = (
        "before_call",
        "after_call",
        "after_images",
        "after_result",
        "before_settle",
        "after_settle",
        "after_drop",
    )
    for point in (*steps.OF_WORKERS, *shared):
        _, key = money.customer(wallet_nanos=10**9)
        fake.reset()
        accepted = victims.create({**key.headers, **LATER}, {**calls.ASKED, "prompt": point})
        assert accepted.report["status"] == 202, accepted
        assert victims.work(fault=f"kill@{point}").killed, point
        for _ in range(3):
            steps.expire_leases()
            victims.sweep()
            victims.work()
        row = Generation.objects.get(asked__prompt=point)
        charged = Transfer.objects.filter(reference_id=row.pk, kind="charge").count()
        if (row.status, charged, row.images.count()) != ("completed", 1, 1):
            wrong.append((point, row.status, charged, list(Attempt.objects.filter(generation=row).values("status"))))
    assert wrong == []
    assert money.wrongs() == []


def test_one_that_kills_its_worker_is_given_up(
    committed: None,
    fake: ProviderFake,
    victims: Victims,  # noqa: F811
) -> None:
    _, key = money.customer(wallet_nanos=10**9)
    victims.create({**key.headers, **LATER}, calls.ASKED)
    for _ in range(jobs.TRIES_MAX + 1):
        victims.work(fault="kill@after_call")
        steps.expire_leases()
        victims.sweep()
    row = Generation.objects.get()
    assert (row.status, row.attempts.count()) == ("upstream_failure", jobs.TRIES_MAX)
    assert money.wrongs() == []


def test_one_whose_job_was_lost_is_found(program: Program) -> None:
    from procrastinate.contrib.django.models import ProcrastinateJob

    program.ask()
    before = ProcrastinateJob.objects.filter(task_name="imagesapi.run").count()
    steps.expire_leases()
    recovery.sweep()
    assert ProcrastinateJob.objects.filter(task_name="imagesapi.run").count() == before + 1
    work()


def test_forty_slow_ones_run_at_once_in_one_worker(server: LiveServer, fake: ProviderFake) -> None:
    _, key = money.customer(wallet_nanos=10**11)
    gate = calls.Gate(fake)
    with LiveServer(server.variables) as house:
        house.start_worker()
        words = []
        for number in range(40):
            body = {**calls.ASKED, "prompt": f"fox {number}"}
            reply = requests.post(server.url + calls.ROUTE, json=body, headers={**key.headers, **LATER}, timeout=20)
            words.append(reply.json()["id"])
        give_up_at = time.monotonic() + 20
        while gate.waiting < 40:
            assert time.monotonic() < give_up_at, f"{gate.waiting} of 40 run at once\n{house.log()[-2000:]}"
            time.sleep(0.05)
        gate.open()
        while Generation.objects.filter(status="completed").count() < 40:
            assert time.monotonic() < give_up_at
            time.sleep(0.1)
    assert Transfer.objects.filter(kind="charge").count() == 40
