"""The only module that speaks to Stripe: what we ask of it, and its answers turned into our own words."""

from __future__ import annotations

import contextlib
import functools
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import stripe
from django.conf import settings
from stripe import StripeClient

from billing.stripe_facts import (
    BadSignature,
    ChargeFact,
    DisputeFact,
    Listed,
    Missing,
    Payment,
    RefundFact,
    Refused,
    SessionFact,
    Unclear,
    WarningFact,
)

CURRENCY = "usd"
_LISTED_MAX = 100
_ENDED = ("succeeded", "canceled")
# The package tries again by itself what may have happened, always with the same key.
_TRIES_AGAIN = 2


def configured() -> bool:
    """Whether there is a Stripe account to pay into."""
    return bool(settings.STRIPE_SECRET_KEY)


def livemode() -> bool:
    """Whether the account's key moves real money."""
    return str(settings.STRIPE_SECRET_KEY).startswith(("sk_live_", "rk_live_"))


@functools.lru_cache(maxsize=4)
def _client(key: str, base_url: str, timeout_s: int) -> StripeClient:
    return StripeClient(
        key,
        base_addresses={"api": base_url},
        max_network_retries=_TRIES_AGAIN,
        http_client=stripe.RequestsClient(timeout=timeout_s),
    )


def _stripe() -> StripeClient:
    if not configured():
        raise Refused("Stripe is not configured.", reason="not_configured")
    return _client(settings.STRIPE_SECRET_KEY, settings.STRIPE_BASE_URL, settings.STRIPE_TIMEOUT_S)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """The package's errors as ours: what surely did not happen, and what may have."""
    try:
        yield
    except stripe.CardError as error:
        raise Refused(error.user_message or "declined", reason=error.code or "", intent_id=_intent_of(error)) from error
    except (stripe.AuthenticationError, stripe.PermissionError) as error:
        raise Refused("Stripe does not accept our key.", reason="key_refused") from error
    except stripe.InvalidRequestError as error:
        if error.http_status == 404 or error.code == "resource_missing":
            raise Missing(error.user_message or "missing") from error
        raise Refused(error.user_message or "refused", reason=error.code or "", intent_id=_intent_of(error)) from error
    except stripe.StripeError as error:  # no connection, 409, 429, 5xx, an answer that nobody can read
        raise Unclear(f"{type(error).__name__}: {error.user_message or error}"[:200]) from error


def _intent_of(error: stripe.StripeError) -> str:
    intent = getattr(error.error, "payment_intent", None) if error.error else None
    return _id(intent)


def verify_signature(text: str, header: str, *, secret: str, tolerance_s: int) -> None:
    """The package's own check of an event's signature. Raises BadSignature, whatever the package raises."""
    try:
        stripe.WebhookSignature.verify_header(text, header, secret, tolerance_s)
    except Exception as error:
        raise BadSignature("its signature does not fit") from error


# --- what we ask for --------------------------------------------------------------------------------------------------


def make_customer(*, key: uuid.UUID, organization_id: int, name: str) -> str:
    """A customer for an organization; the same one however often it is asked with this key."""
    with _translated():
        made = _stripe().v1.customers.create(
            {"description": name, "metadata": {"organization": str(organization_id)}},
            {"idempotency_key": f"customer-{key}"},
        )
    return made.id


def open_checkout(
    *,
    top_up: uuid.UUID,
    customer: str,
    cents: int,
    save_card: bool,
    success_url: str,
    cancel_url: str,
    expires_s: int,
) -> SessionFact:
    """A Checkout Session for one top-up; the same one however often it is asked for. Raises Refused or Unclear."""
    metadata = {"top_up": str(top_up)}
    intent: dict[str, Any] = {"metadata": metadata}
    if save_card:
        intent["setup_future_usage"] = "off_session"
    asked: dict[str, Any] = {
        "mode": "payment",
        "customer": customer,
        "client_reference_id": str(top_up),
        "metadata": metadata,
        "payment_intent_data": intent,
        "line_items": [
            {
                "quantity": 1,
                "price_data": {
                    "currency": CURRENCY,
                    "unit_amount": cents,
                    "tax_behavior": "exclusive",
                    "product_data": {"name": "Pixelpar balance"},
                },
            }
        ],
        "success_url": success_url,
        "cancel_url": cancel_url,
        "expires_at": expires_s,
    }
    if settings.STRIPE_TAX:
        asked["automatic_tax"] = {"enabled": True}
        asked["customer_update"] = {"address": "auto"}
    with _translated():
        made = _stripe().v1.checkout.sessions.create(asked, {"idempotency_key": f"top-up-{top_up}"})  # type: ignore[arg-type]
    return _session(made)


