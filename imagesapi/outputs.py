"""What goes beside an answer: its headers, and what a dry run shows instead of one."""

from __future__ import annotations

import time
from typing import Any

from core import ids, money
from imagesapi import receipts
from imagesapi.gateway import Outcome
from imagesapi.routing import Plan


def headers(outcome: Outcome, *, started_s: float) -> dict[str, str]:
    """What scripts read without parsing the body; `started_s` is on time.monotonic()'s clock."""
    offer = outcome.candidate.offer
    return {
        "x-request-id": ids.public("req", outcome.generation_id),
        "x-pixelpar-provider": offer.provider,
        "x-pixelpar-model": outcome.candidate.executed_model,
        "x-pixelpar-cost": money.decimal(outcome.charged_nanos),
        "openai-processing-ms": str(round((time.monotonic() - started_s) * 1000)),
    }


def dry_run(plan: Plan) -> dict[str, Any]:
    """What a request would cost. By agreement with its readers no key here is named as an image answer's would be."""
    expected = plan.first.expected
    return {
        "estimated": True,
        "model": plan.model,
        "provider": plan.first.offer.provider,
        "simulated": plan.simulated,
        "total_cost_micros": money.micros_up(expected.total_nanos),
        "hold_micros": money.micros_up(plan.hold_nanos),
        "currency": "USD",
        "components": receipts.components(expected),
        "adjustments": [change.as_dict() for change in plan.first.fitted.adjustments],
        "metadata": {"cost": money.json_number(expected.total_nanos), "cost_currency": "USD"},
    }
