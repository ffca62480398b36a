"""Webhooks: announced once, signed by the standard, tried again by the clock, and never sent inside."""

from __future__ import annotations

import asyncio
import datetime as dt
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import pytest
import time_machine
from django.db import connection
from django.db.models import F
from django.db.models.functions import Now
from django.utils import timezone
from procrastinate import PsycopgConnector
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob
from procrastinate.contrib.django.utils import connector_params
from pytest_django.fixtures import Settings
from standardwebhooks import Webhook, WebhookVerificationError

from accounts.models import Organization
from core import ids, outside
from imagesapi import history, webhook_sending, webhooks
from imagesapi.models import Generation
from imagesapi.webhook_models import WebhookDelivery, WebhookEndpoint, WebhookEvent
from tests import money
from tests.sites import Site, drip, reply

HOUR = dt.timedelta(hours=1)


@pytest.fixture
def receiver(settings: Settings) -> Iterator[Site]:
    """A customer's server, which the operator lets pass."""
    with Site() as site:
        settings.OUTSIDE_ALLOWED_HOSTS = [f"127.0.0.1:{site.port}"]
        yield site


@pytest.fixture
def endpoint(organization: Organization, receiver: Site) -> WebhookEndpoint:
    return make(organization, receiver)[0]


def make(organization: Organization, site: Site, **more: Any) -> tuple[WebhookEndpoint, str]:
    fields = {"url": f"{site.url}/hook?token=hidden-in-the-address", "events": WebhookEvent.values, **more}
    return webhooks.create(organization.pk, **fields)


def ended(organization: Organization, status: str = "completed", **more: Any) -> Generation:
    """An asynchronous request that is over."""
    fields: dict[str, Any] = {
        "endpoint": "images/generations",
        "model": "gpt-image-1",
        "asked": {},
        "metadata": {"order": "Ünïcode \u2028 17"},
        "is_async": True,
        "finished_at": timezone.now(),
        "cost_nanos": 42_000_000 if status == "completed" else None,
        "error_code": "" if status == "completed" else "all_providers_failed",
    }
    return Generation.objects.create(organization=organization, status=status, **{**fields, **more})


def told(organization: Organization, status: str = "completed") -> WebhookDelivery:
    """The delivery that announcing such a request makes."""
    row = ended(organization, status)
    assert webhooks.announce(row.pk) == 1
    return WebhookDelivery.objects.get(generation=row)


def jobs() -> list[ProcrastinateJob]:
    return list(ProcrastinateJob.objects.filter(task_name=webhook_sending.TASK, status="todo").order_by("id"))


def run_jobs() -> None:
    """What the worker does with the jobs whose moment has come; they are done afterwards."""
    for job in jobs():
        if job.scheduled_at is None or job.scheduled_at <= timezone.now():
            with connection.cursor() as cursor:
                cursor.execute("DELETE FROM procrastinate_jobs WHERE id = %s", [job.id])
            app.tasks[job.task_name].func(**job.args)


def come_due(delivery: WebhookDelivery) -> None:
    """As if the time until its next try had passed."""
    WebhookDelivery.objects.filter(pk=delivery.pk, status="pending").update(next_try_at=Now())


# --- announcing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "event"),
    [("completed", "request.completed"), ("upstream_failure", "request.failed")]
    + [("rejected", "request.failed"), ("cancelled", "request.cancelled")],
)
def test_it_tells_how_a_request_ended(
    organization: Organization, endpoint: WebhookEndpoint, receiver: Site, status: str, event: str
) -> None:
    delivery = told(organization, status)
    run_jobs()
    ((method, path, headers, body),) = receiver.seen
    assert (method, path) == ("POST", "/hook?token=hidden-in-the-address")
    assert headers["content-type"] == "application/json"
    document = orjson.loads(body)
    assert set(document) == {"id", "type", "created_at", "data"}
    assert (document["id"], document["type"]) == (headers["webhook-id"], event)
    assert document["id"].startswith("evt_")
    assert abs(document["created_at"] - timezone.now().timestamp()) < 60
    assert delivery.generation is not None
    assert document["data"] == history.item(delivery.generation)
    assert body == delivery.payload.encode()
    delivery.refresh_from_db()
    assert (delivery.status, delivery.tries, delivery.last_status, delivery.last_error) == ("delivered", 1, 200, "")
    assert delivery.delivered_at is not None


@pytest.mark.parametrize(
    "change",
    [{"is_async": False}, {"finished_at": None, "status": "processing", "lease_expires_at": timezone.now()}]
    + [{"announced_at": timezone.now()}],
    ids=["synchronous", "open", "announced"],
)
def test_it_announces_nothing_else(
    organization: Organization, endpoint: WebhookEndpoint, change: dict[str, Any]
) -> None:
    row = ended(organization, **{"cost_nanos": None, **change} if "status" in change else change)
    assert webhooks.announce(row.pk) == 0
    assert webhooks.announce(uuid.uuid4()) == 0
    assert not WebhookDelivery.objects.exists()


