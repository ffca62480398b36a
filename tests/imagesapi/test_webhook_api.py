"""`/v1/webhooks` on the wire: made, shown, changed, ended; the secret once, and nothing of anybody else's."""

from __future__ import annotations

from typing import Any

import pytest
import structlog
from django.db import connection
from django.test import Client
from django.utils import timezone
from standardwebhooks import Webhook

from accounts import keys, scopes
from accounts.models import Organization
from core import errors, ids
from imagesapi import webhook_sending, webhooks
from imagesapi.models import Generation
from imagesapi.webhook_models import WebhookDelivery, WebhookEndpoint, WebhookEvent
from tests.envelope import assert_refused, error_of
from tests.people import IssuedKey
from tests.sites import Site, reply

URL = "https://receiver.example/hooks/pixelpar?token=1"


class Program:
    """A customer's program with a key that may manage webhooks."""

    def __init__(self, organization: Organization) -> None:
        key = IssuedKey(*keys.create(organization, name="webhooks", scopes=[scopes.WEBHOOKS]))
        self.client = Client(raise_request_exception=False, headers=key.headers)

    def ask(self, method: str, path: str = "", body: Any = None, **more: Any) -> Any:
        if body is not None:
            more |= {"data": body, "content_type": more.get("content_type", "application/json")}
        return getattr(self.client, method)(f"/v1/webhooks{path}", **more)

    def make(self, **fields: Any) -> dict[str, Any]:
        answer = self.ask("post", "", {"url": URL, **fields})
        assert answer.status_code == 201, answer.content
        document: dict[str, Any] = answer.json()
        return document


@pytest.fixture
def program(organization: Organization) -> Program:
    return Program(organization)


def told(organization: Organization, count: int = 1) -> list[WebhookDelivery]:
    """Deliveries, the newest first, as the lists have them."""
    for _ in range(count):
        row = Generation.objects.create(
            organization=organization,
            status="cancelled",
            endpoint="images/generations",
            model="mock-image",
            asked={},
            is_async=True,
            finished_at=timezone.now(),
        )
        webhooks.announce(row.pk)
    return list(WebhookDelivery.objects.filter(organization=organization).order_by("-pk"))


def test_it_makes_shows_changes_and_deletes(program: Program) -> None:
    made = program.make(description="orders", events=["request.failed", "request.completed", "request.failed"])
    secret = made.pop("secret")
    assert secret.startswith("whsec_")
    Webhook(secret)
    assert made.pop("created_at") == pytest.approx(timezone.now().timestamp(), abs=60)
    path = f"/{made['id']}"
    assert made == {
        "id": made["id"],
        "object": "webhook",
        "url": URL,
        "events": ["request.completed", "request.failed"],
        "description": "orders",
        "enabled": True,
        "disabled_reason": None,
    }
    assert made["id"].startswith("whk_")
    changed = program.ask("patch", path, {"enabled": False, "url": f"{URL}2", "events": ["request.cancelled"]}).json()
    assert (changed["enabled"], changed["url"], changed["events"]) == (False, f"{URL}2", ["request.cancelled"])
    assert changed["description"] == "orders"
    assert program.ask("get", path).json() == changed
    assert program.ask("patch", path, {}).json() == changed
    assert program.ask("delete", path).json() == {"id": made["id"], "object": "webhook", "deleted": True}
    assert error_of(program.ask("get", path))["code"] == "not_found"
    assert program.ask("get").json() == {"object": "list", "data": []}


def test_it_wants_every_event_unless_told_otherwise(program: Program) -> None:
    assert program.make()["events"] == WebhookEvent.values


def test_it_lists_the_newest_first(program: Program) -> None:
    made = [program.make(description=str(number))["id"] for number in range(3)]
    assert [item["id"] for item in program.ask("get").json()["data"]] == made[::-1]


def test_it_shows_a_secret_once(program: Program, organization: Organization) -> None:
    with structlog.testing.capture_logs() as logged:
        made = program.make()
        path = f"/{made['id']}"
        rotated = program.ask("post", f"{path}/secret").json()
        told(organization)
        texts = [
            program.ask("get").content,
            program.ask("get", path).content,
            program.ask("patch", path, {"description": "x"}).content,
            program.ask("get", f"{path}/deliveries").content,
        ]
    assert made["secret"] != rotated["secret"]
    row = WebhookEndpoint.objects.get()
    texts += [repr(logged).encode(), bytes(row.sealed), repr(vars(row)).encode()]
    for secret in (made["secret"], rotated["secret"]):
        assert not any(secret.removeprefix("whsec_").encode() in text for text in texts)
    with connection.cursor() as cursor:
        cursor.execute("SELECT string_agg(args::text, ' ') FROM procrastinate_jobs")
        assert "whsec" not in cursor.fetchone()[0]


