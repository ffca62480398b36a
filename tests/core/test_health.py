"""`/healthz` and `/readyz`: who supervises us is told the truth, by any name, and cannot make us work by asking."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import OperationalError
from django.test import Client
from psycopg_pool import PoolTimeout
from structlog.testing import capture_logs

from core import errors, health, sql
from imagesapi import store

READY = {"status": "ok", "checks": {"database": "ok", "store": "ok"}}


@pytest.fixture(autouse=True)
def _nothing_known() -> Iterator[None]:
    """As a process that was never asked."""
    health._readiness._looked_at_s = float("-inf")
    yield
    health._readiness._looked_at_s = float("-inf")


@pytest.fixture
def no_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql, "ask", _raise(PoolTimeout("no connection was free for 2 s")))


def _raise(error: Exception) -> Callable[..., Any]:
    def refuse(**_: Any) -> Any:
        raise error

    return refuse


@pytest.mark.parametrize("host", ["testserver", "10.1.2.3:8000", "no such host"])
@pytest.mark.parametrize("path", health.PATHS)
def test_all_is_well_by_any_name(client: Client, committed: None, path: str, host: str) -> None:
    response = client.get(path, headers={"host": host})
    assert response.status_code == 200
    assert response.json() == (READY if path == "/readyz" else {"status": "ok"})
    assert response.headers["Cache-Control"] == "no-store"
    assert int(response.headers["Content-Length"]) == len(response.content)
    assert "Set-Cookie" not in response.headers


def test_it_is_not_redirected_to_an_encrypted_address(client: Client, settings: Any) -> None:
    settings.SECURE_SSL_REDIRECT = True
    assert client.get("/healthz").status_code == 200


def test_without_a_database_it_lives_and_is_not_ready(client: Client, no_database: None) -> None:
    assert client.get("/healthz").status_code == 200
    with capture_logs() as lines:
        response = client.get("/readyz")
    assert response.status_code == 503
    assert response.json() == {"status": "unavailable", "checks": {"database": "unavailable", "store": "ok"}}
    assert int(response.headers["Retry-After"]) > 0
    assert [(line["event"], line["check"], line["reason"]) for line in lines] == [
        ("not ready", "database", "no connection was free for 2 s")
    ]


@pytest.mark.parametrize(
    "error", [OperationalError("password authentication failed for pixelpar"), ValueError("secret")]
)
def test_strangers_learn_no_reason(client: Client, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    monkeypatch.setattr(sql, "ask", _raise(error))
    with capture_logs():
        response = client.get("/readyz")
    assert response.status_code == 503
    assert set(response.json()["checks"].values()) == {"ok", "unavailable"}
    assert str(error).encode() not in response.content


def test_with_a_full_store_it_is_not_ready_until_there_is_room(
    client: Client, committed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        full = store.failed(OSError(28, "No space left on device"), size_bytes=100)
        assert "No space" in str(full)
        patch.setattr(store, "save", _fails)
        with capture_logs() as lines:
            response = client.get("/readyz")
        assert (response.status_code, response.json()["checks"]) == (503, {"database": "ok", "store": "unavailable"})
        assert [(line["event"], line["check"]) for line in lines if "check" in line] == [("not ready", "store")]
    known = store._failure
    assert known is not None
    known.looked_at_s = 0
    health._readiness._looked_at_s = float("-inf")
    assert client.get("/readyz").json() == READY


def _fails(*_: Any, **__: Any) -> str:
    raise store.failed(OSError(28, "No space left on device"), size_bytes=100)


@pytest.mark.parametrize("path", health.PATHS)
def test_other_methods_are_told_what_is_possible(client: Client, path: str) -> None:
    response = client.post(path, {"a": 1}, content_type="application/json")
    assert (response.status_code, response.headers["Allow"]) == (405, "GET, HEAD")
    assert response.json()["error"]["message"] == "POST is not possible here; GET and HEAD are."
    head = client.head(path)
    assert (head.status_code in (200, 503), head.content) == (True, b"")


def test_asking_often_costs_one_look_a_second(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[float] = []
    monkeypatch.setattr(sql, "ask", lambda *, timeout_s: looks.append(timeout_s))
    for _ in range(5):
        client.get("/readyz")
    assert looks == [2.0]
    health._readiness._looked_at_s -= 1
    client.get("/readyz")
    assert len(looks) == 2


def test_while_one_looks_the_others_are_told_what_was_found_before(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql, "ask", lambda *, timeout_s: None)
    client.get("/readyz")
    health._readiness._looked_at_s -= 1
    looking, go_on = threading.Event(), threading.Event()

    def hang(*, timeout_s: float) -> None:
        looking.set()
        assert go_on.wait(10)
        raise errors.Overloaded("slow")

    monkeypatch.setattr(sql, "ask", hang)
    statuses: list[int] = []
    slow = threading.Thread(target=lambda: statuses.append(Client().get("/readyz").status_code))
    slow.start()
    assert looking.wait(10)
    assert client.get("/readyz").status_code == 200
    health._readiness._began_at_s -= health._PATIENCE_S  # and it goes on and on
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["checks"]) == (503, {"database": "unavailable", "store": "ok"})
    go_on.set()
    slow.join(10)
    assert statuses == [503]
    assert client.get("/readyz").status_code == 503
