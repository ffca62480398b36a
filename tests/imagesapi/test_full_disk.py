"""T-27: a full disk under the database or the store is a 503, charges nothing, and leaves nothing behind."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
import requests
from django.conf import settings
from django.test import Client

from billing import ledger
from core import ids, sql
from imagesapi import cleaning, jobs, recovery, results, store
from imagesapi.models import Attempt, Generation, Image
from tests import calls, money
from tests.fakes.providers import ProviderFake
from tests.imagesapi import full_disks, steps
from tests.imagesapi.canvas import data_uri, picture
from tests.imagesapi.conftest import Caller
from tests.imagesapi.full_disks import FullStore, refused
from tests.imagesapi.steps import FAILS, QUEUED
from tests.servers import LiveServer
from tests.victims import Ending, Victims

SETTLING = [full_disks.SETTLE, full_disks.IMAGE, full_disks.TRANSFER]
# The write that fails, by what happens upstream and what is asked, so that the request comes to it.
HOLDING: list[Any] = [full_disks.HOLD, full_disks.GENERATION, full_disks.FIRST_ATTEMPT]
SENDING: list[Any] = [
    pytest.param(full_disks.REMEMBER, (), QUEUED, id="remember"),
    pytest.param(full_disks.NEXT_ATTEMPT, (FAILS,), {}, id="next attempt"),
]


def told(ending: Ending) -> tuple[int, str, str | None]:
    """The answer's status, code and x-should-retry; always OpenAI's shape, always with a Retry-After."""
    report = ending.report
    error = report["body"]["error"]
    assert set(error) >= {"message", "type", "param", "code"}
    assert 1 <= int(report["headers"]["Retry-After"]) < 60
    return report["status"], error["code"], report["headers"].get("x-should-retry")


def settle_down(victims: Victims) -> None:
    steps.expire_leases()
    victims.sweep()
    assert money.wrongs() == []


# The database's disk


@pytest.mark.parametrize("write", HOLDING, ids=lambda write: write.table)
def test_nothing_begins_where_the_hold_cannot_be_written(
    victims: Victims, fake: ProviderFake, write: full_disks.Write
) -> None:
    case = steps.begin(fake, "before_hold")
    with refused(write):
        assert told(steps.request(victims, case, "")) == (503, "overloaded", None)
    assert (case.generation, fake.calls, money.open_holds()) == (None, 0, 0)
    assert money.wrongs() == []
    assert steps.request(victims, case, "").report["status"] == 200


@pytest.mark.parametrize("code", full_disks.OTHERS)
def test_whatever_else_keeps_a_database_from_working_is_told_like_it(
    victims: Victims, fake: ProviderFake, code: str
) -> None:
    case = steps.begin(fake, "before_hold")
    with refused(full_disks.HOLD, code=code):
        assert told(steps.request(victims, case, "")) == (503, "overloaded", None)
    with refused(full_disks.SETTLE, code=code):
        assert told(steps.request(victims, case, "")) == (503, "interrupted", "false")
    settle_down(victims)


@pytest.mark.parametrize(("write", "upstream", "asked"), SENDING)
def test_what_cannot_go_on_is_given_back_at_once_where_that_can_be_written(
    victims: Victims, fake: ProviderFake, write: full_disks.Write, upstream: Any, asked: dict[str, Any]
) -> None:
    case = steps.begin(fake, "before_hold")
    fake.script(*upstream)
    with refused(write):
        ending = victims.create(case.key.headers, {**calls.ASKED, **asked})
    assert told(ending) == (503, "interrupted", "false")
    assert money.open_holds() == 0
    assert ledger.balance(case.organization_id).wallet_nanos == 10**9
    assert money.wrongs() == []


@pytest.mark.parametrize(("write", "upstream", "asked"), SENDING)
def test_what_cannot_even_be_given_back_is_once_there_is_room(
    victims: Victims, fake: ProviderFake, write: full_disks.Write, upstream: Any, asked: dict[str, Any]
) -> None:
    case = steps.begin(fake, "before_hold")
    fake.script(*upstream)
    with refused(write, full_disks.VOID):
        assert told(victims.create(case.key.headers, {**calls.ASKED, **asked})) == (503, "interrupted", "false")
        steps.expire_leases()
        assert victims.sweep().report == {"settled": 0, "voided": 0, "waiting": 1}
        assert money.open_holds() == 1
    settle_down(victims)
    assert case.generation.status == "upstream_failure"  # type: ignore[union-attr]
    assert ledger.balance(case.organization_id).wallet_nanos == 10**9


def test_a_failure_upstream_that_cannot_be_written_is_once_there_is_room(victims: Victims, fake: ProviderFake) -> None:
    case = steps.begin(fake, "before_void")
    with refused(full_disks.VOID):
        assert told(steps.request(victims, case, "")) == (503, "interrupted", "false")
        assert money.open_holds() == 1
    settle_down(victims)
    assert ledger.balance(case.organization_id).wallet_nanos == 10**9


@pytest.mark.parametrize("write", SETTLING, ids=lambda write: write.table)
def test_a_picture_that_is_kept_is_charged_once_there_is_room(
    victims: Victims, fake: ProviderFake, write: full_disks.Write
) -> None:
    case = steps.begin(fake, "before_settle")
    with refused(write):
        assert told(steps.request(victims, case, "")) == (503, "interrupted", "false")
        assert ledger.balance(case.organization_id).wallet_nanos == 10**9
        steps.expire_leases()
        assert victims.sweep().report == {"settled": 0, "voided": 0, "waiting": 1}
        assert Image.objects.count() == 0
    settle_down(victims)
    assert case.wrongs() == []
    assert (Image.objects.count(), fake.calls) == (1, 1)
    assert ledger.balance(case.organization_id).wallet_nanos < 10**9


def test_with_both_disks_full_nothing_is_charged(victims: Victims, fake: ProviderFake) -> None:
    case = steps.begin(fake, "before_images")
    with refused(full_disks.VOID):
        assert told(steps.request(victims, case, "full@before_images")) == (503, "interrupted", "false")
    settle_down(victims)
    assert money.transfers_of(case.generation.pk) == {}  # type: ignore[union-attr]
    assert ledger.balance(case.organization_id).wallet_nanos == 10**9


def test_a_queue_that_cannot_be_written_to_refuses_a_request_for_later(victims: Victims, fake: ProviderFake) -> None:
    case = steps.begin(fake, "before_hold")
    later = {**case.key.headers, "Prefer": "respond-async"}
    with refused(full_disks.Write("procrastinate_jobs")):
        assert told(victims.create(later, calls.ASKED)) == (503, "overloaded", None)
    assert (case.generation, money.open_holds()) == (None, 0)
    assert victims.create(later, calls.ASKED).report["status"] == 202
    victims.work()
    assert money.wrongs() == []


def test_each_refused_request_gets_one_line_and_reading_goes_on(server: LiveServer, fake: ProviderFake) -> None:
    _, key = money.customer(wallet_nanos=10**9)
    before = len(server.log())
    with refused(full_disks.HOLD, full_disks.Write("accounts_apikey", "UPDATE")):
        answers = [calls.create(server, key) for _ in range(5)]
        reads = [
            requests.get(server.url + path, headers=key.headers, timeout=20)
            for path in ("/v1/balance", "/v1/requests", "/openai/v1/models")
        ]
    lines = server.log()[before:].splitlines()
    assert [answer.status_code for answer in answers] == [503] * 5
    assert [answer.status_code for answer in reads] == [200] * 3
    assert len(lines) == 5, lines
    assert all("the database cannot serve" in line and "No space left on device" in line for line in lines)
    with refused(full_disks.SETTLE):
        assert calls.create(server, key).status_code == 503
    (line,) = server.log()[before:].splitlines()[5:]
    assert "a request broke off" in line
    settings.STORE_DIR = Path(server.variables["STORE_DIR"])
    steps.expire_leases()
    assert recovery.sweep().settled == 1
    sql.give_back()
    assert calls.create(server, key).status_code == 200
    assert money.wrongs() == []


# The store's disk


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks whether there is room again looks at once."""
    monkeypatch.setattr(store, "_LOOK_EVERY_S", 0.0)


