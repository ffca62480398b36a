"""A month of calls for tests: written set-wise through the ledger's own functions, and billed by fake providers."""

from __future__ import annotations

import datetime as dt
import random
import uuid
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Any

from django.db import connection

from accounts.models import Organization
from core import money
from imagesapi import models, pricing
from imagesapi.estimates import ATTOS_PER_NANO
from imagesapi.values import Answer, Offer, Picture, Usage
from tests.fakes import _bills
from tests.imagesapi import offers, past

FIRST = dt.date(2026, 9, 1)
DAYS = 30
# From this midnight on tokens cost something that no nano can hold.
CHANGE = dt.datetime(2026, 9, 16, tzinfo=dt.UTC)
_ATTOS_PER_USD = ATTOS_PER_NANO * money.NANOS_PER_USD
CACHED = "gpt-image-1, cached text input"


@dataclass(slots=True)
class Call:
    """One call, and what the provider makes of it."""

    id: uuid.UUID
    organization: Organization
    offer: Offer
    sent_at: dt.datetime
    charged_nanos: int  # as our price lines have it
    hold_nanos: int
    exact_attos: int  # before our rounding
    status: str = "succeeded"
    finished_at: dt.datetime | None = None
    request_id: str = ""

    @property
    def ended_at(self) -> dt.datetime:
        return self.finished_at or self.sent_at + dt.timedelta(seconds=9)


