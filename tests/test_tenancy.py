"""T-28: nobody reads, changes or even notices what is another organization's, by any address, role, key or id."""

from __future__ import annotations

import contextlib
import statistics
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.db import transaction
from django.http import HttpResponse
from django.test import Client, override_settings
from django.urls import URLResolver, get_resolver, path, reverse
from django.urls.resolvers import RegexPattern
from pytest_django import DjangoDbBlocker

from accounts import organizations
from accounts.api import ApiView
from accounts.authentication import HasApiKey
from core import ids, middleware
from tests import asking, bodies, databases, tenancy, tenancy_rows, tenants
from tests.asking import Asker, Reply, ask, expected
from tests.people import issue, sign_in
from tests.tenancy import ROUTES
from tests.tenants import Tenant

METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
REFUSALS = {302, 401, 403, 404, 405}
# What is looked for is three times what a request takes: six tell it as surely as thirty, which `make prove` takes.
SAMPLES = (6, pytest.param(30, marks=pytest.mark.prove))
DIFFERENCE_MAX_S = 0.010
# What a machine with other work to do looks like once; a view that tells differs each time.
ROUNDS_MAX = 3
# Everybody of one tenant asks, and the strongest of the other: the two are alike, and `make prove` turns it round.
WHOLE = ("Charlatan", pytest.param("Alicorn", marks=pytest.mark.prove))


@dataclass(slots=True)
class World:
    """Two tenants, everybody who might ask, and a suspended third."""

    alice: Tenant
    charlie: Tenant
    askers: list[Asker]

    @property
    def tenants(self) -> tuple[Tenant, Tenant]:
        return self.alice, self.charlie

    def others(self, asker: Asker) -> list[Tenant]:
        return [tenant for tenant in self.tenants if tenant is not asker.tenant]

    def seen_from(self, tenant: str) -> list[Asker]:
        """Everybody of this tenant, the strongest person and key of the other, and all who have none."""
        return [
            asker
            for asker in self.askers
            if asker.tenant is None or asker.tenant.organization.name == tenant or asker.is_strongest
        ]

    def asker(self, name: str) -> Asker:
        return next(asker for asker in self.askers if asker.name == name)


@pytest.fixture(scope="module")
def built(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[World, dict[str, Any]]]:
    """Everything is made once and taken back at the end; each test leaves it as it was."""
    store = {"STORE_DIR": tmp_path_factory.mktemp("images"), "STORE_FSYNC": False}
    with django_db_blocker.unblock(), transaction.atomic():
        with override_settings(**store):
            alice = tenants.build_tenant("Alicorn", dollars="7.654321")
            charlie = tenants.build_tenant("Charlatan", dollars="3.219876")
            owner = charlie.people["owner"]
            suspended = organizations.create("Frozen", owner=owner)
            suspended.memberships.all().delete()
            world = World(alice, charlie, asking.build_askers([alice, charlie], suspended))
            tenancy_rows.make_digest()
        yield world, store
        transaction.set_rollback(True)


@pytest.fixture
def world(built: tuple[World, dict[str, Any]], settings: Any) -> Iterator[World]:
    for name, value in built[1].items():
        setattr(settings, name, value)
    with transaction.atomic():
        yield built[0]
        databases.assert_ledger_is_exact()
        transaction.set_rollback(True)


def _leaks(reply: Reply, tenant: Tenant) -> list[bytes]:
    text = reply.body + repr(reply.headers).encode()
    return [secret[:60] for secret in tenant.secrets if secret in text]


def _is_private(reply: Reply) -> bool:
    return any(word in reply.headers.get("Cache-Control", "") for word in ("no-store", "private"))


@contextlib.contextmanager
def _taken_back(method: str) -> Iterator[None]:
    """What somebody deletes of their own is there again for whoever asks next."""
    with transaction.atomic():
        yield
        if method == "DELETE":
            transaction.set_rollback(True)


