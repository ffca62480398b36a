"""GET /v1/requests and what is under it: pages by cursor and filter, each bounded; receipts; stored images."""

from __future__ import annotations

import datetime as dt
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from accounts import organizations, users
from accounts.models import Organization
from core import errors, ids, query, sql
from imagesapi import history_pages
from imagesapi.models import Generation
from tests.envelope import assert_refused, error_of
from tests.imagesapi import past
from tests.imagesapi.conftest import ASKED, GENERATIONS, Caller
from tests.people import IssuedKey, issue

NOW = dt.datetime.now(dt.UTC)
MINUTE = dt.timedelta(minutes=1)


@pytest.fixture
def client(api_key: IssuedKey) -> Client:
    return Client(headers=api_key.headers)


def pages(client: Client, address: str | None, *, link: str = "next_page_url") -> Iterator[dict[str, Any]]:
    while address is not None:
        answer = client.get(address)
        assert answer.status_code == 200, answer.content
        yield answer.json()
        address = answer.json()[link]


def words(rows: list[Generation]) -> list[str]:
    return [ids.public("req", row.pk) for row in sorted(rows, key=lambda row: row.pk, reverse=True)]


def listed(client: Client, address: str) -> list[str]:
    return [item["id"] for page in pages(client, address) for item in page["data"]]


# --- pages ------------------------------------------------------------------------------------------------------------

FILTERS: dict[str, Callable[[Generation], bool]] = {
    "": lambda row: True,
    "status=rejected": lambda row: row.status == "rejected",
    "model=other": lambda row: row.model == "other",
    "user=u1": lambda row: row.user == "u1",
    "metadata[order]=7": lambda row: (row.metadata or {}).get("order") == "7",
    "metadata[order]=7&metadata[who]=me": lambda row: row.metadata == {"order": "7", "who": "me"},
    "status=completed&user=u2": lambda row: (row.status, row.user) == ("completed", "u2"),
}


@pytest.mark.parametrize("walk", [3, 10, 1000])
def test_it_pages_through_exactly_what_matches(
    client: Client, organization: Organization, monkeypatch: pytest.MonkeyPatch, walk: int
) -> None:
    """However little one page may look at, going on by links finds all of it once, there and back."""
    monkeypatch.setattr(history_pages, "WALK_MAX", walk)
    dice = random.Random(walk)
    rows = [
        past.generation(
            organization,
            at=NOW - dice.randrange(40) * MINUTE,
            status=dice.choice(["completed", "rejected"]),
            model=dice.choice(["mock-image", "other"]),
            user=dice.choice(["", "u1", "u2"]),
            metadata=dice.choice([None, {"order": "7"}, {"order": "7", "who": "me"}, {"order": 7}]),
        )
        for _ in range(30)
    ]
    for asked, matches in FILTERS.items():
        wanted = words([row for row in rows if matches(row)])
        forth = list(pages(client, f"/v1/requests?limit=4&{asked}"))
        assert [item["id"] for page in forth for item in page["data"]] == wanted, asked
        assert all(len(page["data"]) <= 4 for page in forth)
        assert forth[0]["previous_page_url"] is None
        back = list(pages(client, forth[-1]["previous_page_url"], link="previous_page_url"))
        seen = [item["id"] for page in [*back[::-1], forth[-1]] for item in page["data"]]
        assert seen == wanted, asked


@pytest.mark.parametrize("counts", [(6_000, 12_000), pytest.param((10_000, 50_000), marks=pytest.mark.prove)])
def test_it_looks_at_a_bounded_number_of_rows(
    client: Client, organization: Organization, counts: tuple[int, int]
) -> None:
    """What a page costs does not grow with the history: a rare filter answers with an empty page and a way on."""
    looked = {}
    for count in counts:
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM imagesapi_generation")
        past.many(organization, count=count, end=NOW, rare=count)
        looked[count] = _rows_looked_at(organization, history_pages._OLDER, status="cancelled")
        assert _rows_looked_at(organization, history_pages._OLDER) <= 2 * query.LIMIT_DEFAULT + 2
    assert set(looked.values()) == {2 * history_pages.WALK_MAX}
    page = client.get("/v1/requests?status=cancelled").json()
    assert page["data"] == []
    edge = Generation.objects.order_by("-pk").values_list("pk", flat=True)[history_pages.WALK_MAX - 1]
    assert page["next_page_url"] == f"/v1/requests?limit=20&status=cancelled&starting_after={ids.public('req', edge)}"


