"""The points at which tests cut a request or its recovery short, how each is reached, and what must become of it."""

from __future__ import annotations

import ast
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.conf import settings
from django.db.models.functions import Now
from django.utils import timezone

from imagesapi import recovery
from imagesapi.models import Attempt, Generation, Image
from tests import calls, money
from tests.fakes import misbehaviour
from tests.fakes.misbehaviour import Behaviour
from tests.fakes.providers import ProviderFake
from tests.people import IssuedKey
from tests.servers import environment
from tests.victims import Ending, Victims

LEASE_S = 1
QUEUED: dict[str, Any] = {"model": "fal/gpt-image-1"}


@dataclass(frozen=True)
class Step:
    """How a point is reached, and what recovery must make of a request that is killed there."""

    expected: str  # "completed" or "upstream_failure"; "" where nothing was begun
    attempts: tuple[str, ...] = ()
    upstream: tuple[Behaviour, ...] = ()
    asked: dict[str, Any] = field(default_factory=dict)
    # For a point of the recovery: where the request was killed before it.
    first: str = ""


FAILS = misbehaviour.status(500, {"error": {"message": "no", "type": "server_error", "param": None, "code": None}})
DONE = Step("completed", ("succeeded",))
LOST = Step("upstream_failure", ("unknown",))
STEPS = {
    "before_hold": Step(""),
    "after_hold": LOST,
    "before_call": LOST,
    "before_remember": Step("upstream_failure", ("unknown",), asked=QUEUED),
    "after_remember": Step("completed", ("succeeded",), asked=QUEUED),
    "after_call": LOST,
    "before_next_attempt": Step("upstream_failure", ("unknown",), upstream=(FAILS,)),
    "after_next_attempt": Step("upstream_failure", ("failed", "unknown"), upstream=(FAILS,)),
    "before_images": LOST,
    "after_images": LOST,
    "after_result": DONE,
    "before_settle": DONE,
    "after_settle": DONE,
    "after_drop": DONE,
    "before_void": Step("upstream_failure", ("failed", "unknown"), upstream=(FAILS, FAILS)),
    "after_void": Step("upstream_failure", ("failed", "failed"), upstream=(FAILS, FAILS)),
    "before_claim": Step("completed", ("succeeded",), first="before_settle"),
    "after_claim": Step("completed", ("succeeded",), first="before_settle"),
    "before_recovered_settle": Step("completed", ("succeeded",), first="before_settle"),
    "after_recovered_settle": Step("completed", ("succeeded",), first="before_settle"),
    "before_recovered_void": Step("upstream_failure", ("unknown",), first="after_call"),
    "after_recovered_void": Step("upstream_failure", ("unknown",), first="after_call"),
    "before_ask": Step("completed", ("succeeded",), first="after_remember", asked=QUEUED),
    "after_ask": Step("completed", ("succeeded",), first="after_remember", asked=QUEUED),
}


# Reached only by a worker, which test_async kills there.
OF_WORKERS = ("before_take", "after_take", "after_first_attempt")


def points() -> set[str]:
    """Every point of the product's source that a test can cut at."""
    found = set()
    folders = [settings.ROOT / name for name in ("accounts", "billing", "imagesapi", "platform")]
    for path in [path for folder in folders for path in folder.rglob("*.py")]:
        text = path.read_text()
        for node in ast.walk(ast.parse(text)) if "faults.point" in text else ():
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "faults.point":
                found.add(ast.literal_eval(node.args[0]))
    return found


@pytest.fixture(scope="session")
def session_victims(
    django_db_setup: None, shared_fake: ProviderFake, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Victims]:
    folder = tmp_path_factory.mktemp("victims")
    variables = environment(shared_fake, port=0, folder=folder, LEASE_S=str(LEASE_S), FAL_MODE="queue")
    with Victims(variables) as found:
        yield found


@pytest.fixture
def victims(committed: None, fake: ProviderFake, session_victims: Victims) -> Victims:
    """Processes on this test's database and store, which reach openai directly and fal by its queue."""
    session_victims.store = settings.STORE_DIR
    return session_victims


@dataclass
class Case:
    """One request of a customer of its own, so that what became of it can be told apart."""

    point: str
    step: Step
    key: IssuedKey
    organization_id: int

    @property
    def generation(self) -> Generation | None:
        return Generation.objects.filter(organization_id=self.organization_id).first()

    def wrongs(self) -> list[str]:
        row = self.generation
        if row is None:
            return [f"{self.point}: nothing was begun"] if self.step.expected else []
        attempts = tuple(Attempt.objects.filter(generation=row).order_by("number").values_list("status", flat=True))
        found = (row.status, attempts, Image.objects.filter(generation=row).count(), bool(row.cost_nanos))
        completed = self.step.expected == "completed"
        wanted = (self.step.expected, self.step.attempts, int(completed), completed)
        return [] if found == wanted else [f"{self.point}: {found} instead of {wanted}"]


def begin(fake: ProviderFake, point: str) -> Case:
    organization, key = money.customer(wallet_nanos=10**9)
    step = STEPS[point]
    fake.script(*step.upstream)
    return Case(point, step, key, organization.pk)


def request(victims: Victims, case: Case, fault: str, **how: Any) -> Ending:
    return victims.create(case.key.headers, {**calls.ASKED, **case.step.asked}, fault=fault, **how)


def wait_for_leases() -> None:
    """Until every lease has expired, on the database's clock."""
    deadline = time.monotonic() + 3 * LEASE_S
    while Generation.objects.filter(lease_expires_at__gt=Now()).exists():
        assert time.monotonic() < deadline, "a lease of a dead process is still renewed"
        time.sleep(0.05)


def expire_leases() -> None:
    """As if their time had passed."""
    Generation.objects.filter(lease_expires_at__isnull=False).update(lease_expires_at=Now())


def drop_leftovers(victims: Victims) -> None:
    """What recovery does a minute after the end."""
    Generation.objects.filter(finished_at__isnull=False).update(
        finished_at=timezone.now() - recovery.LEFTOVERS_AFTER * 2
    )
    victims.sweep()
