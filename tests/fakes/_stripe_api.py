"""The fake Stripe's API: form-encoded requests to the world's verbs, idempotency keys, lists, expansion, errors."""

from __future__ import annotations

import copy
import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

import orjson

from tests.fakes import _stripe_form as form
from tests.fakes import _stripe_objects as objects
from tests.fakes._stripe_objects import Object
from tests.fakes._stripe_world import Failure, World, invalid

_LISTS = {
    "/v1/checkout/sessions": ("checkout.session", ("payment_intent", "customer", "status")),
    "/v1/payment_intents": ("payment_intent", ("customer",)),
    "/v1/charges": ("charge", ("payment_intent", "customer")),
    "/v1/refunds": ("refund", ("payment_intent", "charge")),
    "/v1/disputes": ("dispute", ("payment_intent", "charge")),
    "/v1/radar/early_fraud_warnings": ("radar.early_fraud_warning", ("payment_intent", "charge")),
    "/v1/payment_methods": ("payment_method", ("customer", "type")),
}
_KINDS = {path: kind for path, (kind, _) in _LISTS.items()} | {
    "/v1/customers": "customer",
    "/v1/balance_transactions": "balance_transaction",
}


@dataclasses.dataclass(slots=True)
class Answer:
    """An answer of the API."""

    status: int
    body: Any
    headers: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(slots=True)
class _Remembered:
    target: str
    asked: Object
    answer: Answer | None = None


class Api:
    """One account. `asked` remembers every request: method, path, values, idempotency key."""

    def __init__(self, world: World, *, key: str) -> None:
        self.world, self.key = world, key
        self.asked: list[tuple[str, str, Object, str]] = []
        self._keys: dict[str, _Remembered] = {}

    def answer(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Answer one request; header names in lower case."""
        path, _, query = target.partition("?")
        with self.world.lock:
            try:
                if headers.get("authorization") != f"Bearer {self.key}":
                    raise Failure(401, "invalid_request_error", "Invalid API Key provided")
                values = form.decode(query if method == "GET" else body.decode())
                key = headers.get("idempotency-key", "")
                self.asked.append((method, path, values, key))
                if method == "POST" and key:
                    return self._once(key, path, values)
                return self._work(method, path, values)
            except Failure as failure:
                return _error(failure)
            except (KeyError, IndexError, TypeError, ValueError) as error:
                return _error(invalid(f"Missing or wrong parameter: {error!r}"))

    def _once(self, key: str, path: str, values: Object) -> Answer:
        """The same key and values: the same answer. Other values: refused. What was refused as invalid is not kept."""
        known = self._keys.get(key)
        if known is not None:
            if (known.target, known.asked) != (path, values):
                raise Failure(
                    400,
                    "idempotency_error",
                    "Keys for idempotent requests can only be used with the same parameters they were first used with.",
                )
            assert known.answer is not None
            return dataclasses.replace(known.answer, headers={**known.answer.headers, "idempotent-replayed": "true"})
        try:
            answer = self._work("POST", path, values)
        except Failure as failure:
            if failure.status == 400:
                raise
            answer = _error(failure)
        self._keys[key] = _Remembered(path, copy.deepcopy(values), answer)
        return answer

    def _work(self, method: str, path: str, values: Object) -> Answer:
        if method == "GET":
            if path == "/v1/events":
                return Answer(200, _page(self.world.events, values, path))
            if path in _LISTS:
                kind, filters = _LISTS[path]
                found = [
                    it for it in self.world.all(kind) if all(it.get(f) == values[f] for f in filters if f in values)
                ]
                return Answer(200, _page([self._shown(it, values, "data.") for it in found], values, path))
            collection, _, word = path.rpartition("/")
            if collection in _KINDS:
                return Answer(200, self._shown(self.world.get(_KINDS[collection], unquote(word)), values))
        if method == "POST":
            for pattern, verb in self._verbs():
                match = re.fullmatch(pattern, path)
                if match:
                    return Answer(200, self._shown(verb(values, *match.groups()), values))
        raise Failure(404, "invalid_request_error", f"Unrecognized request URL ({method}: {path}).")

    def _verbs(self) -> tuple[tuple[str, Callable[..., Object]], ...]:
        world = self.world
        intents = "/v1/payment_intents"
        return (
            ("/v1/customers", lambda values: world.keep(objects.customer(**_customer(values)))),
            ("/v1/checkout/sessions", world.open_session),
            (
                r"/v1/checkout/sessions/(\w+)/expire",
                lambda _, word: world.expire_session(world.get("checkout.session", word)),
            ),
            (intents, world.make_intent),
            (
                rf"{intents}/(\w+)/confirm",
                lambda values, word: world.confirm_intent(world.get("payment_intent", word), values),
            ),
            (rf"{intents}/(\w+)/cancel", lambda _, word: world.cancel_intent(world.get("payment_intent", word))),
            ("/v1/refunds", world.make_refund),
            (
                r"/v1/payment_methods/(\w+)/detach",
                lambda _, word: world.detach(world.get("payment_method", word)),
            ),
            ("/v1/billing_portal/sessions", self._portal),
        )

    def _portal(self, values: Object) -> Object:
        owner = self.world.get("customer", values.get("customer"))
        made = {
            "id": objects.new_id("bps"),
            "object": "billing_portal.session",
            "configuration": "bpc_fake",
            "created": objects.now_s(),
            "customer": owner["id"],
            "flow": None,
            "livemode": False,
            "locale": None,
            "on_behalf_of": None,
            "return_url": values.get("return_url"),
        }
        made["url"] = f"{self.world.base}/p/session/{made['id']}"
        return self.world.keep(made)

    def _shown(self, thing: Object, values: Object, prefix: str = "") -> Object:
        """A copy without what is only ours, with what shall be expanded."""
        shown = copy.deepcopy({name: value for name, value in thing.items() if not name.startswith("_")})
        for path in values.get("expand", []):
            if path.startswith(prefix):
                self._expand(shown, path.removeprefix(prefix).split("."))
        return shown

    def _expand(self, shown: Object, steps: list[str]) -> None:
        value = shown.get(steps[0])
        if isinstance(value, str) and value in self.world.things:
            value = shown[steps[0]] = copy.deepcopy(self.world.things[value])
        if isinstance(value, dict) and steps[1:]:
            self._expand(value, steps[1:])


def _customer(values: Object) -> Object:
    return {name: values[name] for name in ("description", "email", "name", "metadata") if name in values}


def _page(found: list[Object], values: Object, path: str) -> Object:
    """A list's page, the newest first."""
    made = values.get("created", {})
    since = int(made.get("gte", 0)) if isinstance(made, dict) else int(made)
    rows = [it for it in reversed(found) if it.get("created", 0) >= since]
    after = values.get("starting_after")
    if after:
        places = [number for number, it in enumerate(rows) if it["id"] == after]
        rows = rows[places[0] + 1 :] if places else []
    limit = min(int(values.get("limit", 10)), 100)
    return {"object": "list", "data": rows[:limit], "has_more": len(rows) > limit, "url": path}


def _error(failure: Failure) -> Answer:
    return Answer(failure.status, {"error": copy.deepcopy(failure.error)}, {})


def payload(answer: Answer) -> bytes:
    return orjson.dumps(answer.body)
