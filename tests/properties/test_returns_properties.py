"""T-15 as a property: whatever is refunded, fails, is disputed, won or lost, however late we hear of it, adds up."""

from __future__ import annotations

import contextlib
import random

import pytest
from pytest_django.fixtures import Settings

from accounts.models import Organization
from billing.models import Transfer
from billing.stripe_models import TopUp
from core import money
from tests.fakes._stripe_objects import Object
from tests.fakes._stripe_world import Failure, World
from tests.stripes import Account, wallet

STEPS_MAX = 12


def _step(world: World, intent: Object, chance: random.Random) -> None:
    """Something that may happen to a payment; what Stripe would not allow does not."""
    refunds = [it for it in world.all("refund") if it["status"] == "succeeded"]
    disputes = [it for it in world.all("dispute") if it["status"] == "needs_response"]
    with contextlib.suppress(Failure):
        match chance.choice(["refund", "refund", "fail", "dispute", "close", "inquiry"]):
            case "refund":
                world.make_refund({"payment_intent": intent["id"], "amount": str(chance.randint(1, intent["amount"]))})
            case "fail" if refunds:
                world.fail_refund(chance.choice(refunds))
            case "dispute" if not world.all("dispute"):
                # A bank takes what it likes, whatever went back already.
                world.open_dispute(intent, amount=chance.randint(1, intent["amount"]))
            case "close" if disputes:
                world.close_dispute(disputes[0], won=chance.random() < 0.5)
            case "inquiry" if not world.all("dispute"):
                world.open_dispute(intent, inquiry=True)


def _gone_cents(world: World) -> int:
    """What Stripe took back and did not return."""
    refunds = sum(it["amount"] for it in world.all("refund") if it["status"] == "succeeded")
    return refunds - sum(booked["amount"] for it in world.all("dispute") for booked in it["balance_transactions"])


def _total_nanos(**signs: int) -> int:
    rows = Transfer.objects.filter(kind__in=signs).values_list("kind", "amount_nanos")
    return sum(signs[kind] * amount_nanos for kind, amount_nanos in rows)


@pytest.mark.parametrize("seed", [*range(20), 47])
def test_what_went_back_is_what_stripe_took(
    account: Account, organization: Organization, settings: Settings, seed: int
) -> None:
    _check(account, organization, settings, seed)


@pytest.mark.prove
@pytest.mark.parametrize("seed", range(100, 500))
def test_what_went_back_is_what_stripe_took_400_times(
    account: Account, organization: Organization, settings: Settings, seed: int
) -> None:
    _check(account, organization, settings, seed)


def _check(account: Account, organization: Organization, settings: Settings, seed: int) -> None:
    chance = random.Random(seed)
    settings.STRIPE_TAX = chance.random() < 0.5
    top_up = account.paid(organization, dollars=chance.choice([5, 25, 99]))
    world, intent = account.world, account.world.things[top_up.payment_intent]
    for _ in range(chance.randint(1, STEPS_MAX)):
        _step(world, intent, chance)
        if chance.random() < 0.5:
            account.tell(*chance.sample(world.events, len(world.events)))
    account.tell()
    account.tell()
    top_up = TopUp.objects.get(pk=top_up.pk)
    paid_nanos, gone_nanos = (cents * money.NANOS_PER_CENT for cents in (intent["amount"], _gone_cents(world)))
    assert top_up.clawed_nanos + top_up.clawed_tax_nanos == min(gone_nanos, paid_nanos)
    assert wallet(organization) == top_up.left_nanos >= 0
    tax_left_nanos = _total_nanos(top_up_tax=1, refund_tax=-1, refund_tax_failed=1, dispute_tax=-1, dispute_tax_won=1)
    assert tax_left_nanos == top_up.tax_nanos - top_up.clawed_tax_nanos
    assert _total_nanos(suspense=1, suspense_returned=-1) == -max(gone_nanos - paid_nanos, 0)
