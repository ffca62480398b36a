"""Purge and cleaning: what was sent and made is gone for good, what it cost stays, and no file is left or lost."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import connection, transaction
from django.test import Client

from accounts.models import Organization
from billing.models import Transfer
from core import ids
from imagesapi import cleaning, results, store
from imagesapi.models import Attempt, Generation, Image
from imagesapi.tasks import clean_store
from tests import money
from tests.envelope import assert_refused
from tests.imagesapi import past
from tests.imagesapi.conftest import Caller
from tests.people import IssuedKey

SECRET = "a very secret lighthouse"
SENT: dict[str, Any] = {
    "model": "mock-image",
    "size": "16x16",
    "prompt": SECRET,
    "user": "secret-user",
    "metadata": {"secret-key": "secret-value"},
}


@pytest.fixture
def client(api_key: IssuedKey) -> Client:
    return Client(headers=api_key.headers)


def everything_of(organization: Organization) -> str:
    """Every row that could hold what was sent, as text."""
    parts = []
    with connection.cursor() as cursor:
        for table in ("imagesapi_generation", "imagesapi_attempt", "imagesapi_image"):
            cursor.execute(f"SELECT string_agg(t::text, '\n') FROM {table} t")
            parts.append(cursor.fetchone()[0] or "")
    return "\n".join(parts)


def files() -> list[Path]:
    return sorted(path for path in settings.STORE_DIR.glob("*/*.*") if path.parent.name != "results" and path.is_file())


def make_old(path: Path, *, seconds: int = cleaning.ORPHAN_AFTER_S + 60) -> None:
    then_s = time.time() - seconds
    os.utime(path, (then_s, then_s))


def test_it_erases_what_was_sent_and_keeps_what_it_cost(
    caller: Caller, organization: Organization, django_capture_on_commit_callbacks: Any
) -> None:
    made = caller.ask(**SENT).json()
    before = caller.client.get(f"/v1/requests/{made['id']}").json()
    Generation.objects.update(
        inputs=[{"sha256": "00", "secret": SECRET}],
        answer=f'{{"revised": "{SECRET}"}}',
        adjustments=[{"parameter": "size", "asked": SECRET, "used": SECRET, "why": "no such size"}],
        error_message=SECRET,
    )
    Image.objects.update(revised_prompt=SECRET)
    Attempt.objects.update(job={"secret": SECRET})
    booked = list(Transfer.objects.values_list())
    assert "secret" in everything_of(organization) and len(files()) == 1

    with django_capture_on_commit_callbacks(execute=True):
        answer = caller.client.delete(f"/v1/requests/{made['id']}/payloads")
    assert answer.json() == {
        "id": made["id"],
        "object": "request",
        "purged": True,
        "already_purged": False,
        "media_deleted": 1,
    }
    assert "secret" not in everything_of(organization)
    assert files() == []
    after = caller.client.get(f"/v1/requests/{made['id']}").json()
    kept = ("id", "created_at", "model", "status", "provider", "cost", "duration_ms", "attempts", "receipt")
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert (after["asked"], after["user"], after["metadata"], after["images"]) == ({}, None, {}, [])
    assert after["adjustments"] == [{"parameter": "size", "why": "no such size"}]
    assert abs(after["purged_at"] - time.time()) < 60
    assert list(Transfer.objects.values_list()) == booked
    assert caller.client.get(f"/v1/requests/{made['id']}/receipt").json()["charged"]
    link = made["data"][0]["url"].partition("127.0.0.1:8000")[2]
    assert_refused(Client().get(link), 403, "link_expired")


def test_it_can_be_told_again_and_again(caller: Caller, django_capture_on_commit_callbacks: Any) -> None:
    word = caller.ask(**SENT).json()["id"]
    told = []
    with django_capture_on_commit_callbacks(execute=True):
        for media in ("?media=false", "?media=0", "", "?media=true"):
            answer = caller.client.delete(f"/v1/requests/{word}/payloads{media}").json()
            told.append((answer["purged"], answer["already_purged"], answer["media_deleted"]))
            if media == "?media=0":
                assert len(files()) == 1 and len(caller.client.get(f"/v1/requests/{word}").json()["images"]) == 1
    assert told == [(True, False, 0), (True, True, 0), (True, True, 1), (True, True, 0)]
    assert files() == []


def test_it_keeps_the_idempotency_key(client: Client, organization: Organization) -> None:
    """T-11: one charge never buys a second picture, whatever became of the first."""
    row = past.generation(organization, idempotency_key="order-7", body_hash=b"x" * 16)
    assert client.delete(f"/v1/requests/{row}/payloads").status_code == 200
    row.refresh_from_db()
    assert (row.idempotency_key, bytes(row.body_hash or b"")) == ("order-7", b"x" * 16)


@pytest.mark.parametrize("status", past.OPEN)
def test_it_refuses_while_the_request_is_worked_on(client: Client, organization: Organization, status: str) -> None:
    row = past.generation(organization, status=status)
    assert_refused(client.delete(f"/v1/requests/{row}/payloads"), 409, "not_finished")
    row.refresh_from_db()
    assert row.asked == {"prompt": "a red fox"} and row.purged_at is None


@pytest.mark.parametrize("status", ["rejected", "upstream_failure", "cancelled"])
def test_it_purges_what_failed(client: Client, organization: Organization, status: str) -> None:
    row = past.generation(organization, status=status, error_code="moderation_blocked", error_message="no red fox")
    assert client.delete(f"/v1/requests/{row}/payloads").json()["media_deleted"] == 0
    assert "fox" not in everything_of(organization)
    assert client.get(f"/v1/requests/{row}").json()["error_code"] == "moderation_blocked"


def test_it_leaves_the_job_of_an_attempt_that_is_still_unknown(client: Client, organization: Organization) -> None:
    row = past.generation(organization, status="upstream_failure")
    for number, status in ((1, "failed"), (2, "unknown")):
        Attempt.objects.create(
            generation=row, number=number, offer_id=1, provider="fal", executed_model="fal/x", status=status,
            worst_case_nanos=1, finished_at=row.finished_at, job={"number": number},
        )  # fmt: skip
    client.delete(f"/v1/requests/{row}/payloads")
    assert list(row.attempts.order_by("number").values_list("job", flat=True)) == [None, {"number": 2}]


@pytest.mark.parametrize(
    ("asked", "code", "param"),
    [
        ("?media=no", "invalid_value", "media"),
        ("?medai=false", "unknown_parameter", "medai"),
        ("?media=", "invalid_value", "media"),
    ],
)
def test_a_slip_of_the_pen_purges_nothing(
    client: Client, organization: Organization, asked: str, code: str, param: str
) -> None:
    row = past.generation(organization)
    assert_refused(client.delete(f"/v1/requests/{row}/payloads{asked}"), 400, code, param=param)
    row.refresh_from_db()
    assert row.purged_at is None


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_crash_after_the_commit_leaves_the_files_to_the_sweep(client: Client, organization: Organization) -> None:
    row = past.generation(organization)
    images = [past.image(row, position=n, data=b"picture") for n in range(3)]
    client.delete(f"/v1/requests/{row}/payloads")  # the test's transaction never commits: as if cut short there
    assert len(files()) == 3
    assert cleaning.sweep(turn=0) == (3, 0)
    assert files() == []
    assert set(Image.objects.values_list("path", flat=True)) == {""}
    assert Image.objects.count() == len(images)
    assert cleaning.sweep(turn=0) == (0, 0)


def test_a_purge_that_is_rolled_back_deletes_no_file(committed: None) -> None:
    organization, key = money.customer()
    row = past.generation(organization)
    past.image(row, data=b"picture")
    caller = Client(headers=key.headers)
    with transaction.atomic():
        assert caller.delete(f"/v1/requests/{row}/payloads").status_code == 200
        transaction.set_rollback(True)
    assert len(files()) == 1
    assert caller.delete(f"/v1/requests/{row}/payloads").json()["media_deleted"] == 1
    assert files() == []


def test_a_file_that_cannot_be_removed_waits_and_keeps_no_other(
    client: Client, organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = past.generation(organization)
    stuck, other = (past.image(row, position=n, data=b"picture") for n in range(2))
    delete = store.delete

    def refuse(path: str) -> None:
        if path == stuck.path:
            raise PermissionError(path)
        delete(path)

    with monkeypatch.context() as patch:
        patch.setattr(store, "delete", refuse)
        client.delete(f"/v1/requests/{row}/payloads")
        cleaning.sweep(turn=0)
    assert [path.name for path in files()] == [stuck.path.rpartition("/")[2]]
    assert not (settings.STORE_DIR / other.path).exists()
    assert cleaning.sweep(turn=0) == (1, 0)


def test_it_removes_orphans_older_than_a_day_and_nothing_else(organization: Organization) -> None:
    row = past.generation(organization)
    known = settings.STORE_DIR / past.image(row, data=b"known").path
    turn = int(known.parent.name, 16)
    orphan, young = (known.with_name(f"{ids.new().hex}.png") for _ in range(2))
    foreign = known.with_name("README.txt")
    elsewhere = settings.STORE_DIR / f"{turn + 1:07x}" / orphan.name
    early = settings.STORE_DIR / f"{turn % 256:02x}" / f"{ids.new().hex}.png"
    for path in (orphan, young, foreign, elsewhere, early):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"file")
    for path in (known, orphan, foreign, elsewhere, early):
        make_old(path)
    assert cleaning.sweep(turn=turn) == (0, 2)
    assert sorted(path.name for path in files()) == sorted(path.name for path in (known, young, foreign, elsewhere))
    assert cleaning.sweep(turn=turn) == (0, 0)
    assert cleaning.sweep(turn=turn + 1) == (0, 1)


def test_it_removes_a_folder_that_has_been_empty_for_a_day(db: None) -> None:
    left, filled, new, foreign = (settings.STORE_DIR / name for name in ("1234500", "1234600", "1234700", "other"))
    for folder in (left, filled, new, foreign):
        folder.mkdir(parents=True)
    (filled / "README.txt").write_bytes(b"file")
    for folder in (left, filled, foreign):
        make_old(folder)
    assert cleaning.sweep(turn=0) == (0, 0)
    assert [folder.is_dir() for folder in (left, filled, new, foreign)] == [False, True, True, True]


def test_pictures_made_together_lie_together(db: None) -> None:
    first, second = (store.save(ids.new(), b"picture", extension="png") for _ in range(2))
    assert int(second.partition("/")[0], 16) - int(first.partition("/")[0], 16) in (0, 1)


def test_it_keeps_what_is_not_settled_yet(organization: Organization) -> None:
    """Inputs of a request that waits, and pictures whose settlement a crash left behind: however old."""
    names = [f"ab/{ids.new().hex[:-2]}ab.png" for _ in range(3)]
    for name in names:
        path = settings.STORE_DIR / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"file")
        make_old(path)
    past.generation(organization, status="pending", inputs=[{"path": names[0], "width_px": 1}])
    kept_id = ids.new()
    results.keep(kept_id, {"images": [{"path": names[1]}]})
    try:
        assert cleaning.sweep(turn=0xAB) == (0, 1)
        assert [path.name for path in files()] == sorted(name[3:] for name in names[:2])
    finally:
        results.drop(kept_id)


def test_a_purge_takes_the_inputs_along(
    client: Client, organization: Organization, django_capture_on_commit_callbacks: Any
) -> None:
    name = store.save(ids.new(), b"input", extension="png")
    row = past.generation(organization, inputs=[{"path": name}])
    with django_capture_on_commit_callbacks(execute=True):
        client.delete(f"/v1/requests/{row}/payloads")
    assert files() == []


def test_the_worker_cleans_every_folder_within_a_day(db: None) -> None:
    rounds = {timestamp // cleaning.EVERY_S % cleaning.TURNS for timestamp in range(0, 24 * 60 * 60, cleaning.EVERY_S)}
    assert rounds == set(range(256))
    clean_store(timestamp=1_800_000_000)


def test_nobody_purges_what_is_anothers(other_api_key: IssuedKey, organization: Organization) -> None:
    row = past.generation(organization)
    image = past.image(row)
    stranger = Client(headers=other_api_key.headers)
    assert_refused(stranger.delete(f"/v1/requests/{row}/payloads"), 404, "not_found")
    assert_refused(stranger.delete(f"/v1/images/{image}"), 404, "not_found")
    row.refresh_from_db()
    image.refresh_from_db()
    assert (row.purged_at, image.deleted_at) == (None, None)