def test_it_tells_only_those_who_want_to_know(
    organization: Organization, other_organization: Organization, receiver: Site
) -> None:
    wanted = [make(organization, receiver, events=[WebhookEvent.COMPLETED])[0] for _ in range(2)]
    make(organization, receiver, events=[WebhookEvent.FAILED, WebhookEvent.CANCELLED])
    make(organization, receiver, enabled=False)
    make(other_organization, receiver)
    row = ended(organization)
    assert webhooks.announce(row.pk) == 2
    deliveries = WebhookDelivery.objects.filter(generation=row)
    assert {delivery.endpoint_id for delivery in deliveries} == {endpoint.pk for endpoint in wanted}
    assert len({(delivery.event_id, delivery.payload) for delivery in deliveries}) == 1
    row.refresh_from_db()
    assert row.announced_at is not None
    assert len(jobs()) == 2


def test_it_announces_once_however_many_try(committed: None, receiver: Site) -> None:
    organization, _ = money.customer()
    for _ in range(2):
        make(organization, receiver)
    row, barrier = ended(organization), threading.Barrier(8)

    def announce(number: int) -> int:
        try:
            barrier.wait(10)
            return webhooks.announce_pending() and 0 if number % 2 else webhooks.announce(row.pk)
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(announce, range(8)))
    assert WebhookDelivery.objects.filter(generation=row).count() == 2
    assert len(jobs()) == 2


def test_it_announces_what_somebody_died_over(
    organization: Organization, endpoint: WebhookEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [ended(organization), ended(organization, "cancelled")]
    with monkeypatch.context() as broken:
        broken.setattr(history, "item", lambda row: 1 / 0)
        assert webhooks.announce_pending() == 2
    assert not WebhookDelivery.objects.exists()
    assert not jobs()
    assert Generation.objects.filter(announced_at=None).count() == 2
    assert webhooks.announce_pending(limit=1) == 1
    assert webhooks.announce_pending() == 1
    assert webhooks.announce_pending() == 0
    assert {delivery.generation_id for delivery in WebhookDelivery.objects.all()} == {row.pk for row in rows}


# --- signing ----------------------------------------------------------------------------------------------------------


def test_it_signs_as_the_standard_says(organization: Organization, receiver: Site) -> None:
    _, secret = make(organization, receiver)
    told(organization)
    run_jobs()
    _, _, headers, body = receiver.seen[0]
    assert Webhook(secret).verify(body, headers) == orjson.loads(body)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(body.replace(b"completed", b"cancelled"), headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(make(organization, receiver)[1]).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(body, {**headers, "webhook-id": "evt_other"})


def test_it_signs_each_try_anew_and_sends_the_same_bytes(organization: Organization, receiver: Site) -> None:
    _, secret = make(organization, receiver)
    receiver.answer = reply(500)
    delivery = told(organization)
    for hours in range(3):
        with time_machine.travel(dt.datetime.now(dt.UTC) + hours * HOUR):
            come_due(delivery)
            webhook_sending.deliver(delivery.pk)
            _, _, headers, body = receiver.seen[-1]
            Webhook(secret).verify(body, headers)  # whose clock is ours: five minutes off would be refused
    assert len({body for *_, body in receiver.seen}) == 1
    assert len({headers["webhook-id"] for _, _, headers, _ in receiver.seen}) == 1
    for name in ("webhook-timestamp", "webhook-signature"):
        assert len({headers[name] for _, _, headers, _ in receiver.seen}) == 3


def test_it_signs_with_the_new_secret_once_it_is_rotated(organization: Organization, receiver: Site) -> None:
    endpoint, old = make(organization, receiver)
    new = webhooks.rotate_secret(endpoint)
    told(organization)
    run_jobs()
    _, _, headers, body = receiver.seen[0]
    Webhook(new).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(old).verify(body, headers)


def test_it_fails_at_once_when_no_key_opens_the_secret(
    organization: Organization, endpoint: WebhookEndpoint, receiver: Site, settings: Settings
) -> None:
    delivery = told(organization)
    settings.ENCRYPTION_KEY = "another key altogether, of forty letters"
    run_jobs()
    delivery.refresh_from_db()
    assert (delivery.status, receiver.seen) == ("failed", [])
    assert "rotate it" in delivery.last_error


# --- trying again -----------------------------------------------------------------------------------------------------


def test_it_waits_longer_each_time_and_then_gives_up(
    organization: Organization, endpoint: WebhookEndpoint, receiver: Site
) -> None:
    receiver.answer = reply(503)
    delivery = told(organization)
    run_jobs()
    for number, wait_s in enumerate((5, 30, 120, 600, 3_600, 21_600, 86_400), start=1):
        delivery.refresh_from_db()
        assert (delivery.status, delivery.tries, delivery.last_status) == ("pending", number, 503)
        assert delivery.next_try_at is not None
        assert wait_s - 2 <= (delivery.next_try_at - timezone.now()).total_seconds() <= 1.2 * wait_s
        (job,) = jobs()
        assert job.scheduled_at == delivery.next_try_at
        run_jobs()  # too early: nothing happens
        assert len(receiver.seen) == number
        come_due(delivery)
        with connection.cursor() as cursor:
            cursor.execute("UPDATE procrastinate_jobs SET scheduled_at = now()")
        run_jobs()
    delivery.refresh_from_db()
    assert (delivery.status, delivery.tries, delivery.next_try_at) == ("failed", 8, None)
    assert delivery.last_error == "The receiver answered 503."
    assert (len(receiver.seen), jobs()) == (8, [])


def test_it_ends_with_the_first_success(organization: Organization, endpoint: WebhookEndpoint, receiver: Site) -> None:
    receiver.answer = reply(500)
    delivery = told(organization)
    run_jobs()
    endpoint.refresh_from_db()
    assert endpoint.failing_since is not None
    receiver.answer = reply(204)
    come_due(delivery)
    webhook_sending.deliver(delivery.pk)
    webhook_sending.deliver(delivery.pk)
    delivery.refresh_from_db()
    endpoint.refresh_from_db()
    assert (delivery.status, delivery.tries, delivery.last_status, len(receiver.seen)) == ("delivered", 2, 204, 2)
    assert endpoint.failing_since is None


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (reply(404), "The receiver answered 404."),
        (reply(302, Location="https://public.example/"), "redirects are not followed"),
        (reply(200, b"x" * 70_000), "larger than 64 KiB"),
        (drip(0.05), "no complete answer within"),
        (lambda handler: handler.connection.close(), "ended before a complete answer"),
    ],
    ids=["404", "redirect", "large", "dripping", "gone"],
)
def test_it_says_why_a_try_failed(
    organization: Organization,
    endpoint: WebhookEndpoint,
    receiver: Site,
    monkeypatch: pytest.MonkeyPatch,
    answer: Any,
    why: str,
) -> None:
    monkeypatch.setattr(webhook_sending, "TIMEOUT_S", 0.4)
    receiver.answer = answer
    delivery = told(organization)
    run_jobs()
    delivery.refresh_from_db()
    assert (delivery.status, delivery.tries) == ("pending", 1)
    assert why in delivery.last_error
    assert delivery.last_duration_ms is not None


