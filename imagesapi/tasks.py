"""The images API's background work."""

from __future__ import annotations

import uuid

import structlog
from procrastinate.contrib.django import app

from core import sql
from imagesapi import cleaning, health, usage_rollup, webhook_sending, webhooks

log = structlog.get_logger(__name__)


@app.periodic(cron="*/5 * * * *")
@app.task(name="imagesapi.clean_store", queueing_lock="imagesapi.clean_store", lock="imagesapi.clean_store")
def clean_store(timestamp: int) -> None:
    """Files of deleted images, and orphans in one folder of the store: all of them within a day."""
    deleted, orphans = cleaning.sweep(folder=timestamp // cleaning.EVERY_S)
    sql.give_back()
    if deleted or orphans:
        log.info("the store is cleaned", deleted=deleted, orphans=orphans)


@app.periodic(cron="*/10 * * * *")
@app.task(name="imagesapi.roll_up_usage", queueing_lock="imagesapi.roll_up_usage", lock="imagesapi.usage")
def roll_up_usage(timestamp: int) -> None:
    """Hours that are over become sums."""
    usage_rollup.roll_up()
    sql.give_back()


@app.periodic(cron="53 2 * * *")
@app.task(name="imagesapi.repair_usage", queueing_lock="imagesapi.repair_usage", lock="imagesapi.usage")
def repair_usage(timestamp: int) -> None:
    """The sums of the last days, once more."""
    usage_rollup.repair()
    sql.give_back()


@app.periodic(cron="* * * * *")
@app.task(name="imagesapi.measure_offers", queueing_lock="imagesapi.measure_offers", lock="imagesapi.measure_offers")
def measure_offers(timestamp: int) -> None:
    """Every minute: how each offer did lately, for routing to sort by."""
    health.measure()


@app.task(name=webhook_sending.TASK, queue=webhook_sending.QUEUE)
def deliver_webhook(delivery_id: str) -> None:
    """One try of one webhook delivery; what comes next is written down by it."""
    webhook_sending.deliver(uuid.UUID(delivery_id))


@app.periodic(cron="7 4 * * *")
@app.task(name="imagesapi.drop_old_deliveries", queueing_lock="imagesapi.drop_old_deliveries")
def drop_old_deliveries(timestamp: int) -> None:
    """Every night: the record of webhooks sent more than a month ago."""
    log.info("old webhook deliveries dropped", count=webhooks.drop_old())
    sql.give_back()