def test_it_looks_at_no_row_of_others(organization: Organization, other_organization: Organization) -> None:
    """An organization that has long been silent, and one that never spoke, among busy ones: the index of the ids alone
    looks as if it would find theirs soon, and would walk through all of the others'."""
    silent = organizations.create("Silent", owner=users.create_verified("silent@example.org"))
    month = dt.timedelta(days=30)
    for owner, moments in ((organization, (NOW, NOW - 3 * month)), (other_organization, (NOW - 2 * month,))):
        for moment in moments:
            past.many(owner, count=8_000, end=moment)
    for owner in (organization, other_organization, silent):
        for statement in (history_pages._OLDER, history_pages._NEWER):
            assert _rows_looked_at(owner, statement) <= 2 * query.LIMIT_DEFAULT + 2
            assert _rows_looked_at(owner, statement, status="cancelled") <= 2 * history_pages.WALK_MAX


def _rows_looked_at(organization: Organization, statement: str, *, status: str | None = None) -> float:
    """Of the table of requests, by the server's own account; the index of the list must be how it gets there."""
    nothing = dict.fromkeys(("key_id", "model", "user", "metadata"))
    asked = {"status": status, "organization_id": organization.pk, "limit": 20, "walk": history_pages.WALK_MAX}
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE imagesapi_generation")
        # One as small as this may be cheaper to read whole; the question is by which index a large one is walked.
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(
            f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}",
            {**nothing, **asked, "low": history_pages._FIRST, "high": history_pages._LAST},
        )
        (plan,) = cursor.fetchone()[0]
    scans = [node for node in _nodes(plan["Plan"]) if node.get("Relation Name") == "imagesapi_generation"]
    assert scans and all(node.get("Index Name") == "generation_by_organization" for node in scans), scans
    assert not any(node.get("Rows Removed by Filter") for node in scans), scans
    return sum(node["Actual Rows"] * node["Actual Loops"] for node in scans)


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from _nodes(part)


def test_it_cuts_by_time(client: Client, organization: Organization) -> None:
    """From `created_after` on, up to and without `created_before`: neighbouring spans share and miss nothing."""
    middle = NOW.replace(microsecond=0) - 5 * MINUTE
    rows = [past.generation(organization, at=middle + delta * MINUTE / 60000) for delta in (-60000, -1, 0, 1, 60000)]
    for moment in (
        str(int(middle.timestamp())),
        f"{middle:%Y-%m-%dT%H:%M:%SZ}",
        f"{middle:%Y-%m-%d %H:%M:%S}",
        f"{middle:%Y-%m-%dT%H:%M:%S}%2B00:00",
        f"{middle + dt.timedelta(hours=2):%Y-%m-%dT%H:%M:%S}+0200",
    ):
        assert listed(client, f"/v1/requests?limit=2&created_after={moment}") == words(rows[2:]), moment
        assert listed(client, f"/v1/requests?created_before={moment}") == words(rows[:2]), moment
    shown = client.get("/v1/requests").json()["data"]
    assert listed(client, f"/v1/requests?created_after={shown[2]['created_at']}")[-1] == shown[2]["id"]
    tomorrow = f"{NOW + dt.timedelta(days=1):%Y-%m-%d}"
    assert listed(client, f"/v1/requests?created_after={tomorrow}") == []
    assert len(listed(client, f"/v1/requests?created_before={tomorrow}")) == 5


def test_it_finds_by_key(client: Client, organization: Organization, other_api_key: IssuedKey) -> None:
    key = issue(organization).row
    mine, _ = past.generation(organization, key=key), past.generation(organization)
    assert listed(client, f"/v1/requests?key_id={key.public_id}") == words([mine])
    for foreign_or_missing in (other_api_key.row.public_id, "000000000000"):
        answer = client.get(f"/v1/requests?key_id={foreign_or_missing}")
        assert_refused(answer, 400, "invalid_value", param="key_id", says="your keys")


def test_it_takes_every_character_as_itself(client: Client, organization: Organization) -> None:
    """No wildcard, no pattern, no quote means anything."""
    past.generation(organization, user="alice", metadata={"a": "b"})
    for text in ("%25", "_____", "al%25", "alice'--", "*", ".*", '"', "\\", "alic\u0065\u0301"):
        assert listed(client, f"/v1/requests?user={text}") == []
        assert listed(client, f"/v1/requests?model={text}") == []
        assert listed(client, f"/v1/requests?metadata[a]={text}") == []
        assert listed(client, f"/v1/requests?metadata[{text}]=b") == []
    odd = past.generation(organization, user="50%_'\"\\", metadata={"%": "_", "k'": '"\\'})
    assert listed(client, "/v1/requests?user=50%25_'%22%5C") == words([odd])
    assert listed(client, "/v1/requests?metadata[%25]=_&metadata[k']=%22%5C") == words([odd])