def test_it_binds_a_secret_to_its_own_row(program: Program, organization: Organization, receiver: Site) -> None:
    """Copied into another row, by whoever can write to the database, it opens nothing."""
    program.make(url=receiver.url)
    program.make()
    mine, other = WebhookEndpoint.objects.order_by("pk")
    WebhookEndpoint.objects.filter(pk=mine.pk).update(sealed=other.sealed)
    webhooks.change(other, enabled=False)
    (delivery,) = told(organization)
    webhook_sending.deliver(delivery.pk)
    assert receiver.seen == []


@pytest.mark.parametrize(
    ("body", "param", "code", "says"),
    [
        ({}, "url", "missing_required_parameter", "required"),
        ({"url": None}, "url", "missing_required_parameter", "required"),
        ({"url": 7}, "url", "invalid_type", "string"),
        ({"url": ""}, "url", "invalid_value", "https://host/path"),
        ({"url": "http://receiver.example/"}, "url", "invalid_value", "not https"),
        ({"url": "https://receiver.example:8443/"}, "url", "invalid_value", "port"),
        ({"url": "https://user:pw@receiver.example/"}, "url", "invalid_value", "password"),
        ({"url": "https://localhost/"}, "url", "invalid_value", "full name"),
        ({"url": "https://127.0.0.1/"}, "url", "invalid_value", "public internet"),
        ({"url": "https://[::ffff:127.0.0.1]/"}, "url", "invalid_value", "public internet"),
        ({"url": "https://169.254.169.254/latest"}, "url", "invalid_value", "public internet"),
        ({"url": "https://2130706433/"}, "url", "invalid_value", "ends in a number"),
        ({"url": f"{URL}{'a' * 2_048}"}, "url", "string_above_max_length", "2048"),
        ({"url": "https://receiver.example/\x00"}, None, "invalid_value", "NUL"),
        ({"url": URL, "events": "request.completed"}, "events", "invalid_type", "array"),
        ({"url": URL, "events": []}, "events", "invalid_value", "request.cancelled"),
        ({"url": URL, "events": ["request.done"]}, "events", "invalid_value", "request.cancelled"),
        ({"url": URL, "events": [["request.completed"]]}, "events", "invalid_value", "request.completed"),
        ({"url": URL, "description": "x" * 201}, "description", "string_above_max_length", "200"),
        ({"url": URL, "description": {}}, "description", "invalid_type", "string"),
        ({"url": URL, "enabled": "yes"}, "enabled", "invalid_type", "true or false"),
        ({"url": URL, "secret": "whsec_mine"}, "secret", "unknown_parameter", "url, events"),
        ({"url": URL, "organization": "1"}, "organization", "unknown_parameter", "url, events"),
    ],
)
def test_it_refuses_bad_input(program: Program, body: dict[str, Any], param: str, code: str, says: str) -> None:
    answer = program.ask("post", "", body)
    error = error_of(answer)
    assert (answer.status_code, error["code"]) == (400, code), error
    assert says in error["message"]
    if param:
        assert error["param"] == param
    assert not WebhookEndpoint.objects.exists()


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff", b'{"url": "\\ud800"}'])
def test_it_refuses_what_is_no_json_object(program: Program, body: bytes) -> None:
    assert error_of(program.ask("post", "", body))["code"] == "invalid_json"
    path = f"/{program.make()['id']}"
    assert error_of(program.ask("patch", path, body))["code"] == "invalid_json"