def fill(monkeypatch: pytest.MonkeyPatch, disk: FullStore) -> FullStore:
    monkeypatch.setattr(store, "os", disk)
    monkeypatch.setattr(results, "os", disk)
    return disk


def files() -> list[Path]:
    return [path for path in settings.STORE_DIR.rglob("*") if path.is_file() and path.stat().st_size]


@pytest.mark.parametrize(
    "fault",
    [
        ("makedirs", 0, errno.ENOSPC),
        ("open", 0, errno.ENOSPC),
        ("write", 0, errno.ENOSPC),
        ("write", 0, errno.EDQUOT),
        ("write", 1, errno.ENOSPC),  # the second of two pictures
        ("fsync", 0, errno.EIO),
        ("fsync", 1, errno.ENOSPC),
        ("open", 2, errno.ENOSPC),  # the file of results
        ("pwrite", 0, errno.ENOSPC),
    ],
)
def test_a_picture_that_cannot_be_kept_is_not_charged_wherever_that_fails(
    caller: Caller, credit: int, now: None, monkeypatch: pytest.MonkeyPatch, fault: tuple[str, int, int]
) -> None:
    monkeypatch.setattr(settings, "STORE_FSYNC", True)
    call, after, number = fault
    disk = fill(monkeypatch, FullStore(call, number=number, after=after))
    answer = caller.ask(n=2)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "storage_failed")
    assert (answer.headers["Retry-After"], answer.headers["x-should-retry"]) == ("5", "false")
    row = Generation.objects.get()
    assert (row.status, row.cost_nanos, row.lease_expires_at) == ("upstream_failure", None, None)
    assert set(money.transfers_of(row.pk)) == {"absorbed"}
    balance = ledger.balance(row.organization_id)
    assert (balance.promo_nanos, balance.held_nanos, money.open_holds()) == (credit, 0, 0)
    assert files() == []
    disk.is_full = False
    assert caller.ask().status_code == 200
    assert money.wrongs() == []