def test_it_sums_up(
    client: Client, organization: Organization, other_organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    for cost_nanos in (10_880_000, 1_000_000_000):
        past.generation(organization, cost_nanos=cost_nanos)
    past.generation(organization, status="rejected", model="other")
    past.generation(other_organization, cost_nanos=5)
    page = client.get("/v1/requests?limit=1&summary=true").json()
    assert len(page["data"]) == 1
    assert page["summary"] == {
        "count": 3,
        "cost": 1.01088,
        "currency": "usd",
        "by_status": {"completed": 2, "rejected": 1},
        "by_model": {"mock-image": {"count": 2, "cost": 1.01088}, "other": {"count": 1, "cost": 0.0}},
        "complete": True,
    }
    assert "summary" not in client.get(page["next_page_url"]).json()
    assert client.get("/v1/requests?summary=1&status=rejected").json()["summary"]["count"] == 1
    monkeypatch.setattr(history_pages, "SUMMARY_MAX", 2)
    partial = client.get("/v1/requests?summary=true").json()["summary"]
    assert (partial["count"], partial["complete"]) == (2, False)


@pytest.mark.parametrize(
    ("asked", "code", "param"),
    [
        ("limit=0", "invalid_value", "limit"),
        ("limit=101", "invalid_value", "limit"),
        ("limit=ten", "invalid_value", "limit"),
        ("limit=٣", "invalid_value", "limit"),
        ("limit=5&limit=6", "invalid_value", "limit"),
        ("starting_after=x", "invalid_value", "starting_after"),
        ("starting_after=req_", "invalid_value", "starting_after"),
        ("ending_before=img_00000000000000000000000000", "invalid_value", "ending_before"),
        (
            "starting_after=req_00000000000000000000000000&ending_before=req_00000000000000000000000000",
            "invalid_value",
            "ending_before",
        ),
        ("created_after=soon", "invalid_value", "created_after"),
        ("created_after=-5", "invalid_value", "created_after"),
        ("created_after=1e9", "invalid_value", "created_after"),
        ("created_after=2026-13-01", "invalid_value", "created_after"),
        ("created_before=2026-01-01T25:00:00", "invalid_value", "created_before"),
        ("created_before=2026-01-01T10:00:00%2B25:00", "invalid_value", "created_before"),
        ("created_after=20&created_before=20", "invalid_value", "created_before"),
        ("status=done", "invalid_value", "status"),
        ("status=", "invalid_value", "status"),
        ("status__in=completed", "unknown_parameter", "status__in"),
        ("_connector=OR", "unknown_parameter", "_connector"),
        ("organization=1", "unknown_parameter", "organization"),
        ("order_by=-cost_nanos", "unknown_parameter", "order_by"),
        ("metadata[]=x", "unknown_parameter", "metadata[]"),
        ("metadata[key]", "invalid_value", "metadata[key]"),
        ("metadata=x", "unknown_parameter", "metadata"),
        ("key_id=short", "invalid_value", "key_id"),
        ("key_id=%00%00%00%00%00%00%00%00%00%00%00%00", "invalid_value", "key_id"),
        ("user=a%00b", "invalid_value", "user"),
        (f"user={'x' * 513}", "invalid_value", "user"),
        ("model=", "invalid_value", "model"),
        ("summary=yes", "invalid_value", "summary"),
        ("&".join(f"metadata[k{n}]=v" for n in range(17)), "invalid_value", "metadata"),
    ],
)
def test_it_says_what_it_takes(client: Client, asked: str, code: str, param: str) -> None:
    assert_refused(client.get(f"/v1/requests?{asked}"), 400, code, param=param)


@pytest.mark.parametrize(
    "asked",
    ["created_after=0", "created_before=99999999999", "created_after=9999-12-31T23:59:59-12:00", "metadata[%ff]=%ff",
     "starting_after=req_7zzzzzzzzzzzzzzzzzzzzzzzzz", "ending_before=req_7zzzzzzzzzzzzzzzzzzzzzzzzz",
     "starting_after=req_00000000000000000000000000", "ending_before=req_00000000000000000000000000"],
)  # fmt: skip
def test_it_survives_the_edges(client: Client, organization: Organization, asked: str) -> None:
    past.generation(organization)
    answer = client.get(f"/v1/requests?{asked}")
    assert answer.status_code == 200, answer.content


def test_it_cuts_a_slow_question_off(organization: Organization) -> None:
    began_s = time.monotonic()
    refused = pytest.raises(errors.Overloaded, match="longer than 1 seconds")
    with refused, sql.reading(timeout_s=1), connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(20)")
    assert time.monotonic() - began_s < 5
    with connection.cursor() as cursor:
        cursor.execute("SHOW statement_timeout")
        assert cursor.fetchone() == ("0",)
    with sql.reading(), connection.cursor() as cursor:
        cursor.execute("SHOW statement_timeout")
        assert cursor.fetchone() == ("2s",)


# --- one request ------------------------------------------------------------------------------------------------------


def test_it_shows_a_receipt_of_a_charge(caller: Caller) -> None:
    word = caller.ask().json()["id"]
    receipt = caller.client.get(f"/v1/requests/{word}/receipt").json()
    assert (receipt["object"], receipt["request_id"], receipt["status"]) == ("receipt", word, "completed")
    assert receipt["charged"] == caller.client.get(f"/v1/requests/{word}").json()["receipt"]["charged"] != "0.00"
    assert receipt["items"] and receipt["explanation"]


@pytest.mark.parametrize("status", ["rejected", "upstream_failure", "cancelled"])
def test_it_says_that_nothing_was_charged_and_why(client: Client, organization: Organization, status: str) -> None:
    row = past.generation(organization, status=status, error_code="some_code", error_message="a red fox is refused")
    receipt = client.get(f"/v1/requests/{row}/receipt").json()
    assert (receipt["charged"], receipt["items"], receipt["status"]) == ("0.00", [], status)
    assert receipt["explanation"].startswith("Nothing was charged: ")
    assert "some_code" in receipt["explanation"] and "fox" not in str(receipt)


@pytest.mark.parametrize("status", past.OPEN)
def test_it_has_no_receipt_before_the_end(client: Client, organization: Organization, status: str) -> None:
    row = past.generation(organization, status=status)
    answer = client.get(f"/v1/requests/{row}/receipt")
    assert_refused(answer, 409, "not_finished", says=status)
    assert 1 <= int(answer.headers["Retry-After"]) < 60


def test_it_shows_when_a_request_came_in(client: Client, organization: Organization) -> None:
    at = NOW - 3 * MINUTE
    row = past.generation(organization, at=at, created_at=at + MINUTE)
    assert client.get(f"/v1/requests/{row}").json()["created_at"] == int(at.timestamp())


# --- one image --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("root", ["/openai/v1", "/v1"])
def test_it_shows_and_deletes_a_stored_image(caller: Caller, root: str) -> None:
    made = caller.send({**ASKED, "model": "mock-image", "size": "16x16"}, path=GENERATIONS).json()
    (word,) = (image["id"] for image in caller.client.get(f"/v1/requests/{made['id']}").json()["images"])
    facts = caller.client.get(f"{root}/images/{word}").json()
    assert facts["object"] == "image" and facts["id"] == word and facts["request_id"] == made["id"]
    assert (facts["width"], facts["height"], facts["content_type"]) == (16, 16, "image/png")
    assert abs(facts["created_at"] - timezone.now().timestamp()) < 60
    link = facts["url"].partition("127.0.0.1:8000")[2]
    assert len(b"".join(Client().get(link).streaming_content)) == facts["size_bytes"]  # type: ignore[attr-defined]

    for _ in range(2):
        assert caller.client.delete(f"{root}/images/{word}").json() == {"id": word, "object": "image", "deleted": True}
    assert_refused(caller.client.get(f"{root}/images/{word}"), 404, "not_found")
    assert_refused(caller.client.get(f"{root}/images/{word}/content"), 404, "not_found")
    assert_refused(Client().get(link), 403, "link_expired")
    detail = caller.client.get(f"/v1/requests/{made['id']}").json()
    assert (detail["images"], detail["status"]) == ([], "completed")


@pytest.mark.parametrize("word", ["x", "img_", "img_7zzzzzzzzzzzzzzzzzzzzzzzzz", "req_00000000000000000000000000"])
def test_it_knows_no_other_image(client: Client, word: str) -> None:
    for method in (client.get, client.delete):
        assert error_of(method(f"/v1/images/{word}"))["code"] == "not_found"


@pytest.mark.parametrize("form", ["url", "b64_json", None])
@pytest.mark.parametrize("model", ["gpt-image-1", "fal/gpt-image-1"])
def test_it_tells_how_large_question_and_answer_were(caller: Caller, form: str | None, model: str) -> None:
    answer = caller.ask(model=model, response_format=form, n=2)
    (item,) = caller.client.get("/v1/requests").json()["data"]
    assert item["response_size_bytes"] == len(answer.content)
    assert item["request_size_bytes"] == len(answer.wsgi_request.body)
