"""Money for tests: funding an organization, a customer with a key in one call, and what must be true afterwards."""

from __future__ import annotations

import itertools
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import PIL.Image
from django.conf import settings
from django.db import connection

from accounts import organizations, users
from accounts.models import Organization
from billing import ledger
from billing.models import Hold, Transfer
from core import ids
from imagesapi.models import Attempt, Generation, Image
from tests import databases
from tests.people import IssuedKey, issue

_numbers = itertools.count(1)


def fund(organization: Organization, *, promo_nanos: int = 0, wallet_nanos: int = 0) -> None:
    """Promo by a grant, wallet by a top-up."""
    if promo_nanos:
        ledger.grant(organization.pk, amount_nanos=promo_nanos, reason="test", reference=ids.new())
    if wallet_nanos:
        ledger.post(
            "top_up",
            organization_id=organization.pk,
            amount_nanos=wallet_nanos,
            reference_type="top_up",
            reference=ids.new(),
        )


def customer(*, promo_nanos: int = 0, wallet_nanos: int = 0) -> tuple[Organization, IssuedKey]:
    """A new organization with a key and this much money, for tests on a committed database."""
    number = next(_numbers)
    owner = users.create_verified(f"customer{number}@example.com", name=f"Customer {number}")
    organization = organizations.create(f"Customer {number}", owner=owner)
    fund(organization, promo_nanos=promo_nanos, wallet_nanos=wallet_nanos)
    return organization, issue(organization, created_by=owner)


def open_holds() -> int:
    return Hold.objects.filter(state="held").count()


def wrongs() -> list[str]:
    """What may never be seen once recovery has run, whatever was interrupted: open holds, charges without pictures,
    pictures that are not in the store as described, attempts nobody closed, sums that do not add up."""
    found = [f"ledger: {line}" for line in ledger.verify().differences]
    found += [f"open hold {hold_id}" for hold_id in Hold.objects.filter(state="held").values_list("id", flat=True)]
    found += [f"open request {row.pk}" for row in Generation.objects.filter(lease_expires_at__isnull=False)]
    found += [f"open attempt {row}" for row in Attempt.objects.filter(status="sent")]
    found += [f"lost picture {image.path}" for image in Image.objects.filter(deleted_at=None) if not is_stored(image)]
    charged = Transfer.objects.filter(kind__in=["charge", "charge_promo"]).values_list("reference_id", flat=True)
    with_pictures = set(Image.objects.values_list("generation_id", flat=True))
    found += [f"charged without a picture: {row}" for row in set(charged) - with_pictures]
    delivered = set(Attempt.objects.filter(status="succeeded").values_list("generation_id", flat=True))
    found += [f"completed without a successful attempt: {row}" for row in with_pictures - delivered]
    return found


def is_stored(image: Image) -> bool:
    """Whether the store holds the whole picture that this row describes."""
    path = settings.STORE_DIR / image.path
    if not path.is_file() or path.stat().st_size != image.size_bytes:
        return False
    try:
        with PIL.Image.open(path) as picture:
            picture.load()
            return picture.size == (image.width_px, image.height_px)
    except OSError:
        return False


def transfers_of(hold_id: uuid.UUID, kinds: Iterable[str] = ("charge", "charge_promo", "absorbed")) -> dict[str, int]:
    """What was booked for one generation, by kind."""
    rows = Transfer.objects.filter(reference_id=hold_id, reference_type="generation", kind__in=list(kinds))
    return dict(rows.values_list("kind", "amount_nanos"))


@contextmanager
def watched() -> Iterator[list[int]]:
    """The lowest available amount of any account, sampled on a connection of its own all the while."""
    lowest, done = [0], threading.Event()

    def watch() -> None:
        with databases.connect(str(connection.settings_dict["NAME"])) as line:
            while not done.is_set():
                found = line.execute("SELECT min(posted_nanos - held_nanos) FROM billing_account").fetchone()
                lowest.append(int(found[0] or 0) if found else 0)
                time.sleep(0.002)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield lowest
    finally:
        done.set()
        thread.join()
