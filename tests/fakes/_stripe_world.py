"""What happens inside the fake Stripe: payments, refunds, disputes, each changing objects and leaving events."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import Any

from tests.fakes import _stripe_objects as objects
from tests.fakes._stripe_objects import CARDS, Object


class Failure(Exception):
    """An error answer: HTTP status and Stripe's error object."""

    def __init__(self, status: int, kind: str, message: str, **more: Any) -> None:
        super().__init__(message)
        self.status = status
        self.error = {"type": kind, "message": message, **{name: it for name, it in more.items() if it is not None}}


def invalid(message: str, *, param: str | None = None, code: str | None = None) -> Failure:
    return Failure(400, "invalid_request_error", message, param=param, code=code)


class World:
    """All objects by id, in the order they were made. Every verb holds the lock."""

    def __init__(self, *, base: str = "") -> None:
        self.base = base
        self.lock = threading.RLock()
        self.things: dict[str, Object] = {}
        self.numbers: dict[str, str] = {}  # of cards, by payment method; no answer shows them
        self.ready_for_later: set[str] = set()
        self.events: list[Object] = []
        self.tax_permille = 190
        self.watchers: list[Callable[[Object], object]] = []

    def keep(self, thing: Object) -> Object:
        self.things[thing["id"]] = thing
        return thing

    def get(self, kind: str, word: Any) -> Object:
        found = self.things.get(str(word))
        if found is None or found["object"] != kind:
            raise Failure(404, "invalid_request_error", f"No such {kind}: '{word}'", code="resource_missing")
        return found

    def all(self, kind: str) -> list[Object]:
        return [thing for thing in self.things.values() if thing["object"] == kind]

    def emit(self, kind: str, about: Object) -> Object:
        made = objects.event(kind, copy.deepcopy(about))
        made["livemode"] = about.get("livemode", False)
        self.events.append(made)
        for watcher in self.watchers:
            watcher(made)
        return made

    # Checkout

    def open_session(self, asked: Object) -> Object:
        lines = asked["line_items"]
        subtotal = sum(int(line["price_data"]["unit_amount"]) * int(line.get("quantity", 1)) for line in lines)
        taxed = asked.get("automatic_tax", {}).get("enabled") == "true"
        tax = (subtotal * self.tax_permille + 500) // 1000 if taxed else 0
        if int(asked.get("expires_at", objects.now_s() + 86_400)) < objects.now_s() + 1790:
            raise invalid("expires_at must be at least 30 minutes in the future", param="expires_at")
        made = objects.session(
            amount_subtotal=subtotal,
            amount_total=subtotal + tax,
            total_details={"amount_discount": 0, "amount_shipping": 0, "amount_tax": tax},
            cancel_url=asked.get("cancel_url"),
            client_reference_id=asked.get("client_reference_id"),
            currency=lines[0]["price_data"]["currency"],
            customer=asked.get("customer"),
            expires_at=int(asked.get("expires_at", objects.now_s() + 86_400)),
            metadata=asked.get("metadata", {}),
            success_url=asked["success_url"],
        )
        made["url"] = f"{self.base}/c/pay/{made['id']}"
        made["automatic_tax"]["enabled"] = taxed
        self.keep(made)
        self.things[made["id"]]["_intent_data"] = asked.get("payment_intent_data", {})
        return made

    def expire_session(self, session: Object) -> Object:
        if session["status"] != "open":
            raise invalid("Only Checkout Sessions with a status in ['open'] can be expired.")
        session["status"], session["url"] = "expired", None
        self.emit("checkout.session.expired", session)
        return session

    def pay_session(self, session: Object, number: str, *, save: bool = False) -> Object:
        """Somebody types a card into the checkout page. The PaymentIntent, whatever became of it."""
        if session["status"] != "open":
            raise invalid("This Checkout Session is no longer active.")
        if number not in CARDS:
            raise invalid("Your card number is incorrect.", code="incorrect_number")
        found = self.things.get(session["payment_intent"] or "")
        if found is None:
            wanted = session["_intent_data"]
            found = objects.intent(
                amount=session["amount_total"],
                currency=session["currency"],
                customer=session["customer"],
                metadata=wanted.get("metadata", {}),
                setup_future_usage=wanted.get("setup_future_usage") or ("off_session" if save else None),
            )
            found["client_secret"] = f"{found['id']}_secret"
            session["payment_intent"] = self.keep(found)["id"]
        found["payment_method"] = self.add_card(number, owner=session["customer"])["id"]
        self._try(found, there=True)
        return found

    def add_card(self, number: str, *, owner: str | None) -> Object:
        made = self.keep(objects.payment_method(number, owner=owner))
        self.numbers[made["id"]] = number
        return made

    # Payments

    def make_intent(self, asked: Object) -> Object:
        if int(asked["amount"]) < 50:
            raise invalid("Amount must be at least $0.50 usd", param="amount", code="amount_too_small")
        made = objects.intent(
            amount=int(asked["amount"]),
            currency=asked["currency"],
            customer=asked.get("customer"),
            metadata=asked.get("metadata", {}),
            payment_method=asked.get("payment_method"),
        )
        made["client_secret"] = f"{made['id']}_secret"
        if asked.get("confirm") == "true":
            method = self.get("payment_method", asked.get("payment_method"))
            if method["customer"] != asked.get("customer"):
                raise invalid("The PaymentMethod does not belong to the Customer.", param="payment_method")
            self.keep(made)
            self.emit("payment_intent.created", made)
            self._try(made, there=asked.get("off_session") != "true")
            self._raise_if_refused(made, there=asked.get("off_session") != "true")
        return self.keep(made)

    def confirm_intent(self, found: Object, asked: Object) -> Object:
        if found["status"] not in ("requires_payment_method", "requires_confirmation", "requires_action"):
            raise invalid("This PaymentIntent cannot be confirmed.", code="payment_intent_unexpected_state")
        found["payment_method"] = asked.get("payment_method", found["payment_method"])
        self._try(found, there=True)
        if found["next_action"] is not None:
            found["next_action"]["redirect_to_url"]["return_url"] = asked.get("return_url")
        self._raise_if_refused(found, there=True)
        return found

    def cancel_intent(self, found: Object) -> Object:
        if found["status"] in ("succeeded", "canceled"):
            raise invalid("This PaymentIntent cannot be canceled.", code="payment_intent_unexpected_state")
        found["status"], found["next_action"], found["canceled_at"] = "canceled", None, objects.now_s()
        self.emit("payment_intent.canceled", found)
        return found

    def authenticate(self, found: Object, *, well: bool) -> Object:
        """The bank's page: the cardholder confirms, or does not."""
        if found["status"] != "requires_action":
            raise invalid("There is nothing to confirm.", code="payment_intent_unexpected_state")
        found["next_action"] = None
        if well:
            self._succeed(found)
        else:
            self._decline(found, "payment_intent_authentication_failure", None)
        return found

    def _raise_if_refused(self, found: Object, *, there: bool) -> None:
        error = found["last_payment_error"]
        if error and found["status"] == "requires_payment_method":
            raise Failure(
                402,
                "card_error",
                error["message"],
                code=error["code"],
                decline_code=error.get("decline_code"),
                payment_intent=found,
            )

    def _try(self, found: Object, *, there: bool) -> None:
        number = self.numbers[found["payment_method"]]
        card = CARDS[number]
        found["last_payment_error"] = None
        asks = card.asks == "always" or (card.asks == "once" and found["payment_method"] not in self.ready_for_later)
        if card.decline or (card.declines_later and not there):
            self._decline(found, "card_declined", card.decline or "generic_decline")
        elif asks and there:
            found["status"] = "requires_action"
            url = f"{self.base}/3ds/{found['id']}"
            found["next_action"] = {"type": "redirect_to_url", "redirect_to_url": {"url": url, "return_url": None}}
            self.emit("payment_intent.requires_action", found)
        elif asks:
            self._decline(found, "authentication_required", "authentication_required")
        else:
            self._succeed(found)

    def _decline(self, found: Object, code: str, decline: str | None) -> None:
        method = self.things[found["payment_method"]]
        made = self.keep(objects.charge(found, method, failure=code))
        found["latest_charge"], found["status"] = made["id"], "requires_payment_method"
        error = {"type": "card_error", "code": code, "message": "Your card was declined.", "charge": made["id"]}
        found["last_payment_error"] = {**error, **({"decline_code": decline} if decline else {})}
        self.emit("charge.failed", made)
        self.emit("payment_intent.payment_failed", found)

    def _succeed(self, found: Object) -> None:
        method = self.things[found["payment_method"]]
        made = self.keep(objects.charge(found, method))
        made["receipt_url"] = f"{self.base}{made['receipt_url']}"
        amount, fee = found["amount"], objects.fee_cents(found["amount"])
        made["balance_transaction"] = self.keep(objects.balance_transaction("charge", made["id"], amount, fee))["id"]
        found |= {"latest_charge": made["id"], "status": "succeeded", "amount_received": found["amount"]}
        found["last_payment_error"] = None
        if found["setup_future_usage"] == "off_session":
            self.ready_for_later.add(method["id"])
        session = next((it for it in self.all("checkout.session") if it["payment_intent"] == found["id"]), None)
        if session is not None:
            session |= {"status": "complete", "payment_status": "paid", "url": None}
        self.emit("charge.succeeded", made)
        self.emit("payment_intent.succeeded", found)
        if session is not None:
            self.emit("checkout.session.completed", session)
        self._then(found, CARDS[self.numbers[method["id"]]].then)

    def _then(self, found: Object, what: str) -> None:
        if what == "dispute":
            self.open_dispute(found)
        elif what == "inquiry":
            self.open_dispute(found, inquiry=True)
        elif what == "warning":
            self.warn(found)

    # Money that goes back

    def make_refund(self, asked: Object) -> Object:
        found = self.get("payment_intent", asked.get("payment_intent"))
        if found["status"] != "succeeded":
            raise invalid("This PaymentIntent does not have a successful charge to refund.")
        paid = self.things[found["latest_charge"]]
        left = paid["amount"] - paid["amount_refunded"]
        amount = int(asked.get("amount", left))
        if paid["disputed"]:
            raise invalid("Charge has been charged back; cannot issue a refund.", code="charge_disputed")
        if left == 0:
            raise invalid("Charge has already been refunded.", code="charge_already_refunded")
        if not 0 < amount <= left:
            raise invalid("Refund amount is greater than unrefunded amount on charge", param="amount")
        made = self.keep(objects.refund(found, amount, asked.get("metadata", {})))
        made["balance_transaction"] = self.keep(objects.balance_transaction("refund", made["id"], -amount, 0))["id"]
        paid["amount_refunded"] += amount
        paid["refunded"] = paid["amount_refunded"] == paid["amount"]
        self.emit("refund.created", made)
        self.emit("charge.refunded", paid)
        return made

    def fail_refund(self, made: Object) -> Object:
        """The card's bank would not take it, days later."""
        made["status"], made["failure_reason"] = "failed", "expired_or_canceled_card"
        paid = self.things[made["charge"]]
        paid["amount_refunded"] -= made["amount"]
        paid["refunded"] = False
        self.emit("refund.failed", made)
        return made

    def open_dispute(self, found: Object, *, amount: int | None = None, inquiry: bool = False) -> Object:
        paid = self.things[found["latest_charge"]]
        status = "warning_needs_response" if inquiry else "needs_response"
        made = objects.dispute(found, amount or paid["amount"], status=status, reason="fraudulent")
        paid["disputed"] = True
        self.emit("charge.dispute.created", self.keep(made))
        if not inquiry:
            fee = objects.DISPUTE_FEE_CENTS
            made["balance_transactions"].append(
                self.keep(objects.balance_transaction("dispute", made["id"], -made["amount"], fee))
            )
            self.emit("charge.dispute.funds_withdrawn", made)
        return made

    def close_dispute(self, made: Object, *, won: bool) -> Object:
        made["status"] = "won" if won else "lost"
        if won:
            self.things[made["charge"]]["disputed"] = False
            made["balance_transactions"].append(
                self.keep(objects.balance_transaction("dispute_reversal", made["id"], made["amount"], 0))
            )
            self.emit("charge.dispute.funds_reinstated", made)
        self.emit("charge.dispute.closed", made)
        return made

    def warn(self, found: Object) -> Object:
        made = self.keep(objects.warning(found))
        self.emit("radar.early_fraud_warning.created", made)
        return made

    def detach(self, method: Object) -> Object:
        method["customer"] = None
        self.emit("payment_method.detached", method)
        return method
