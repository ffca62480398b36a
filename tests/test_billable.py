"""T-04: whatever route is called, no provider hears of it before a hold and a sent attempt are on record."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import requests
from django.db import connection
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from accounts import keys, scopes
from accounts.api import ApiView
from billing.models import Hold
from tests import calls, databases, money
from tests.fakes import misbehaviour
from tests.fakes._exchange import Exchange
from tests.fakes.misbehaviour import Behaviour
from tests.fakes.providers import ProviderFake
from tests.imagesapi.canvas import data_uri, picture
from tests.people import IssuedKey, sign_in
from tests.servers import LiveServer

METHODS = ("get", "post", "put", "patch", "delete")
# What each billable view must be sent so that a provider is called. A new billable view needs a line here.
_EDIT = {**calls.ASKED, "images": [{"image_url": data_uri(picture())}]}
SPENDS = {
    "Generations": calls.ASKED,
    "Edits": _EDIT,
    "Variations": {name: _EDIT[name] for name in ("model", "size", "response_format", "images")},
}
_PARAMETER = re.compile(r"<[^>]+>|\(\?P<\w+>[^)]*\)|[\^$\\?]")


def routes(patterns: Any = None, prefix: str = "") -> Iterator[tuple[str, type | None]]:
    """Every address with a value in place of each parameter, and its view class where it has one."""
    for pattern in get_resolver().url_patterns if patterns is None else patterns:
        here = prefix + _PARAMETER.sub("x", str(pattern.pattern))
        if isinstance(pattern, URLResolver):
            yield from routes(pattern.url_patterns, here)
        elif isinstance(pattern, URLPattern):
            yield f"/{here}", getattr(pattern.callback, "view_class", None)


ROUTES = dict(routes())
BILLABLE = {path for path, view in ROUTES.items() if view and issubclass(view, ApiView) and view.billable}


_SENT = """
SELECT h.state FROM imagesapi_attempt a LEFT JOIN billing_hold h ON h.id = a.generation_id WHERE a.status = 'sent'
"""


@dataclass
class Ledger:
    """Looks at the database whenever a provider is called, on a connection of its own."""

    # For each call: the attempts on record as sent whose hold is open, and those without an open hold.
    seen: list[tuple[int, int]] = field(default_factory=list)

    def before(self, then: Behaviour) -> Behaviour:
        def play(exchange: Exchange) -> None:
            with databases.connect(str(connection.settings_dict["NAME"])) as line:
                rows = line.execute(_SENT).fetchall()
            covered = sum(state == "held" for (state,) in rows)
            self.seen.append((covered, len(rows) - covered))
            then(exchange)

        return play


def spending(path: str) -> dict[str, Any]:
    """A body that makes the billable view at this address call a provider."""
    view = ROUTES[path]
    assert view is not None
    return SPENDS[view.__name__]


def _mighty() -> IssuedKey:
    """One that may do everything, so that no route ends at the door."""
    key = money.customer(promo_nanos=10**9)[1]
    keys.update(key.row, scopes=scopes.ALL)
    return key


@pytest.fixture
def key(server: LiveServer) -> IssuedKey:
    return _mighty()


@pytest.fixture
def looked(fake: ProviderFake) -> Ledger:
    found = Ledger()
    fake.behave(found.before(misbehaviour.honest()))
    return found


def test_there_are_routes_that_spend_and_each_is_known_here() -> None:
    names = {ROUTES[path].__name__ for path in BILLABLE}  # type: ignore[union-attr]
    assert names == set(SPENDS)


@pytest.mark.parametrize("path", sorted(BILLABLE))
@pytest.mark.parametrize("model", ["gpt-image-1", "fal/gpt-image-1"])
def test_a_billable_route_holds_before_it_spends(
    server: LiveServer, fake: ProviderFake, key: IssuedKey, looked: Ledger, path: str, model: str
) -> None:
    asked = {**spending(path), "model": model}
    reply = requests.post(server.url + path, json=asked, headers=key.headers, timeout=30)
    assert reply.status_code == 200
    assert looked.seen == [(1, 0)]
    assert fake.calls == 1


def test_it_holds_before_each_attempt_of_a_failover(
    server: LiveServer, fake: ProviderFake, key: IssuedKey, looked: Ledger
) -> None:
    fake.script(looked.before(misbehaviour.status(503)), on="openai")
    assert calls.create(server, key).json()["metadata"]["provider"] == "fal"
    assert (fake.calls, looked.seen) == (2, [(1, 0), (1, 0)])


@pytest.mark.parametrize("path", sorted(BILLABLE))
@pytest.mark.parametrize("change", [{"query": "?dryRun=true"}, {"dryRun": True}, {"max_cost": 0}, {"n": 11}], ids=str)
def test_a_billable_route_calls_nobody_where_nothing_is_bought(
    server: LiveServer, fake: ProviderFake, key: IssuedKey, path: str, change: dict[str, Any]
) -> None:
    query = change.get("query", "")
    asked = {**spending(path), **{name: value for name, value in change.items() if name != "query"}}
    reply = requests.post(server.url + path + query, json=asked, headers=key.headers, timeout=30)
    assert reply.status_code in (200, 400, 402)
    assert (fake.calls, Hold.objects.count()) == (0, 0)


def test_no_other_route_calls_a_provider(db: None, providers: ProviderFake) -> None:
    """With a key and in a browser, each method, and a body that would buy an image where one is sold."""
    paths = sorted(set(ROUTES) - BILLABLE)
    assert len(paths) > 20
    key = _mighty()
    assert key.row.created_by is not None
    for path in paths:
        browser = sign_in(key.row.created_by)
        for method in METHODS:
            for client in (Client(headers=key.headers), browser):
                getattr(client, method)(path, calls.ASKED, content_type="application/json")
    assert providers.requests == []
    assert Hold.objects.count() == 0
