"""The objects of the fake Stripe, with the fields that the real ones always have."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]
FEE_FIXED_CENTS = 30
DISPUTE_FEE_CENTS = 1500


@dataclass(frozen=True, slots=True)
class Card:
    """A test card: what happens when it pays, while somebody is there and later."""

    brand: str = "visa"
    decline: str = ""
    # "never", "once" (until it was set up for later) or "always"
    asks: str = "never"
    declines_later: bool = False
    then: str = ""  # dispute, inquiry or warning, as soon as it has paid


CARDS = {
    "4242424242424242": Card(),
    "5555555555554444": Card(brand="mastercard"),
    "4000000000000002": Card(decline="generic_decline"),
    "4000000000009995": Card(decline="insufficient_funds"),
    "4000000000000341": Card(declines_later=True),
    "4000002500003155": Card(asks="once"),
    "4000002760003184": Card(asks="always"),
    "4000000000000259": Card(then="dispute"),
    "4000000000001976": Card(then="inquiry"),
    "4000000000005423": Card(then="warning"),
}


def new_id(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(12)}"


def now_s() -> int:
    return int(time.time())


def _base(kind: str, prefix: str, **fields: Any) -> Object:
    return {"id": new_id(prefix), "object": kind, "created": now_s(), "livemode": False, **fields}


def customer(**fields: Any) -> Object:
    empty: Object = {"description": None, "email": None, "name": None, "metadata": {}, "shipping": None}
    settings = {"custom_fields": None, "default_payment_method": None, "footer": None, "rendering_options": None}
    return _base("customer", "cus", invoice_settings=settings, default_source=None, **{**empty, **fields})


def session(**fields: Any) -> Object:
    always: Object = {
        "automatic_tax": {"enabled": False, "liability": None, "provider": None, "status": None},
        "client_reference_id": None,
        "custom_fields": [],
        "custom_text": {
            "after_submit": None,
            "shipping_address": None,
            "submit": None,
            "terms_of_service_acceptance": None,
        },
        "customer": None,
        "metadata": {},
        "mode": "payment",
        "payment_intent": None,
        "payment_method_types": ["card"],
        "payment_status": "unpaid",
        "shipping_options": [],
        "status": "open",
        "presentment_details": None,
        "currency": "usd",
    }
    return _base("checkout.session", "cs_test", **{**always, **fields})


def intent(**fields: Any) -> Object:
    always: Object = {
        "amount_capturable": 0,
        "amount_received": 0,
        "canceled_at": None,
        "cancellation_reason": None,
        "capture_method": "automatic",
        "confirmation_method": "automatic",
        "currency": "usd",
        "customer": None,
        "last_payment_error": None,
        "latest_charge": None,
        "metadata": {},
        "next_action": None,
        "payment_method": None,
        "payment_method_types": ["card"],
        "setup_future_usage": None,
        "status": "requires_payment_method",
    }
    return _base("payment_intent", "pi", **{**always, **fields})


def payment_method(number: str, *, owner: str | None) -> Object:
    card = {
        "brand": CARDS[number].brand,
        "checks": None,
        "country": "US",
        "exp_month": 12,
        "exp_year": 2034,
        "funding": "credit",
        "last4": number[-4:],
        "networks": None,
        "three_d_secure_usage": {"supported": True},
        "wallet": None,
    }
    nobody = {"address": None, "email": None, "name": None, "phone": None, "tax_id": None}
    return _base("payment_method", "pm", type="card", card=card, customer=owner, billing_details=nobody, metadata={})


def charge(paid: Object, method: Object, *, failure: str = "") -> Object:
    """The charge of a PaymentIntent's try."""
    details = {name: method["card"][name] for name in ("brand", "country", "exp_month", "exp_year", "funding", "last4")}
    details |= {"checks": None, "installments": None, "mandate": None, "network": "visa", "three_d_secure": None}
    details |= {"wallet": None, "authorization_code": None}
    found = _base(
        "charge",
        "ch",
        amount=paid["amount"],
        amount_captured=0 if failure else paid["amount"],
        amount_refunded=0,
        balance_transaction=None,
        billing_details={"address": None, "email": None, "name": None, "phone": None, "tax_id": None},
        captured=not failure,
        currency=paid["currency"],
        customer=paid["customer"],
        disputed=False,
        failure_code="card_declined" if failure else None,
        failure_message=None,
        metadata=dict(paid["metadata"]),
        paid=not failure,
        payment_intent=paid["id"],
        payment_method=method["id"],
        payment_method_details={"type": "card", "card": details},
        refunded=False,
        status="failed" if failure else "succeeded",
    )
    found["receipt_url"] = None if failure else f"/receipts/{found['id']}"
    return found


def balance_transaction(kind: str, source: str, amount_cents: int, fee_cents: int, *, currency: str = "usd") -> Object:
    found = _base(
        "balance_transaction",
        "txn",
        amount=amount_cents,
        available_on=now_s(),
        balance_type="payments",
        currency=currency,
        description=None,
        exchange_rate=None,
        fee=fee_cents,
        fee_details=[],
        net=amount_cents - fee_cents,
        reporting_category={"payment": "charge"}.get(kind, kind),
        source=source,
        status="available",
        type={"charge": "charge", "refund": "refund"}.get(kind, "adjustment"),
    )
    del found["livemode"]
    return found


def refund(of: Object, amount_cents: int, metadata: Object) -> Object:
    found = _base(
        "refund",
        "re",
        amount=amount_cents,
        balance_transaction=None,
        charge=of["latest_charge"],
        currency=of["currency"],
        metadata=metadata,
        payment_intent=of["id"],
        reason=None,
        receipt_number=None,
        status="succeeded",
    )
    del found["livemode"]
    return found


def dispute(of: Object, amount_cents: int, *, status: str, reason: str) -> Object:
    details: Object = {"due_by": now_s() + 604_800, "enhanced_eligibility": {}, "has_evidence": False}
    details |= {"past_due": False, "submission_method": "not_submitted"}
    return _base(
        "dispute",
        "du",
        amount=amount_cents,
        balance_transactions=[],
        charge=of["latest_charge"],
        currency=of["currency"],
        enhanced_eligibility_types=[],
        evidence={"enhanced_evidence": {}},
        evidence_details={**details, "submission_count": 0},
        is_charge_refundable=False,
        metadata={},
        payment_intent=of["id"],
        reason=reason,
        status=status,
    )


def warning(of: Object) -> Object:
    fields = {"actionable": True, "charge": of["latest_charge"], "payment_intent": of["id"]}
    return _base("radar.early_fraud_warning", "issfr", fraud_type="misc", **fields)


def event(kind: str, about: Object) -> Object:
    return _base(
        "event",
        "evt",
        api_version="2026-10-28.endive",
        data={"object": about},
        pending_webhooks=1,
        request={"id": None, "idempotency_key": None},
        type=kind,
    )


def fee_cents(amount_cents: int) -> int:
    """2.9 per cent and a fixed part."""
    return (amount_cents * 29 + 500) // 1000 + FEE_FIXED_CENTS
