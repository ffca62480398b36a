"""What tests of the images API share: fake providers, money to spend, a client with a key, and a customer's server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client
from pytest_django.fixtures import Settings

from accounts.models import Organization
from billing import ledger
from billing.models import Hold, Transfer
from core import ids, money
from imagesapi.models import Attempt, Generation
from imagesapi.webhook_models import WebhookEndpoint
from tests.fakes.providers import ProviderFake
from tests.imagesapi import deliveries
from tests.people import IssuedKey
from tests.sites import Site

GENERATIONS = "/openai/v1/images/generations"
ASKED = {"model": "gpt-image-1", "prompt": "a red fox", "size": "1024x1024", "quality": "low"}


class Caller:
    """A developer's program: posts to images/generations with a key."""

    def __init__(self, key: IssuedKey) -> None:
        self.key = key
        self.client = Client(raise_request_exception=False, headers=key.headers)

    def send(self, body: Any, *, content_type: str = "application/json", path: str = GENERATIONS, **more: Any) -> Any:
        """Bytes go as they are, anything else as JSON."""
        return self.client.post(path, body, content_type=content_type, **more)

    def ask(self, **changes: Any) -> Any:
        """A request that is fine but for what is changed."""
        return self.send({**ASKED, **changes})


@pytest.fixture
def credit(organization: Organization) -> int:
    """Alice's organization has five dollars, here in nanos."""
    amount_nanos = 5 * money.NANOS_PER_USD
    ledger.grant(organization.pk, amount_nanos=amount_nanos, reason="test", reference=ids.new())
    return amount_nanos


@pytest.fixture
def caller(api_key: IssuedKey, credit: int, providers: ProviderFake) -> Caller:
    return Caller(api_key)


@pytest.fixture
def receiver(settings: Settings) -> Iterator[Site]:
    """A customer's server, which the operator lets pass."""
    with Site() as site:
        settings.OUTSIDE_ALLOWED_HOSTS = [f"127.0.0.1:{site.port}"]
        yield site


@pytest.fixture
def endpoint(organization: Organization, receiver: Site) -> WebhookEndpoint:
    return deliveries.make(organization, receiver)[0]


def assert_nothing_happened(fake: ProviderFake) -> None:
    """No hold, no generation, no provider call, no money moved but the grant."""
    assert fake.calls == 0
    assert not Hold.objects.exists()
    assert not Generation.objects.exists()
    assert not Attempt.objects.exists()
    assert not Transfer.objects.exclude(kind="grant").exists()