def _complaints(world: World, asker: Asker, name: str, method: str) -> Iterator[str]:
    """What is wrong with the answers to one asker, asking for their own, for others' and for missing things."""
    route = ROUTES[name]
    replies = {"missing": ask(asker, name, method, tenants.missing())}
    if asker.tenant and route.takes_ids:
        with _taken_back(method):
            replies["own"] = ask(asker, name, method, asker.tenant.words)
    for tenant in world.others(asker) if route.takes_ids else ():
        whose = tenant.organization.slug
        replies[whose] = ask(asker, name, method, {**tenant.words, "model": tenants.KINDS["model"]()})
        if replies[whose] != replies["missing"]:
            yield f"an id of {whose} differs from a missing one: {replies[whose]}, {replies['missing']}"
    if route.kind == "document" and replies["missing"] != ask(
        world.asker("a visitor"), name, method, tenants.missing()
    ):
        yield f"not the same as a visitor gets: {replies['missing']}"
    for what, reply in replies.items():
        if reply.status not in expected(asker, name, method, exists=what == "own"):
            yield f"{what}: {reply.status}"
        is_personal = route.kind in ("api", "link") or (asker.kind == "member" and route.kind != "document")
        if is_personal and not _is_private(reply):
            yield f"{what}: may be cached: {reply.headers}"
        for tenant in world.others(asker):
            yield from (f"{what}: shows {secret!r}" for secret in _leaks(reply, tenant))


def test_it_knows_every_address_and_every_model() -> None:
    assert tenancy.unknown(get_resolver()) == []
    assert tenancy_rows.unknown_models() == [], "say in tests/tenancy_rows.py whose its rows are: OWNED or SHARED"


def test_it_reports_an_address_it_does_not_know() -> None:
    leak = path("v1/leak/<str:word>", lambda request, word: HttpResponse(), name="leak")
    nested = URLResolver(RegexPattern(""), [URLResolver(RegexPattern(""), [leak])])
    complaint = tenancy.unknown(nested)[0]
    assert complaint.startswith("/v1/leak/<str:word> has the name 'leak', which the isolation sweep does not know")
    assert "add it to ROUTES in tests/tenancy.py" in complaint


@pytest.mark.parametrize("tenant", WHOLE)
@pytest.mark.parametrize("name", ROUTES)
def test_it_gives_everybody_their_own_and_nothing_of_others(world: World, name: str, tenant: str) -> None:
    failures = []
    for whose in (None, *world.tenants):
        # Of their own they may change what they like; whoever comes next finds everything as it was made.
        others = [other.organization for other in world.tenants if other is not whose]
        with transaction.atomic():
            before = [tenancy_rows.digest(other) for other in others]
            for asker in [asker for asker in world.seen_from(tenant) if asker.tenant is whose]:
                for method in ROUTES[name].methods:
                    failures += [
                        f"{method} by {asker.name}: {text}" for text in _complaints(world, asker, name, method)
                    ]
            for other, rows in zip(others, before, strict=True):
                if tenancy_rows.digest(other) != rows:
                    who = whose.organization.name if whose else "no organization"
                    failures.append(f"somebody of {who} changed rows of {other.slug}")
            transaction.set_rollback(True)
    assert failures == []


@pytest.mark.parametrize("name", [name for name, route in ROUTES.items() if route.lists])
def test_it_lists_what_is_ones_own(world: World, name: str) -> None:
    """Without this the sweep would be content with empty pages."""
    kind = "member" if ROUTES[name].kind == "page" else "key"
    may = [asker for asker in world.askers if kind == "member" or asker.has_scope(ROUTES[name])]
    askers = [(asker, asker.tenant) for asker in may if asker.kind == kind and asker.tenant]
    assert {tenant.organization for _, tenant in askers} == {tenant.organization for tenant in world.tenants}
    for asker, tenant in askers:
        own = tenant.words[ROUTES[name].lists or ""]
        assert own.encode() in bodies.read(asker.client.get(reverse(name), headers=dict(asker.headers))), asker.name


