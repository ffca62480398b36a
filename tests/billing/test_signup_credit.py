"""M6: credit for a verified sign-up, once for a mailbox, and never more than the operator gives in a day."""

from __future__ import annotations

import datetime as dt
import itertools
import threading
from typing import Any

import pytest
from django.core import mail
from django.db import DatabaseError, connection
from django.test import Client
from django.utils import timezone

from accounts.models import Organization
from billing import daily_counts, grants, ledger, mailboxes, signup_credit, tasks
from billing.models import DailyCount, SignupCredit
from core import money
from tests.people import PASSWORD

CREDIT = money.NANOS_PER_USD // 2
_numbers = itertools.count()


@pytest.fixture(autouse=True)
def _given(settings: Any) -> None:
    settings.SIGNUP_CREDIT_NANOS = CREDIT
    settings.SIGNUP_CREDIT_DAYS = 30
    settings.SIGNUP_CREDITS_PER_NETWORK = 3
    settings.SIGNUP_CREDIT_DAILY_NANOS = 20 * money.NANOS_PER_USD


def newcomers(count: int) -> list[Organization]:
    return Organization.objects.bulk_create(
        Organization(name="New", slug=f"new-{next(_numbers)}") for _ in range(count)
    )


def sign_up(email: str, address: str | None = "203.0.113.9") -> int:
    return signup_credit.give(newcomers(1)[0], email=email, client_address=address)


def given() -> int:
    return sum(ledger.balance(row.organization_id).promo_nanos for row in SignupCredit.objects.all())


@pytest.mark.django_db
def test_a_verified_sign_up_has_credit_that_expires(client: Client) -> None:
    client.post("/accounts/signup/", {"email": "dora@example.com", "password1": PASSWORD})
    assert not SignupCredit.objects.exists()
    link = next(word for word in mail.outbox[-1].body.split() if "/accounts/confirm-email/" in word)
    for _ in range(2):
        client.post(link.removeprefix("http://127.0.0.1:8000"))
    organization = Organization.objects.get()
    (lot,) = grants.lots(organization.pk)
    assert (lot.remaining_nanos, lot.reason) == (CREDIT, "for signing up")
    assert lot.expires_at is not None
    assert abs(lot.expires_at - timezone.now() - dt.timedelta(days=30)) < dt.timedelta(minutes=1)
    assert DailyCount.objects.filter(name=daily_counts.hidden("signup", "127.0.0.0/24")).exists()