def changed(offer: Offer) -> Offer:
    """The offer with each price by token raised a little at the midnight of CHANGE."""
    later = [
        replace(line, id=line.id + 100_000, valid_from=CHANGE, unit_price_picos=line.unit_price_picos * 21 // 20 + 777)
        for line in offer.prices
        if line.meter.endswith("_token")
    ]
    return replace(offer, prices=(*offer.prices, *later))


def stored(name: str) -> Offer:
    """An offer of the catalogue under the number of its row, after the price change."""
    provider, _, slug = name.partition("/")
    row = models.Offer.objects.get(provider__slug=provider, model__slug=slug)
    return changed(replace(offers.catalogue()[name], id=row.pk))


def calls(count: int, organizations: list[Organization], *, seed: int = 18) -> list[Call]:
    """So many calls over the month, at openai by token and at fal by the cent."""
    dice = random.Random(seed)
    known = [stored("openai/gpt-image-1"), stored("fal/gpt-image-1")]
    fitted = offers.fitted()
    holds = {
        (offer.provider, late): pricing.worst_case(offer, fitted, CHANGE if late else past_noon()).total_nanos
        for offer in known
        for late in (False, True)
    }
    made = []
    for number in range(count):
        offer = known[number % 10 == 0]
        seconds = dice.randrange(DAYS * 86_400)
        sent_at = dt.datetime.combine(FIRST, dt.time(), dt.UTC) + dt.timedelta(seconds=seconds)
        usage = Usage(dice.randrange(5, 60), 0, 272) if offer.provider == "openai" else None
        cost = pricing.actual(
            offer, fitted, Answer(pictures=[Picture(b64="AA==")], usage=usage), sent_at, [(1024, 1024)]
        )
        made.append(
            Call(
                id=past.id_at(sent_at),
                organization=dice.choice(organizations),
                offer=offer,
                sent_at=sent_at,
                charged_nanos=cost.total_nanos,
                hold_nanos=max(holds[offer.provider, sent_at >= CHANGE], cost.total_nanos),
                exact_attos=cost.rounding.after_provider_attos,
                request_id=f"up-{number}",
            )
        )
    return made


def past_noon() -> dt.datetime:
    return dt.datetime.combine(FIRST, dt.time(12), dt.UTC)


_GENERATIONS = """
INSERT INTO imagesapi_generation (id, organization_id, endpoint, model, provider, status, asked, cost_nanos, created_at,
    finished_at)
SELECT c.id, c.organization, 'images/generations', c.model, c.provider,
       CASE c.status WHEN 'succeeded' THEN 'completed' ELSE 'upstream_failure' END, '{}',
       CASE c.status WHEN 'succeeded' THEN c.charged END, c.sent_at, c.ended_at FROM calls c
"""
_ATTEMPTS = """
INSERT INTO imagesapi_attempt (generation_id, number, offer_id, provider, executed_model, status, worst_case_nanos,
    sent_at, finished_at, provider_request_id)
SELECT c.id, 1, c.offer, c.provider, c.provider || '/' || c.model, c.status, c.hold, c.sent_at, c.ended_at, c.request
FROM calls c
"""
_IMAGES = """
INSERT INTO imagesapi_image (id, organization_id, generation_id, position, path, content_type, width_px, height_px,
    size_bytes)
SELECT gen_random_uuid(), c.organization, c.id, 0, c.id::text, 'image/png', 1024, 1024, 1 FROM calls c
WHERE c.status = 'succeeded'
"""
_HOLD = "SELECT count((ledger_hold(id, organization, NULL, NULL, hold, false)).verdict) FROM calls"
_SETTLE = "SELECT count(ledger_settle(id, charged, provider, false, 0)) FROM calls WHERE status = 'succeeded'"
_VOID = "SELECT count(ledger_void(id, provider, 0)) FROM calls WHERE status <> 'succeeded'"
_COLUMNS = {
    "id": "uuid", "organization": "bigint", "offer": "bigint", "model": "text", "provider": "text", "status": "text",
    "charged": "bigint", "hold": "bigint", "sent_at": "timestamptz", "ended_at": "timestamptz", "request": "text",
}  # fmt: skip


# Within one statement no version of a balance's row is ever cleared away, and each next one takes longer to find.
_AT_ONCE = 250


def write(made: list[Call]) -> None:
    """Every call held, sent, settled or voided by the ledger, with its log beside it."""
    for start in range(0, len(made), _AT_ONCE):
        _write(made[start : start + _AT_ONCE])
    with connection.cursor() as cursor:  # the server may just have counted tables that were emptied between tests
        cursor.execute(
            "ANALYZE imagesapi_generation, imagesapi_attempt, imagesapi_image, billing_transfer, billing_hold"
        )


def _write(made: list[Call]) -> None:
    rows = [
        (
            *(call.id, call.organization.pk, call.offer.id, call.offer.model, call.offer.provider, call.status),
            *(call.charged_nanos, call.hold_nanos, call.sent_at, call.ended_at, call.request_id),
        )
        for call in made
    ]
    with connection.cursor() as cursor:
        columns = ", ".join(f"{name} {kind}" for name, kind in _COLUMNS.items())
        cursor.execute(f"CREATE TEMPORARY TABLE calls ({columns})")
        with cursor.cursor.copy("COPY calls FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        cursor.execute("ANALYZE calls")
        for statement in (_GENERATIONS, _ATTEMPTS, _IMAGES, _HOLD, _SETTLE, _VOID):
            cursor.execute(statement)
        cursor.execute("DROP TABLE calls")


def bill(made: list[Call], service: _bills.Service, *, seed: int = 81, quirks: bool = True) -> dict[str, int]:
    """What the providers bill for them, put into their fakes. With quirks: some prompts cached (a quarter of their
    price), some calls at the batch price (half), and 1 % corrected afterwards, up or down. How many calls of each."""
    dice = random.Random(seed)
    costs: dict[tuple[dt.date, str, str], int] = defaultdict(int)
    counts: dict[str, int] = defaultdict(int)
    for call in made:
        if call.status == "not billed":
            continue
        quirk = dice.choices(("", "cached", "batch", "corrected"), (84, 10, 5, 1))[0] if quirks else ""
        counts[quirk] += 1
        attos, day = call.exact_attos, call.sent_at.date()
        if call.offer.provider == "fal":
            nanos = attos // ATTOS_PER_NANO
            nanos = nanos // 2 if quirk == "batch" else nanos - 10**7 if quirk == "corrected" else nanos
            service.events.append(_bills.event(call.request_id, call.offer.wire_id, call.sent_at, nanos))
            continue
        if quirk == "cached":
            costs[day, "proj_1", CACHED] += attos // 400
            attos -= attos // 100
        elif quirk == "batch":
            attos //= 2
        elif quirk == "corrected":
            costs[day, "proj_1", "gpt-image-1, correction"] += attos // 7 * dice.choice((1, -1))
        costs[day, "proj_1", "gpt-image-1-2025-04-15, image output"] += attos
    service.costs.update({place: attos / _ATTOS_PER_USD for place, attos in costs.items()})
    return counts


def owed(provider: str) -> int:
    """What the ledger says is owed to a provider after everything."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT coalesce(sum(CASE WHEN t.credit_account_id = a.id THEN amount_nanos ELSE -amount_nanos END), 0)"
            " FROM billing_account a JOIN billing_transfer t ON a.id IN (t.credit_account_id, t.debit_account_id)"
            " WHERE a.kind = 'provider_payable' AND a.provider = %s",
            [provider],
        )
        found: tuple[Any, ...] = cursor.fetchone()
    return int(found[0])