@pytest.mark.parametrize("name", ROUTES)
def test_it_answers_no_other_method(world: World, name: str) -> None:
    allowed = set(ROUTES[name].methods) | ({"HEAD"} if "GET" in ROUTES[name].methods else set())
    before = tenancy_rows.digest(world.alice.organization)
    for who in ("a visitor", "owner of charlatan", "full key of charlatan"):
        for method in METHODS:
            if method not in allowed:
                reply = ask(world.asker(who), name, method, world.alice.words)
                assert reply.status in REFUSALS, (who, method, reply)
                assert _leaks(reply, world.alice) == []
    assert tenancy_rows.digest(world.alice.organization) == before


@pytest.mark.parametrize("name", ROUTES)
def test_it_takes_no_id_from_anywhere_else(world: World, name: str) -> None:
    """Alice's ids in query, headers and body, where nobody asked for them, change nothing."""
    route, alice, mine = ROUTES[name], world.alice, world.charlie.words
    before = tenancy_rows.digest(alice.organization)
    for who in ("a visitor", "owner of charlatan", "full key of charlatan"):
        asker = world.asker(who)
        for method in route.methods:
            with _taken_back(method):
                plain = ask(asker, name, method, mine)
            for where, smuggled in asking.smuggled(alice).items():
                # What the route does ask for stays the asker's own.
                named = {*route.body, *route.body_ids, *route.query_ids}
                more = {key: value for key, value in smuggled.items() if key not in named}
                with _taken_back(method):
                    reply = ask(asker, name, method, mine, **{where: more}, echoes=tuple(map(str, more.values())))
                    assert method != "DELETE" or tenancy_rows.digest(alice.organization) == before
                refuses = route.strict and where == "body" and method in ("POST", "PUT", "PATCH")
                refuses = (refuses or (route.refuses_query and where == "query")) and plain.status < 300
                assert reply.status == (400 if refuses else plain.status), (who, method, where, reply)
                assert _leaks(reply, alice) == [], (who, method, where)
    assert tenancy_rows.digest(alice.organization) == before


@pytest.mark.parametrize("name", [name for name, route in ROUTES.items() if route.query_ids])
def test_it_pages_only_through_ones_own(world: World, name: str) -> None:
    """Another's cursor, and one that never was (where ids are ordered: a millionth beside it), answer alike."""
    for asker in (asker for asker in world.askers if asker.kind == "key" and asker.has_scope(ROUTES[name])):
        for parameter, kind in ROUTES[name].query_ids.items():
            for tenant in world.others(asker):
                ordered = ids.parse("req", word := tenant.words[kind])
                beside = ids.public("req", uuid.UUID(int=ordered.int + 1)) if ordered else tenants.missing()[kind]
                cursors = [word, beside]
                replies = [ask(asker, name, "GET", {}, query={parameter: it}, echoes=(it,)) for it in cursors]
                assert replies[0] == replies[1]
                assert replies[0].status == (200 if ordered else 400)
                assert _leaks(replies[0], tenant) == []


@pytest.mark.parametrize("samples", SAMPLES)
@pytest.mark.parametrize("name", [name for name, route in ROUTES.items() if route.names_an_object])
def test_it_takes_as_long_for_anothers_as_for_a_missing_thing(world: World, name: str, samples: int) -> None:
    asker = world.asker("owner of charlatan" if ROUTES[name].kind == "page" else "full key of charlatan")
    for method in ROUTES[name].methods:
        rounds = []
        for _ in range(ROUNDS_MAX):
            rounds.append(_difference_s(world, asker, name, method, samples=samples))
            if abs(rounds[-1]) < DIFFERENCE_MAX_S:
                break
        else:
            pytest.fail(f"{method}: anothers take longer, or shorter, every time: {rounds}")


def _difference_s(world: World, asker: Asker, name: str, method: str, *, samples: int) -> float:
    """Between the medians for another's thing and for a missing one, asked in turns."""
    taken_s: dict[str, list[float]] = {"foreign": [], "missing": []}
    for _ in range(samples):
        for what, words in (("foreign", world.alice.words), ("missing", tenants.missing())):
            started_s = time.perf_counter()
            ask(asker, name, method, words)
            taken_s[what].append(time.perf_counter() - started_s)
    return statistics.median(taken_s["foreign"]) - statistics.median(taken_s["missing"])