def test_it_takes_json_only(program: Program) -> None:
    answer = program.ask("post", "", "url=x", content_type="application/x-www-form-urlencoded")
    assert (answer.status_code, error_of(answer)["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize("method", ["get", "post"])
def test_it_refuses_a_query_that_it_would_not_read(program: Program, method: str) -> None:
    answer = program.ask(method, "?enabled=true", {"url": URL} if method == "post" else None)
    assert_refused(answer, 400, "unknown_parameter", param="enabled", says="takes none")
    assert not WebhookEndpoint.objects.exists()


def test_it_refuses_to_move_a_webhook_inside(program: Program) -> None:
    path = f"/{program.make()['id']}"
    assert error_of(program.ask("patch", path, {"url": "https://10.0.0.1/"}))["param"] == "url"
    assert program.ask("get", path).json()["url"] == URL


def test_it_takes_twenty_and_no_more(program: Program) -> None:
    made = [program.make()["id"] for _ in range(20)]
    answer = program.ask("post", "", {"url": URL})
    assert (answer.status_code, error_of(answer)["code"]) == (400, "invalid_value")
    assert "at most 20" in error_of(answer)["message"]
    program.ask("delete", f"/{made[0]}")
    program.make()


def test_it_asks_for_the_scope(api_key: IssuedKey) -> None:
    answer = Client(headers=api_key.headers).get("/v1/webhooks")
    assert answer.status_code == 403
    assert Client().get("/v1/webhooks").status_code == 401


def test_it_knows_nothing_of_others(
    program: Program, organization: Organization, other_organization: Organization
) -> None:
    other = Program(other_organization)
    theirs, mine = f"/{other.make()['id']}", f"/{program.make()['id']}"
    (delivery,) = told(other_organization)
    word = ids.public("whd", delivery.pk)
    missing = ids.public("whk", ids.new())
    for method, path, body in (
        ("get", "", None),
        ("patch", "", {"enabled": False}),
        ("delete", "", None),
        ("post", "/secret", {}),
        ("get", "/deliveries", None),
        ("post", f"/deliveries/{word}/replay", {}),
    ):
        foreign, none = program.ask(method, theirs + path, body), program.ask(method, f"/{missing}{path}", body)
        assert foreign.status_code == none.status_code == 404, (method, path)
        assert error_of(foreign)["message"].replace(theirs[1:], missing) == error_of(none)["message"]
    assert program.ask("post", f"{mine}/deliveries/{word}/replay").status_code == 404
    for junk in ("whk_", "nonsense", "whk_" + "z" * 26, "req_" + theirs[5:], "%00"):
        assert program.ask("get", f"/{junk}").status_code == 404
    assert WebhookEndpoint.objects.get(organization=other_organization).enabled


def test_it_pages_through_deliveries(program: Program, organization: Organization) -> None:
    path = f"/{program.make()['id']}/deliveries"
    rows = told(organization, 5)
    first = program.ask("get", f"{path}?limit=2").json()
    assert [item["id"] for item in first["data"]] == [ids.public("whd", row.pk) for row in rows[:2]]
    assert first["previous_page_url"] is None
    second = program.client.get(first["next_page_url"]).json()
    assert [item["id"] for item in second["data"]] == [ids.public("whd", row.pk) for row in rows[2:4]]
    assert program.client.get(second["previous_page_url"]).json()["data"] == first["data"]
    for query in ("limit=0", "limit=101", "starting_after=req_1", "starting_after=x&ending_before=y", "page=2"):
        assert program.ask("get", f"{path}?{query}").status_code == 400, query


def test_it_shows_a_delivery_and_replays_it(program: Program, organization: Organization, receiver: Site) -> None:
    path = f"/{program.make(url=receiver.url)['id']}/deliveries"
    receiver.answer = reply(410)
    (row,) = told(organization)
    webhook_sending.deliver(row.pk)
    (shown,) = program.ask("get", path).json()["data"]
    assert shown["created_at"] == pytest.approx(timezone.now().timestamp(), abs=60)
    assert shown["next_try_at"] >= shown["created_at"] + 5
    assert {name: value for name, value in shown.items() if not name.endswith(("_at", "_ms"))} == {
        "id": ids.public("whd", row.pk),
        "object": "webhook_delivery",
        "event_id": ids.public("evt", row.event_id),
        "event_type": "request.cancelled",
        "request_id": ids.public("req", row.generation_id),
        "status": "pending",
        "tries": 1,
        "last_status": 410,
        "last_error": "The receiver answered 410.",
    }
    receiver.answer = reply(200)
    answer = program.ask("post", f"{path}/{shown['id']}/replay")
    assert (answer.status_code, answer.json()["status"]) == (200, "pending")
    webhook_sending.deliver(row.pk)
    (shown,) = program.ask("get", path).json()["data"]
    assert (shown["status"], shown["last_status"], shown["last_error"], shown["next_try_at"]) == (
        "delivered",
        200,
        None,
        None,
    )
    assert shown["delivered_at"] >= shown["created_at"]


def test_it_ends_what_is_on_its_way_when_disabled(program: Program, organization: Organization) -> None:
    path = f"/{program.make()['id']}"
    (row,) = told(organization)
    program.ask("patch", path, {"enabled": False})
    row.refresh_from_db()
    assert (row.status, row.last_error) == ("failed", "The webhook was disabled.")
    answer = program.ask("post", f"{path}/deliveries/{ids.public('whd', row.pk)}/replay")
    assert (answer.status_code, "enabled" in error_of(answer)["message"]) == (400, True)
    program.ask("patch", path, {"enabled": True})
    assert program.ask("post", f"{path}/deliveries/{ids.public('whd', row.pk)}/replay").status_code == 200


def test_it_says_so_when_a_webhook_is_deleted_meanwhile(organization: Organization, program: Program) -> None:
    program.make()
    endpoint = WebhookEndpoint.objects.get()
    (row,) = told(organization)
    row = WebhookDelivery.objects.select_related("endpoint").get(pk=row.pk)
    webhooks.delete(endpoint)
    for verb in (
        lambda: webhooks.change(endpoint, enabled=False),
        lambda: webhooks.rotate_secret(endpoint),
        lambda: webhooks.replay(row),
    ):
        with pytest.raises(errors.NotFound):
            verb()
    webhook_sending.deliver(row.pk)
    assert not WebhookDelivery.objects.exists()