def expire_checkout(session_id: str) -> None:
    """End a session that nobody shall pay any more."""
    with _translated():
        _stripe().v1.checkout.sessions.expire(session_id)


def charge_saved_card(*, top_up: uuid.UUID, customer: str, payment_method: str, cents: int) -> str:
    """Charge a saved card while nobody is there; the PaymentIntent's id. Raises Refused or Unclear."""
    with _translated():
        made = _stripe().v1.payment_intents.create(
            {
                "amount": cents,
                "currency": CURRENCY,
                "customer": customer,
                "payment_method": payment_method,
                "off_session": True,
                "confirm": True,
                "metadata": {"top_up": str(top_up)},
            },
            {"idempotency_key": f"top-up-{top_up}"},
        )
    return made.id


def confirm(intent_id: str, *, payment_method: str, return_url: str) -> str | None:
    """Let the customer confirm at their bank: where to send them, None when there is nothing left to confirm."""
    with _translated():
        found = _stripe().v1.payment_intents.confirm(
            intent_id, {"payment_method": payment_method, "return_url": return_url}
        )
    leads = found.next_action.redirect_to_url if found.next_action else None
    return leads.url if leads else None


def cancel(intent_id: str) -> None:
    """End a payment that was never made."""
    with _translated():
        _stripe().v1.payment_intents.cancel(intent_id)


def forget_card(payment_method: str) -> None:
    """Detach a saved card from its customer."""
    with _translated(), contextlib.suppress(stripe.InvalidRequestError):  # it is gone already
        _stripe().v1.payment_methods.detach(payment_method)


def open_portal(customer: str, *, return_url: str) -> str:
    """The address of the customer's own pages at Stripe: cards and receipts."""
    with _translated():
        return _stripe().v1.billing_portal.sessions.create({"customer": customer, "return_url": return_url}).url


def refund(*, key: uuid.UUID, intent_id: str, cents: int) -> str:
    """Send part of a payment back; the refund's id, the same however often it is asked for."""
    with _translated():
        made = _stripe().v1.refunds.create(
            {"payment_intent": intent_id, "amount": cents, "metadata": {"refund": str(key)}},
            {"idempotency_key": f"refund-{key}"},
        )
    return made.id


# --- what Stripe says -------------------------------------------------------------------------------------------------


def payment(intent_id: str) -> Payment:
    """A payment as it stands, with its session, refunds and disputes. Raises Missing or Unclear."""
    with _translated():
        v1 = _stripe().v1
        whole: Any = {"expand": ["latest_charge.balance_transaction"]}
        intent = v1.payment_intents.retrieve(intent_id, whole)
        of_it: Any = {"payment_intent": intent_id, "limit": _LISTED_MAX}
        sessions = v1.checkout.sessions.list(of_it).data
        if intent.status not in _ENDED and sessions and sessions[0].status == "complete":
            # Paid between the two answers, perhaps: together they would say that it failed.
            intent = v1.payment_intents.retrieve(intent_id, whole)
        paid = intent.status == "succeeded"
        refunds = list(v1.refunds.list(of_it).auto_paging_iter()) if paid else []
        disputes = v1.disputes.list(of_it).data if paid else []
        charges = [] if paid else v1.charges.list(of_it).data
    error = intent.last_payment_error
    return Payment(
        id=intent.id,
        status=intent.status,
        currency=intent.currency,
        received_cents=intent.amount_received,
        livemode=intent.livemode,
        top_up=_own(intent.metadata, "top_up"),
        customer=_id(intent.customer),
        payment_method=_id(intent.payment_method),
        keeps_card=intent.setup_future_usage == "off_session",
        error_code=(error.decline_code or error.code or "failed") if error else "",
        declines=sum(charge.status == "failed" for charge in charges),
        charge=_charge(intent.latest_charge) if paid else None,
        session=_session(sessions[0]) if sessions else None,
        refunds=tuple(_refund(found) for found in sorted(refunds, key=lambda it: (it.created, it.id))),
        disputes=tuple(_dispute(found) for found in sorted(disputes, key=lambda it: (it.created, it.id))),
    )