def test_it_shows_one_organization_at_a_time_to_a_member_of_two(world: World) -> None:
    person = world.charlie.people["viewer"]
    organizations.add_member(world.alice.organization, user=person, role="viewer")
    client = sign_in(person)
    for tenant, other in (world.tenants, world.tenants[::-1]):
        client.post("/app/switch", {"organization": tenant.organization.slug})
        for page in ("/app", "/app/keys"):
            text = client.get(page).content
            for kind in ("key", "request"):
                assert other.words[kind].encode() not in text
            assert tenant.organization.name.encode() in text
        assert tenant.words["key"].encode() in client.get("/app/keys").content


def test_it_asks_every_api_view_for_a_key() -> None:
    """Default deny: a view under the API's roots is one of ours and names its permission; only links ask for less."""
    for address in tenancy.addresses(get_resolver()):
        if not middleware.is_api(f"/{address.pattern}"):
            continue
        view = getattr(address.view, "cls", None)
        assert view is not None and issubclass(view, ApiView), f"{address.name}: derive it from accounts.api.ApiView"
        wanted = [] if ROUTES[address.name].kind == "link" else [HasApiKey]
        assert list(view.permission_classes) == wanted, f"{address.name}: a key must be asked for"
        assert view().get_authenticators(), address.name
        assert view.scope == ROUTES[address.name].scope, f"{address.name}: the sweep must know the scope it asks for"
    default = django_settings.REST_FRAMEWORK["DEFAULT_PERMISSION_CLASSES"]
    assert default == ["rest_framework.permissions.IsAuthenticated"]


def _pages() -> Iterator[tuple[str, str]]:
    """A path of every address that is no API: the table's, and those of whole groups."""
    words = tenants.missing()
    arguments = {"key": "MQ:abc:def", "uidb36": "1"}
    for address in tenancy.addresses(get_resolver()):
        if address.group is not None:
            names = [name for name in arguments if f"<{name}>" in address.pattern]
            yield address.name, reverse(address.name, kwargs={name: arguments[name] for name in names})
        elif ROUTES[address.name].kind in ("page", "public", "document"):
            route = ROUTES[address.name]
            yield address.name, reverse(address.name, kwargs={key: words[kind] for key, kind in route.path_ids.items()})


def test_it_refuses_every_form_without_a_token(world: World) -> None:
    browsers = [Client(enforce_csrf_checks=True) for _ in range(2)]
    browsers[1].force_login(world.alice.people["owner"])
    before = tenancy_rows.digest(world.alice.organization)
    for name, address in _pages():
        for browser in browsers:
            for method in ("post", "put", "patch", "delete"):
                assert getattr(browser, method)(address).status_code == 403, (name, method)
    assert tenancy_rows.digest(world.alice.organization) == before


def test_it_keeps_sign_in_pages_personal_and_out_of_caches(world: World) -> None:
    """The pages of the sign-in package show a person themselves, and a visitor nobody."""
    signed_in = [asker for asker in world.askers if asker.tenant is world.charlie and asker.kind == "member"]
    for asker in (world.asker("a visitor"), signed_in[0]):
        browser = Client()
        if asker.tenant:
            browser.force_login(world.charlie.people[asker.role])
        for name, address in _pages():
            response = browser.get(address)
            text = bodies.read(response)
            assert response.status_code < 500, name
            assert not any(secret in text for secret in world.alice.secrets), name
            is_document = name in ROUTES and ROUTES[name].kind == "document"
            if asker.tenant and "sessionid" in browser.cookies and not is_document:
                assert "no-store" in response.headers["Cache-Control"], name


def test_it_refuses_keys_on_pages_and_sessions_at_the_api(world: World) -> None:
    browser = sign_in(world.alice.people["owner"])
    assert browser.get("/v1/requests").status_code == 401
    assert browser.post("/v1/images/generations", {}, content_type="application/json").status_code == 401
    assert Client(headers=world.alice.key.headers).get("/app").status_code == 302
    both = browser.get("/v1/balance", headers=issue(world.charlie.organization).headers).json()
    assert both["available"]["amount"] == 3.219876
