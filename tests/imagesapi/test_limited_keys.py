"""Keys with limits and rules, through the API: what they are told, and that a change counts at once."""

from __future__ import annotations

from typing import Any

import pytest
from django.db.models import F
from django.test import Client

from accounts import keys, scopes
from accounts.models import ApiKey, Organization
from billing import limits
from billing.models import Hold
from core import money
from imagesapi.models import Generation
from tests.envelope import assert_refused, error_of
from tests.money import fund
from tests.people import IssuedKey

ASKED = {"model": "mock-image", "prompt": "a red fox", "size": "16x16", "response_format": "url"}


@pytest.fixture
def key(organization: Organization, api_key: IssuedKey) -> IssuedKey:
    fund(organization, promo_nanos=money.NANOS_PER_USD)
    return api_key


def create(key: IssuedKey, *, query: str = "", **asked: Any) -> Any:
    path = f"/v1/images/generations{query}"
    return Client().post(path, {**ASKED, **asked}, content_type="application/json", headers=key.headers)


def change_elsewhere(key: IssuedKey, **fields: Any) -> None:
    """As another process does, of which this one hears nothing."""
    ApiKey.objects.filter(pk=key.row.pk).update(version=F("version") + 1, **fields)


def test_it_tells_a_limited_key_what_is_left(key: IssuedKey) -> None:
    keys.update(key.row, limits={"requests_per_minute": 2, "concurrent": 3})
    answers = [create(key) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    left = [answer.headers["x-ratelimit-remaining-requests"] for answer in answers]
    assert left == ["1", "0", "0"]
    for answer in answers:
        assert answer.headers["x-ratelimit-limit-requests"] == "2"
        assert answer.headers["x-ratelimit-reset-requests"][-1] == "s"
    assert error_of(answers[2])["limit"] == {"scope": "key", "meter": "requests", "window": "minute", "cap": 2}
    assert_refused(answers[2], 429, "rate_limit_exceeded", says="2 requests a minute")
    assert Generation.objects.count() == 2


def test_it_says_nothing_of_limits_to_a_key_without(key: IssuedKey) -> None:
    assert not [name for name in create(key).headers if name.lower().startswith("x-ratelimit")]


def test_a_dry_run_and_a_bad_request_count_nowhere(key: IssuedKey) -> None:
    keys.update(key.row, limits={"requests_per_minute": 1})
    assert create(key, query="?dryRun=true").status_code == 200
    assert create(key, size="big").status_code == 400
    assert create(key, max_cost=0.0000001, quality="high", n=4).status_code in (200, 402)
    limits.replace(key.row, {"requests_per_minute": 100})
    assert int(create(key).headers["x-ratelimit-remaining-requests"]) >= 98


@pytest.mark.parametrize(
    ("rules", "code", "param"),
    [
        ({"models": ["gpt-image-1", "openai/*"]}, "model_not_allowed", "model"),
        ({"sizes": ["1024x1024"]}, "size_not_allowed", "size"),
    ],
)
def test_a_rule_holds_for_dry_runs_and_for_paid_requests(
    key: IssuedKey, rules: dict[str, Any], code: str, param: str
) -> None:
    keys.update(key.row, rules=rules)
    for query in ("", "?dryRun=true"):
        assert_refused(create(key, query=query), 403, code, param=param, says=next(iter(rules.values()))[0])
    assert not Hold.objects.exists()


def test_what_a_rule_allows_is_made(key: IssuedKey) -> None:
    keys.update(key.row, rules={"models": ["mock/*"], "sizes": ["16x16"]})
    assert create(key).status_code == 200


def test_a_change_made_elsewhere_counts_for_the_next_request(key: IssuedKey) -> None:
    assert create(key).status_code == 200
    change_elsewhere(key, rules={"sizes": ["1024x1024"]})
    assert_refused(create(key), 403, "size_not_allowed", param="size")
    change_elsewhere(key, rules={})
    assert create(key).status_code == 200
    change_elsewhere(key, scopes=[scopes.USAGE])
    assert_refused(create(key), 403, "insufficient_scope", says="'images'")
    change_elsewhere(key, scopes=[scopes.IMAGES])
    assert create(key).status_code == 200
    assert Generation.objects.count() == 3