@pytest.mark.django_db
def test_a_sign_up_never_fails_because_of_its_credit(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> int:
        raise DatabaseError("out of order")

    monkeypatch.setattr(signup_credit, "give", fail)
    client.post("/accounts/signup/", {"email": "dora@example.com", "password1": PASSWORD})
    link = next(word for word in mail.outbox[-1].body.split() if "/accounts/confirm-email/" in word)
    client.post(link.removeprefix("http://127.0.0.1:8000"))
    assert Organization.objects.count() == 1


@pytest.mark.django_db
def test_nothing_is_given_where_the_operator_gives_nothing(settings: Any) -> None:
    settings.SIGNUP_CREDIT_NANOS = 0
    assert sign_up("dora@example.com") == 0
    assert not SignupCredit.objects.exists()


SPELLINGS = [
    "jane.doe@gmail.com",
    "JaneDoe@Gmail.com",
    "j.a.n.e.doe+shop@gmail.com",
    "janedoe@googlemail.com",
    "ｊanedoe@gmail.com",
    "janedoe@gmail.com.",
]


@pytest.mark.django_db
def test_a_mailbox_has_its_credit_once_however_it_is_spelled() -> None:
    credits = [sign_up(email, f"198.51.{number}.1") for number, email in enumerate(SPELLINGS)]
    assert credits == [CREDIT, 0, 0, 0, 0, 0]
    assert given() == CREDIT


@pytest.mark.parametrize(
    ("first", "second"),
    [("a@bücher.example", "a@XN--BCHER-KVA.example"), ("a.b@c.example", "ab+x@c.example"), ("a@b.c", "A@B.C")],
)
def test_spellings_of_one_mailbox_have_one_name(first: str, second: str) -> None:
    assert mailboxes.one_name(first) == mailboxes.one_name(second)


@pytest.mark.parametrize(
    "word", ["", "a", "@b.example", "+tag@b.example", "a@", "a@" + "b" * 70 + ".example", "a@b..c"]
)
def test_what_is_no_address_has_no_name(word: str) -> None:
    assert mailboxes.one_name(word) is None


@pytest.mark.django_db
@pytest.mark.parametrize("email", ["a@mailinator.com", "a@x.yopmail.com", "a@MAILINATOR.com", "a@throwaway.example"])
def test_a_disposable_mailbox_has_none(settings: Any, email: str) -> None:
    settings.DISPOSABLE_MAIL_DOMAINS = ["throwaway.example"]
    assert sign_up(email) == 0
    assert not DailyCount.objects.exists()


def test_a_domain_that_only_ends_like_a_disposable_one_is_fine() -> None:
    assert not mailboxes.is_disposable("a@notmailinator.com")
    assert not mailboxes.is_disposable("a@com")


@pytest.mark.django_db
@pytest.mark.parametrize("addresses", [["203.0.113.{}"], ["2001:db8:7:{}::1"], [None]])
def test_a_network_has_a_few_a_day(addresses: list[str | None]) -> None:
    (form,) = addresses
    credits = [sign_up(f"a{number}@example.com", form.format(number) if form else None) for number in range(1, 6)]
    assert credits == [CREDIT, CREDIT, CREDIT, 0, 0]
    assert sign_up("b@example.com", "198.51.100.7") == CREDIT


@pytest.mark.django_db
def test_what_was_refused_may_have_its_credit_another_day() -> None:
    for number in range(4):
        sign_up(f"a{number}@example.com")
    assert sign_up("late@example.com") == 0
    DailyCount.objects.update(day=timezone.now().date() - dt.timedelta(days=1))
    assert sign_up("late@example.com") == CREDIT


@pytest.mark.django_db
@pytest.mark.parametrize("count", [150, pytest.param(1_000, marks=pytest.mark.prove)])
def test_scripted_sign_ups_cost_no_more_than_the_day_gives(settings: Any, count: int) -> None:
    """From 50 addresses in as many networks, each mailbox new: the cap of the day holds."""
    settings.SIGNUP_CREDITS_PER_NETWORK = 1_000
    for number, organization in enumerate(newcomers(count)):
        signup_credit.give(organization, email=f"bot{number}@farm.example", client_address=f"198.51.{number % 50}.7")
    assert given() == settings.SIGNUP_CREDIT_DAILY_NANOS
    print(f"M6: {count} sign-ups from 50 addresses cost ${money.decimal(given())}, the cap of the day")


@pytest.mark.django_db
def test_fewer_networks_cost_less_than_the_day_gives() -> None:
    for number, organization in enumerate(newcomers(60)):
        signup_credit.give(organization, email=f"bot{number}@farm.example", client_address=f"198.51.{number % 5}.7")
    assert given() == 5 * 3 * CREDIT


def test_sign_ups_at_the_same_moment_are_counted_one_by_one(committed: None, settings: Any) -> None:
    settings.SIGNUP_CREDIT_DAILY_NANOS = 5 * CREDIT
    settings.SIGNUP_CREDITS_PER_NETWORK = 1_000
    waiting = newcomers(24)
    barrier = threading.Barrier(8)

    def work(mine: list[Organization]) -> None:
        barrier.wait(20)
        for organization in mine:
            signup_credit.give(
                organization, email=f"m{organization.pk % 12}@example.com", client_address="198.51.100.7"
            )
        connection.close()

    threads = [threading.Thread(target=work, args=(waiting[start::8],)) for start in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert given() == 5 * CREDIT
    assert SignupCredit.objects.count() == 5


@pytest.mark.django_db
def test_old_counts_are_forgotten_and_no_address_is_readable() -> None:
    sign_up("dora@example.com")
    assert not any("203.0" in row.name or "dora" in row.name for row in DailyCount.objects.all())
    tasks.forget_counts(0)
    assert DailyCount.objects.count() == 2
    DailyCount.objects.update(day=timezone.now().date() - dt.timedelta(days=9))
    tasks.forget_counts(0)
    assert DailyCount.objects.count() == 0
