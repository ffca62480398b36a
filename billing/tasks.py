"""Billing's background work."""

from __future__ import annotations

import structlog
from procrastinate.contrib.django import app

from billing import ledger
from core import sql

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