def test_it_is_sent_by_one_worker_at_a_time(committed: None, receiver: Site) -> None:
    organization, _ = money.customer()
    make(organization, receiver)
    delivery, barrier = told(organization), threading.Barrier(6)

    def deliver(number: int) -> None:
        try:
            barrier.wait(10)
            webhook_sending.deliver(delivery.pk)
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(deliver, range(6)))
    assert len(receiver.seen) == 1


def test_the_worker_sends_it_and_plans_the_next_try(committed: None, receiver: Site) -> None:
    """With the queue's own worker, as `manage.py worker` runs it."""
    receiver.answer = reply(500)
    organization, _ = money.customer()
    make(organization, receiver)
    delivery = told(organization)

    async def work() -> None:
        connector = PsycopgConnector(kwargs=connector_params(), min_size=1, max_size=2)
        async with app.with_connector(connector).open_async() as worker:
            await worker.run_worker_async(wait=False, install_signal_handlers=False, queues=[webhook_sending.QUEUE])

    asyncio.run(work())
    delivery.refresh_from_db()
    assert (delivery.status, delivery.tries, len(receiver.seen)) == ("pending", 1, 1)
    (job,) = jobs()
    assert job.scheduled_at == delivery.next_try_at


def test_it_counts_no_outcome_of_a_try_that_was_taken_over(
    organization: Organization, endpoint: WebhookEndpoint, receiver: Site
) -> None:
    delivery = told(organization)
    claimed = webhook_sending._claim(delivery.pk)
    assert claimed is not None
    WebhookDelivery.objects.update(tries=F("tries") + 1)  # somebody else claimed the next try before this one ended
    webhook_sending._record(claimed, webhook_sending._Outcome(5, 200))
    delivery.refresh_from_db()
    assert (delivery.status, delivery.tries, delivery.last_status) == ("pending", 2, None)