def test_while_the_store_is_full_no_provider_is_paid(
    caller: Caller, providers: ProviderFake, now: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = fill(monkeypatch, FullStore("write"))
    assert caller.ask().json()["error"]["code"] == "storage_failed"
    made = providers.calls
    for _ in range(3):
        answer = caller.ask()
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "storage_unavailable")
        assert answer.headers["Retry-After"] == "5"
        assert "x-should-retry" not in answer.headers
    assert (providers.calls, Generation.objects.count()) == (made, 1)
    assert caller.client.get("/v1/balance").status_code == 200
    disk.is_full = False
    assert caller.ask().status_code == 200
    assert money.wrongs() == []


def test_only_one_request_a_second_looks_for_room(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = fill(monkeypatch, FullStore("write"))
    caller.ask()
    disk.is_full = False
    assert caller.ask().json()["error"]["code"] == "storage_unavailable"
    monkeypatch.setattr(store, "_LOOK_EVERY_S", 0.0)
    assert caller.ask().status_code == 200


def test_a_stream_says_it_too(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.MonkeyPatch.context() as patch:
        fill(patch, FullStore("write"))
        caller.ask()
    answer = caller.ask(stream=True)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "storage_unavailable")


def test_a_request_for_later_waits_for_room(committed: None, fake: ProviderFake, victims: Victims) -> None:
    case = steps.begin(fake, "before_hold")
    later = {**case.key.headers, "Prefer": "respond-async"}
    assert victims.create(later, calls.ASKED).report["status"] == 202
    store.failed(OSError(errno.ENOSPC, "No space left on device"), size_bytes=10)
    row = case.generation
    assert row is not None
    jobs.run(str(row.pk))
    row.refresh_from_db()
    assert (row.status, fake.calls) == ("pending", 0)
    victims.work()
    row.refresh_from_db()
    assert row.status == "completed"
    assert money.wrongs() == []


def test_what_a_provider_still_has_is_fetched_once_there_is_room(victims: Victims, fake: ProviderFake) -> None:
    case = steps.begin(fake, "after_remember")
    assert steps.request(victims, case, "kill@after_remember").killed
    for fault in ("closed@after_ask", "full@after_ask"):
        steps.expire_leases()
        assert victims.sweep(fault=fault).report == {"settled": 0, "voided": 0, "waiting": 1}
        assert list(Attempt.objects.values_list("status", flat=True)) == ["sent"]
    settle_down(victims)
    assert case.wrongs() == []


def test_a_picture_of_an_edit_that_cannot_be_kept_for_later_begins_nothing(
    caller: Caller, providers: ProviderFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(monkeypatch, FullStore("write"))
    answer = edit_later(caller.client)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "storage_unavailable")
    assert (providers.calls, Generation.objects.count(), files()) == (0, 0, [])


def edit_later(client: Client) -> Any:
    image = {"image_url": data_uri(picture())}
    return client.post(
        "/openai/v1/images/edits",
        {"model": "gpt-image-1", "prompt": "bluer", "images": [image]},
        content_type="application/json",
        headers={"Prefer": "respond-async"},
    )


def test_the_ids_of_trials_are_those_of_files_that_cleaning_knows() -> None:
    folder, name = store.place(ids.new(), "trial").split("/")
    assert cleaning._FOLDER.fullmatch(folder)
    assert cleaning._NAME.fullmatch(name)
