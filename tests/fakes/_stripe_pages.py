"""The pages a customer sees at the fake Stripe: checkout, the bank's question, the portal, a receipt."""

from __future__ import annotations

from html import escape
from urllib.parse import parse_qs

from tests.fakes._stripe_objects import CARDS, Object
from tests.fakes._stripe_world import Failure, World

_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:34rem;margin:3rem auto;padding:0 1rem;color:#1a1f36}}
.note{{background:#fff4d6;padding:.75rem 1rem;border-radius:8px}}.bad{{background:#fde3e3}}
input[type=text]{{font:inherit;padding:.5rem;width:100%;box-sizing:border-box}}
button{{font:inherit;padding:.6rem 1.2rem;margin:.5rem .5rem .5rem 0;border:0;border-radius:8px;
background:#5b54e8;color:#fff}}
button.plain{{background:#e3e5ef;color:#1a1f36}}li{{margin:.2rem 0}}</style></head>
<body><p class="note">A pretended Stripe: no card is charged, no money moves.</p>{body}</body></html>"""
_CARDS = "".join(
    f"<li><code>{number}</code> {escape(text)}</li>"
    for number, text in {
        "4242424242424242": "pays",
        "4000000000000002": "is declined",
        "4000002500003155": "asks its bank",
        "4000000000000341": "pays now, is declined later",
        "4000002760003184": "asks its bank every time",
        "4000000000000259": "pays and is disputed",
        "4000000000005423": "pays and is suspected",
    }.items()
)


def page(title: str, body: str) -> bytes:
    return _PAGE.format(title=escape(title), body=body).encode()


def _money(cents: int, currency: str) -> str:
    return f"{cents // 100}.{cents % 100:02d} {currency.upper()}"


class Pages:
    """Answers (status, body, address to go to)."""

    def __init__(self, world: World) -> None:
        self.world = world

    def answer(self, method: str, target: str, body: bytes) -> tuple[int, bytes, str]:
        path = target.partition("?")[0].strip("/").split("/")
        posted = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        try:
            with self.world.lock:
                match path:
                    case ["c", "pay", word]:
                        return self._checkout(self.world.get("checkout.session", word), method, posted)
                    case ["3ds", word]:
                        return self._bank(self.world.get("payment_intent", word), method, posted)
                    case ["p", "session", word]:
                        return self._portal(self.world.get("billing_portal.session", word), method, posted)
                    case ["receipts", word]:
                        paid = self.world.get("charge", word)
                        text = f"<h1>Receipt</h1><p>{_money(paid['amount'], paid['currency'])}</p>"
                        return 200, page("Receipt", text), ""
        except Failure as failure:
            return failure.status, page("Not possible", f"<h1>{escape(str(failure))}</h1>"), ""
        return 404, page("Nothing here", "<h1>There is nothing here.</h1>"), ""

    def _checkout(self, session: Object, method: str, posted: dict[str, str]) -> tuple[int, bytes, str]:
        said = ""
        if session["status"] != "open":
            return 200, page("Checkout", "<h1>This checkout is over.</h1>"), ""
        if method == "POST":
            number = posted.get("number", "").replace(" ", "")
            if number not in CARDS:
                said = '<p class="note bad">Your card number is incorrect.</p>'
            else:
                found = self.world.pay_session(session, number)
                if found["status"] == "requires_action":
                    leads = found["next_action"]["redirect_to_url"]
                    leads["return_url"] = session["success_url"]
                    return 303, b"", leads["url"]
                if found["status"] == "succeeded":
                    return 303, b"", session["success_url"]
                said = '<p class="note bad">Your card was declined.</p>'
        total = _money(session["amount_total"], session["currency"])
        text = f"""<h1>Pay {total}</h1>{said}<form method="post"><label>Card number
<input type="text" name="number" id="number" inputmode="numeric" autocomplete="off" value="4242424242424242"></label>
<button id="pay">Pay {total}</button></form>
<p><a href="{escape(session["cancel_url"] or "")}">Cancel</a></p><h2>Cards</h2><ul>{_CARDS}</ul>"""
        return 200, page("Checkout", text), ""

    def _bank(self, found: Object, method: str, posted: dict[str, str]) -> tuple[int, bytes, str]:
        if method == "POST" and found["status"] == "requires_action":
            back = found["next_action"]["redirect_to_url"]["return_url"] or self.world.base
            session = next(
                (it for it in self.world.all("checkout.session") if it["payment_intent"] == found["id"]), None
            )
            self.world.authenticate(found, well=posted.get("confirm") == "yes")
            if found["status"] != "succeeded" and session is not None:
                back = session["url"]
            return 303, b"", back
        text = """<h1>Your bank asks</h1><p>Do you confirm this payment?</p><form method="post">
<button name="confirm" value="yes" id="confirm">Confirm</button>
<button name="confirm" value="no" class="plain">Refuse</button></form>"""
        return 200, page("Your bank", text), ""

    def _portal(self, portal: Object, method: str, posted: dict[str, str]) -> tuple[int, bytes, str]:
        if method == "POST":
            method_found = self.world.get("payment_method", posted.get("remove"))
            if method_found["customer"] == portal["customer"]:
                self.world.detach(method_found)
        cards = [it for it in self.world.all("payment_method") if it["customer"] == portal["customer"]]
        rows = "".join(
            f'<li>{it["card"]["brand"]} ending in {it["card"]["last4"]} <form method="post">'
            f'<button class="plain" name="remove" value="{it["id"]}">Remove</button></form></li>'
            for it in cards
        )
        text = f"<h1>Your cards</h1><ul>{rows}</ul><p><a href='{escape(portal['return_url'] or '')}'>Back</a></p>"
        return 200, page("Portal", text), ""