def test_it_finds_deliveries_whose_job_was_lost(
    organization: Organization, endpoint: WebhookEndpoint, receiver: Site
) -> None:
    delivery = told(organization)
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM procrastinate_jobs")
    assert webhooks.redeliver_due() == 0  # its moment is not long past
    WebhookDelivery.objects.update(next_try_at=Now() - dt.timedelta(minutes=2))
    assert webhooks.redeliver_due() == 1
    assert webhooks.redeliver_due() == 1
    assert len(jobs()) == 1
    run_jobs()
    delivery.refresh_from_db()
    assert (delivery.status, len(receiver.seen)) == ("delivered", 1)
    assert webhooks.redeliver_due() == 0


def test_it_disables_an_endpoint_after_five_days_of_failures(
    organization: Organization, endpoint: WebhookEndpoint, receiver: Site
) -> None:
    receiver.answer = reply(500)
    first, second = told(organization), told(organization)
    webhook_sending.deliver(first.pk)
    WebhookEndpoint.objects.update(failing_since=Now() - dt.timedelta(days=5) + HOUR)
    come_due(first)
    webhook_sending.deliver(first.pk)
    assert WebhookEndpoint.objects.get().enabled
    WebhookEndpoint.objects.update(failing_since=Now() - dt.timedelta(days=5))
    come_due(first)
    webhook_sending.deliver(first.pk)
    disabled = WebhookEndpoint.objects.get()
    assert not disabled.enabled
    assert "5 days" in disabled.disabled_reason
    assert set(WebhookDelivery.objects.values_list("status", flat=True)) == {"failed"}
    webhook_sending.deliver(second.pk)
    assert len(receiver.seen) == 3
    assert webhooks.announce(ended(organization).pk) == 0
    endpoint = webhooks.change(endpoint, enabled=True)
    assert (endpoint.disabled_reason, endpoint.failing_since) == ("", None)


# --- where it does not go ---------------------------------------------------------------------------------------------


def test_it_never_connects_to_an_internal_address(
    organization: Organization, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    """The name was public when the webhook was made, and leads to a server on loopback now."""
    with Site() as inside:
        monkeypatch.setattr(outside, "_PORTS", {"https": inside.port, "http": inside.port})
        monkeypatch.setattr(outside, "resolve", lambda host, port: ["127.0.0.1"])
        webhooks.create(organization.pk, url="https://rebound.example/hook", events=[WebhookEvent.COMPLETED])
        delivery = told(organization)
        run_jobs()
        delivery.refresh_from_db()
        assert (delivery.status, delivery.tries, inside.connections, jobs()) == ("failed", 1, 0, [])
        assert "not on the public internet" in delivery.last_error
        assert "127.0.0.1" not in delivery.last_error


# --- again, and no more -----------------------------------------------------------------------------------------------


def test_it_replays_what_was_delivered_and_what_failed(
    organization: Organization, endpoint: WebhookEndpoint, receiver: Site
) -> None:
    delivery = told(organization)
    run_jobs()
    for number in (2, 3):
        delivery = webhooks.replay(delivery)
        assert (delivery.status, delivery.tries) == ("pending", 0)
        run_jobs()
        delivery.refresh_from_db()
        assert (delivery.status, len(receiver.seen)) == ("delivered", number)
    assert len({(headers["webhook-id"], body) for _, _, headers, body in receiver.seen}) == 1


def test_it_hurries_what_is_on_its_way(organization: Organization, endpoint: WebhookEndpoint, receiver: Site) -> None:
    receiver.answer = reply(500)
    delivery = told(organization)
    run_jobs()
    receiver.answer = reply(200)
    delivery.refresh_from_db()
    webhooks.replay(delivery)
    run_jobs()
    delivery.refresh_from_db()
    assert (delivery.status, delivery.tries, len(receiver.seen)) == ("delivered", 2, 2)


def test_it_forgets_what_was_purged(organization: Organization, endpoint: WebhookEndpoint) -> None:
    delivery = told(organization)
    assert "Ünïcode" in delivery.payload
    Generation.objects.update(metadata=None, purged_at=timezone.now())
    assert delivery.generation_id is not None
    webhooks.forget(delivery.generation_id)
    delivery.refresh_from_db()
    document = orjson.loads(delivery.payload)
    assert document["data"]["metadata"] == {}
    assert document["id"] == ids.public("evt", delivery.event_id)


def test_it_keeps_the_record_for_a_month(organization: Organization, endpoint: WebhookEndpoint) -> None:
    deliveries = [told(organization) for _ in range(3)]
    old = Now() - dt.timedelta(days=31)
    WebhookDelivery.objects.filter(pk=deliveries[0].pk).update(
        created_at=old, status="delivered", delivered_at=Now(), next_try_at=None
    )
    WebhookDelivery.objects.filter(pk=deliveries[1].pk).update(created_at=old)
    assert webhooks.drop_old() == 1
    assert set(WebhookDelivery.objects.values_list("pk", flat=True)) == {row.pk for row in deliveries[1:]}
