"""The images API's background work."""

from __future__ import annotations

import datetime as dt
import uuid

import structlog
from procrastinate.contrib.django import app

from core import sql
from imagesapi import bills, cleaning, health, usage_rollup, webhook_sending, webhooks
from imagesapi.bills import importing, provider_days, reconciling
from imagesapi.reports import ledger_days

log = structlog.get_logger(__name__)


@app.periodic(cron="*/5 * * * *")
@app.task(name="imagesapi.clean_store", queueing_lock="imagesapi.clean_store", lock="imagesapi.clean_store")
def clean_store(timestamp: int) -> None:
    """Files of deleted images, and orphans in one folder of the store: all of them within a day."""
    deleted, orphans = cleaning.sweep(turn=timestamp // cleaning.EVERY_S)
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


@app.periodic(cron="*/10 * * * *")
@app.task(name="imagesapi.add_up_ledger", queueing_lock="imagesapi.add_up_ledger", lock="imagesapi.add_up_ledger")
def add_up_ledger(timestamp: int) -> None:
    """The journal by organization and day, and the statements of months that are over."""
    ledger_days.roll_up()
    sql.give_back()


@app.periodic(cron="19 * * * *")
@app.task(name="imagesapi.add_up_providers", queueing_lock="imagesapi.add_up_providers", lock="imagesapi.bills")
def add_up_providers(timestamp: int) -> None:
    """Charged and paid by provider and day, for the public page."""
    provider_days.write_recent(dt.datetime.now(dt.UTC).date())
    sql.give_back()


@app.periodic(cron="41 13 * * *")
@app.task(name="imagesapi.reconcile", queueing_lock="imagesapi.reconcile", lock="imagesapi.bills")
def reconcile(timestamp: int) -> None:
    """Every day, when yesterday's bills have settled: fetch what can be fetched, and compare."""
    first, last = importing.default_days(dt.datetime.now(dt.UTC).date())
    for provider in importing.fetched_by_itself():
        try:
            importing.keep(provider, bills.load(provider).fetch(first, last))
        except bills.BillError as error:
            log.error("a bill could not be read", provider=provider, reason=str(error))
    report = reconciling.run()
    sql.give_back()
    told = {"booked": report.booked, "closed": report.closed, "overdue": report.overdue}
    if report.unexplained_nanos:
        log.error("something on a bill is unexplained", unexplained_nanos=report.unexplained_nanos, **told)
    else:
        log.info("bills are reconciled", **told)