def session(session_id: str) -> SessionFact:
    """A Checkout Session as it stands. Raises Missing or Unclear."""
    with _translated():
        return _session(_stripe().v1.checkout.sessions.retrieve(session_id))


def warning(warning_id: str) -> WarningFact:
    """An early fraud warning and the payment it is about. Raises Missing or Unclear."""
    with _translated():
        v1 = _stripe().v1
        found = v1.radar.early_fraud_warnings.retrieve(warning_id)
        intent = _id(found.payment_intent) or _id(v1.charges.retrieve(_id(found.charge)).payment_intent)
    return WarningFact(id=found.id, intent_id=intent)


def intent_of_charge(charge_id: str) -> str:
    """The PaymentIntent that a charge belongs to."""
    with _translated():
        return _id(_stripe().v1.charges.retrieve(charge_id).payment_intent)


def lost_session(*, customer: str, top_up: uuid.UUID) -> SessionFact | None:
    """The session of a top-up whose answer never reached us."""
    with _translated():
        found = _stripe().v1.checkout.sessions.list({"customer": customer, "limit": _LISTED_MAX})
        return next((_session(it) for it in found.auto_paging_iter() if _own(it.metadata, "top_up") == top_up), None)


def lately(*, since_s: int) -> Iterator[Listed]:
    """Payments, refunds, disputes and fraud warnings made since then: all that can move money."""
    v1 = _stripe().v1
    lists: tuple[tuple[str, Callable[..., Any]], ...] = (
        ("payment", v1.payment_intents.list),
        ("refund", v1.refunds.list),
        ("dispute", v1.disputes.list),
        ("warning", v1.radar.early_fraud_warnings.list),
    )
    for kind, ask in lists:
        with _translated():
            found = list(ask({"created": {"gte": since_s}, "limit": _LISTED_MAX}).auto_paging_iter())
        for it in found:
            if kind == "payment" and _own(it.metadata, "top_up") is None:
                continue
            intent = it.id if kind == "payment" else _id(it.payment_intent)
            status = "" if kind == "warning" else str(it.status)
            yield Listed(kind=kind, id=it.id, status=status, intent_id=intent, created_s=it.created)


# --- its words into ours ----------------------------------------------------------------------------------------------


def _id(value: Any) -> str:
    """The id of what may be an id, the object, or nothing."""
    if value is None or isinstance(value, str):
        return value or ""
    return str(value.id)


def _own(metadata: Any, name: str) -> uuid.UUID | None:
    word = metadata[name] if metadata is not None and name in metadata else ""
    try:
        return uuid.UUID(word)
    except (ValueError, TypeError, AttributeError):
        return None


def _session(found: Any) -> SessionFact:
    details = found.total_details
    return SessionFact(
        id=found.id,
        status=found.status or "",
        payment_status=found.payment_status,
        currency=found.currency or "",
        subtotal_cents=found.amount_subtotal or 0,
        tax_cents=details.amount_tax if details else 0,
        total_cents=found.amount_total or 0,
        top_up=_own(found.metadata, "top_up"),
        customer=_id(found.customer),
        intent_id=_id(found.payment_intent),
        livemode=found.livemode,
        url=found.url or "",
    )


def _charge(found: Any) -> ChargeFact | None:
    if found is None or isinstance(found, str):
        return None
    booked = found.balance_transaction
    details = found.payment_method_details
    card = details.card if details is not None and "card" in details else None
    return ChargeFact(
        id=found.id,
        receipt_url=found.receipt_url or "",
        card_brand=(card.brand or "") if card else "",
        card_last_four=(card.last4 or "") if card else "",
        card_ends=f"{card.exp_month:02d}/{card.exp_year}" if card else "",
        fee_cents=booked.fee if booked else None,
        settled_cents=booked.amount if booked else 0,
        settled_currency=booked.currency if booked else "",
    )


def _refund(found: Any) -> RefundFact:
    return RefundFact(
        id=found.id,
        status=found.status or "",
        currency=found.currency,
        amount_cents=found.amount,
        own=_own(found.metadata, "refund"),
    )


def _dispute(found: Any) -> DisputeFact:
    booked = found.balance_transactions
    return DisputeFact(
        id=found.id,
        status=found.status,
        reason=found.reason,
        currency=found.currency,
        amount_cents=found.amount,
        withdrawn=any(it.amount < 0 for it in booked),
        returned=any(it.amount > 0 for it in booked),
        fee_cents=sum(it.fee for it in booked if it.amount < 0 and it.currency == CURRENCY),
    )
