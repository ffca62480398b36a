"""Webhooks: announced once to whoever wants to know, sent again when somebody asks, forgotten, and kept for a month."""

from __future__ import annotations

import datetime as dt
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import pytest
from django.db import connection
from django.db.models.functions import Now
from django.utils import timezone

from accounts.models import Organization
from core import ids
from imagesapi import history, webhooks
from imagesapi.models import Generation
from imagesapi.webhook_models import WebhookDelivery, WebhookEndpoint, WebhookEvent
from tests import money
from tests.imagesapi.deliveries import ended, jobs, make, run_jobs, told
from tests.sites import Site, reply

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
