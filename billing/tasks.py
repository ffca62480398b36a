"""Billing's background work."""

from __future__ import annotations

import uuid

import structlog
from procrastinate import RetryStrategy
from procrastinate.contrib.django import app

from billing import (
    automatic,
    budget_alerts,
    closing,
    daily_counts,
    grants,
    ledger,
    playground,
    stripe_gateway,
    stripe_inbox,
    stripe_reconciliation,
)
from billing.stripe_facts import Refused, Unclear
from core import money, sql

log = structlog.get_logger(__name__)


@app.periodic(cron="17 3 * * *")
@app.task(name="billing.verify_ledger", queueing_lock="billing.verify_ledger", pass_context=False)
def verify_ledger(timestamp: int) -> None:
    """Every night: a difference is logged as an error and healed by nobody but a person."""
    proof = ledger.verify()
    if proof.differences:
        log.error("the ledger does not add up", differences=list(proof.differences))
    else:
        log.info("the ledger is exact", transfers=proof.transfers, holds=proof.holds)


@app.periodic(cron="29 3 * * *")
@app.task(name="billing.forget_rates", queueing_lock="billing.forget_rates", pass_context=False)
def forget_rates(timestamp: int) -> None:
    """Every night: what was counted in minutes that are long over."""
    forgotten = sql.row("SELECT ledger_forget_rates()", {})
    log.info("old rates are forgotten", rows=forgotten[0] if forgotten else 0)


@app.periodic(cron="* * * * * */10")
@app.task(name="billing.automatic_top_ups", queueing_lock="billing.automatic_top_ups", pass_context=False)
def automatic_top_ups(timestamp: int) -> None:
    """Every ten seconds: balances that fell below their threshold."""
    if stripe_gateway.configured():
        automatic.sweep()


@app.periodic(cron="* * * * *")
@app.task(name="billing.stripe_events", queueing_lock="billing.stripe_events", pass_context=False)
def stripe_events(timestamp: int) -> None:
    """Every minute: events that could not be acted on, and charges whose answer was lost."""
    if stripe_gateway.configured():
        stripe_inbox.process_waiting()
        automatic.resume()


@app.periodic(cron="*/10 * * * *")
@app.task(name="billing.stripe_reconcile", queueing_lock="billing.stripe_reconcile", pass_context=False)
def stripe_reconcile(timestamp: int) -> None:
    """Every ten minutes: what Stripe has and we have not."""
    if not stripe_gateway.configured():
        return
    try:
        report = stripe_reconciliation.reconcile()
    except (Unclear, Refused) as error:
        log.warning("Stripe could not be compared with our books", error=str(error))
    else:
        log.info("Stripe was compared with our books", seen=report.seen, found=len(report.found))


@app.periodic(cron="*/10 * * * *")
@app.task(name="billing.expire_credit", queueing_lock="billing.expire_credit", lock="billing.expire_credit")
def expire_credit(timestamp: int) -> None:
    """Every ten minutes: promotional credit whose time has come."""
    expired_nanos = grants.expire_due()
    if expired_nanos:
        log.info("promotional credit has expired", dollars=money.decimal(expired_nanos))


@app.periodic(cron="31 3 * * *")
@app.task(name="billing.forget_counts", queueing_lock="billing.forget_counts", pass_context=False)
def forget_counts(timestamp: int) -> None:
    """Every night: what was counted on days that are over."""
    log.info("old counts are forgotten", rows=daily_counts.forget())
    sql.give_back()


@app.periodic(cron="*/10 * * * *")
@app.task(name="billing.fund_playground", queueing_lock="billing.fund_playground", lock="billing.fund_playground")
def fund_playground(timestamp: int) -> None:
    """Every ten minutes, so that a new day begins soon wherever the worker was at midnight."""
    playground.fund()
    sql.give_back()


@app.periodic(cron="* * * * *")
@app.task(name="billing.find_budget_alerts", queueing_lock="billing.budget_alerts", lock="billing.budget_alerts")
def find_budget_alerts(timestamp: int) -> None:
    """Every minute: budgets that have passed 80 or 100 %."""
    noted = budget_alerts.find()
    if noted:
        log.info("budgets were told of", alerts=noted)


@app.task(name=budget_alerts.MAIL_TASK, retry=RetryStrategy(max_attempts=8, exponential_wait=5))
def mail_budget_alert(alert_id: str) -> None:
    """One alert, to everybody who is told about money."""
    budget_alerts.mail(uuid.UUID(alert_id))


@app.task(name=closing.FINISH_TASK, lock="billing.closing")
def finish_closing(organization_id: int) -> None:
    """What is left to do once an organization is closed."""
    closing.finish(organization_id)
    sql.give_back()


@app.periodic(cron="*/10 * * * *")
@app.task(name="billing.finish_closings", queueing_lock="billing.finish_closings", lock="billing.closing")
def finish_closings(timestamp: int) -> None:
    """Every ten minutes: closings that were interrupted."""
    closing.finish_all()
