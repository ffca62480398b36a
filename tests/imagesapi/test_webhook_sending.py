"""Sending webhooks: signed by the standard, tried again by the clock, given up in the end, and never sent inside."""

from __future__ import annotations

import asyncio
import datetime as dt
import threading
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
from procrastinate.contrib.django.utils import connector_params
from pytest_django.fixtures import Settings
from standardwebhooks import Webhook, WebhookVerificationError

from accounts.models import Organization
from core import outside
from imagesapi import webhook_sending, webhooks
from imagesapi.webhook_models import WebhookDelivery, WebhookEndpoint, WebhookEvent
from tests import money
from tests.imagesapi.deliveries import come_due, ended, jobs, make, run_jobs, told
from tests.sites import Site, drip, reply

HOUR = dt.timedelta(hours=1)

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
