"""OpenAI's error shape, which every refusal of the API has, whoever made it."""

from __future__ import annotations

from typing import Any, Protocol

import orjson


class Answered(Protocol):
    """What the answers of Django's test client and of `requests` have in common."""

    @property
    def status_code(self) -> int: ...
    @property
    def headers(self) -> Any: ...
    @property
    def content(self) -> Any: ...


def error_of(answer: Answered) -> dict[str, Any]:
    """The error of a refusal, after a look at its shape: JSON, all four keys, a sentence, nothing else beside it."""
    assert answer.status_code >= 400, answer.content[:300]
    assert answer.headers["Content-Type"].startswith("application/json"), answer.content[:300]
    document = orjson.loads(answer.content)
    assert set(document) == {"error"}
    error: dict[str, Any] = document["error"]
    assert {"message", "type", "param", "code"} <= set(error)
    assert isinstance(error["message"], str) and len(error["message"]) > 10
    assert isinstance(error["type"], str) and isinstance(error["code"], str)
    assert error["param"] is None or isinstance(error["param"], str)
    assert "<" not in error["message"] or "pxp_<id>" in error["message"]
    assert error["code"] == error["code"].lower() and " " not in error["code"]
    if answer.status_code in (429, 503):
        assert 1 <= int(answer.headers["Retry-After"]) < 60
    return error


def assert_refused(answer: Answered, status: int, code: str, *, param: str | None = None, says: str = "") -> None:
    """One refusal, whole: its status, its code, the parameter it names, and a word its message must hold."""
    error = error_of(answer)
    assert (answer.status_code, error["code"], error["param"]) == (status, code, param), error
    assert says in error["message"], error["message"]
