"""An organization leaves: nothing runs on, its rest is paid back, what it sent is erased, its ledger is kept (A11)."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.core import mail
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client

from accounts import keys, organizations, users
from accounts.models import ApiKey, Membership, Organization, Role, User
from billing import closing, ledger, tasks
from billing.models import Closing, Hold, Limit, Transfer
from core import errors, ids, money
from imagesapi import own_keys, webhooks
from imagesapi.models import Generation, Image, OwnProviderKey, WebhookEndpoint
from tests.bodies import read
from tests.money import fund
from tests.people import IssuedKey, sign_in

pytestmark = pytest.mark.usefixtures("no_refunder")
CENT = money.NANOS_PER_CENT
BODY = {"model": "mock-image", "prompt": "a red fox", "size": "16x16", "response_format": "url"}


def pays_back(part: int = 100) -> list[int]:
    """A refunder that sends back so many percent, and what it was asked for."""
    asked: list[int] = []

    def refund(organization: Organization, amount_nanos: int) -> int:
        asked.append(amount_nanos)
        refunded_nanos = amount_nanos * part // 100
        if refunded_nanos:
            ledger.post(
                "refund",
                organization_id=organization.pk,
                amount_nanos=refunded_nanos,
                reference_type="refund",
                reference=ids.new(),
            )
        return refunded_nanos

    closing.register_refunder(refund)
    return asked


def close(organization: Organization, **more: Any) -> Closing:
    closing.begin(organization, **more)
    return closing.finish(organization.pk)


def make_a_picture(key: IssuedKey) -> str:
    """Its link."""
    answer = Client().post("/v1/images/generations", BODY, content_type="application/json", headers=key.headers)
    assert answer.status_code == 200, answer.content
    url: str = answer.json()["data"][0]["url"]
    return url.removeprefix("http://127.0.0.1:8000")


def test_it_pays_back_what_is_left_and_lets_the_rest_expire(organization: Organization) -> None:
    fund(organization, wallet_nanos=500 * CENT, promo_nanos=30 * CENT)
    asked = pays_back()
    done = close(organization)
    assert asked == [500 * CENT]
    assert (done.refunded_nanos, done.owed_nanos, done.expired_nanos) == (500 * CENT, 0, 30 * CENT)
    balance = ledger.balance(organization.pk)
    assert (balance.wallet_nanos, balance.promo_nanos) == (0, 0)
    kinds = set(Transfer.objects.values_list("kind", flat=True))
    assert kinds == {"top_up", "grant", "refund", "grant_expired"}


@pytest.mark.parametrize(("part", "owed"), [(0, 100), (60, 40), (None, 100)])
def test_what_cannot_be_paid_back_is_owed_and_said(organization: Organization, part: int | None, owed: int) -> None:
    fund(organization, wallet_nanos=100 * CENT)
    if part is not None:
        pays_back(part)
    done = close(organization)
    assert (done.refunded_nanos, done.owed_nanos) == ((100 - owed) * CENT, owed * CENT)
    assert ledger.balance(organization.pk).wallet_nanos == owed * CENT
    assert done.statement is not None
    assert done.statement["owed"] == money.decimal(owed * CENT)
    assert f"Still owed to you: ${money.decimal(owed * CENT)}" in mail.outbox[0].body


def test_it_waits_for_what_runs(organization: Organization, api_key: IssuedKey, alice: User) -> None:
    fund(organization, wallet_nanos=100 * CENT, promo_nanos=5)
    hold_id = ids.new()
    ledger.hold(hold_id, organization_id=organization.pk, amount_nanos=CENT)
    with pytest.raises(errors.NotFinished, match="1 requests are running"):
        closing.begin(organization)
    assert not Closing.objects.exists()
    assert ledger.hold(ids.new(), organization_id=organization.pk, amount_nanos=CENT).held
    assert keys.authenticate(api_key.raw).organization_id == organization.pk
    assert sign_in(alice).post("/app/billing/close", {"confirm": organization.slug}).status_code == 409
    for hold in Hold.objects.filter(state="held"):
        ledger.void(hold.pk)
    closing.begin(organization)


@pytest.mark.parametrize("amount_nanos", [0, 1, 50 * CENT])
def test_nothing_is_held_afterwards(organization: Organization, amount_nanos: int) -> None:
    fund(organization, wallet_nanos=100 * CENT)
    close(organization)
    assert not ledger.hold(ids.new(), organization_id=organization.pk, amount_nanos=amount_nanos).held


def test_nothing_is_held_where_there_never_was_any_money(organization: Organization) -> None:
    close(organization)
    ledger.post("top_up", organization_id=organization.pk, amount_nanos=5, reference_type="late", reference=ids.new())
    assert ledger.hold(ids.new(), organization_id=organization.pk, amount_nanos=1).verdict == "frozen"


def test_keys_sessions_and_links_are_refused_at_once(
    organization: Organization, api_key: IssuedKey, alice: User, bob: User
) -> None:
    fund(organization, promo_nanos=100 * CENT)
    link = make_a_picture(api_key)
    browsers = [sign_in(person) for person in (alice, bob)]
    assert [browser.get("/app/keys").status_code for browser in browsers] == [200, 200]
    assert read(Client().get(link)).startswith(b"\x89PNG")
    closing.begin(organization)
    paid = Client().post("/v1/images/generations", BODY, content_type="application/json", headers=api_key.headers)
    listed = Client().get("/v1/requests", headers=api_key.headers)
    assert (paid.status_code, listed.status_code) == (401, 401)
    assert Client().get(link).status_code in (403, 404, 410)
    for browser in browsers:
        page = browser.get("/app/keys").content.decode()
        assert organization.name not in page
        assert api_key.row.public_id not in page
        assert browser.post("/app/keys", {"name": "again", "scopes": ["images"]}).status_code == 200
    assert ApiKey.objects.filter(organization=organization, revoked_at=None).count() == 0
    assert not Membership.objects.filter(organization=organization).exists()


def test_what_it_sent_and_made_is_erased_and_money_is_kept(
    organization: Organization, api_key: IssuedKey, other_organization: Organization, other_api_key: IssuedKey
) -> None:
    for mine, key in ((organization, api_key), (other_organization, other_api_key)):
        fund(mine, promo_nanos=100 * CENT)
        make_a_picture(key)
        webhooks.create(mine.pk, url="https://a.example/x", events=["request.completed"])
        own_keys.store(mine.pk, provider="openai", secret="sk-of-the-customer-0123456789")
    close(organization)
    row = Generation.objects.get(organization=organization)
    assert (row.asked, row.answer, row.metadata, row.user) == ({}, None, None, "")
    assert row.purged_at is not None
    assert row.cost_nanos is not None
    assert Image.objects.get(organization=organization).deleted_at is not None
    assert Image.objects.get(organization=other_organization).deleted_at is None
    for kind in (WebhookEndpoint, OwnProviderKey):
        assert list(kind.objects.values_list("organization", flat=True)) == [other_organization.pk]
    assert Generation.objects.get(organization=other_organization).asked != {}
    assert Hold.objects.filter(organization=organization).exists()


def test_a_file_of_a_picture_goes_too(
    organization: Organization, api_key: IssuedKey, django_capture_on_commit_callbacks: Any
) -> None:
    fund(organization, promo_nanos=100 * CENT)
    make_a_picture(api_key)
    path = django_settings.STORE_DIR / Image.objects.get().path
    assert path.is_file()
    with django_capture_on_commit_callbacks(execute=True):
        close(organization)
    assert not path.exists()


def test_the_statement_is_kept_and_mailed_to_the_owners_once(organization: Organization, alice: User) -> None:
    fund(organization, wallet_nanos=100 * CENT, promo_nanos=7 * CENT)
    hold_id = ids.new()
    ledger.hold(hold_id, organization_id=organization.pk, amount_nanos=20 * CENT)
    ledger.settle(hold_id, cost_nanos=17 * CENT, provider="fal")
    pays_back()
    for _ in range(3):
        done = close(organization)
    assert done.statement is not None
    amounts = {(it["account"], it["kind"]): it["amount"] for it in done.statement["totals"]}
    assert amounts == {
        ("promo", "grant"): "0.07",
        ("promo", "charge"): "-0.07",
        ("wallet", "top_up"): "1.00",
        ("wallet", "charge"): "-0.10",
        ("wallet", "refund"): "-0.90",
    }
    assert (done.statement["paid_back"], done.statement["owed"]) == ("0.90", "0.00")
    assert [message.to for message in mail.outbox] == [[alice.email]]
    assert mail.outbox[0].subject == "Final statement of Alice & Co"
    assert "Paid back to where it came from: $0.90" in mail.outbox[0].body
    assert done.mail_to == []
    assert Organization.objects.get(pk=organization.pk).slug == organization.slug


def test_it_goes_on_where_it_was_interrupted(organization: Organization, api_key: IssuedKey, monkeypatch: Any) -> None:
    fund(organization, wallet_nanos=100 * CENT, promo_nanos=10 * CENT)
    make_a_picture(api_key)

    def dies(organization: Organization, amount_nanos: int) -> int:
        if not Transfer.objects.filter(kind="refund").exists():
            ledger.post(
                "refund",
                organization_id=organization.pk,
                amount_nanos=30 * CENT,
                reference_type="refund",
                reference=ids.new(),
            )
            raise ConnectionError("gone")
        return 0

    closing.register_refunder(dies)
    closing.begin(organization)
    with pytest.raises(ConnectionError):
        closing.finish(organization.pk)
    tasks.finish_closings(0)
    done = Closing.objects.get()
    assert (done.refunded_nanos, done.owed_nanos) == (30 * CENT, 70 * CENT)
    assert done.emptied_at is not None
    assert Generation.objects.get().purged_at is not None
    assert closing.finish_all() == 0


def test_it_is_not_erased_until_everything_has_ended(organization: Organization, api_key: IssuedKey) -> None:
    """A request that costs nothing may slip in at the last moment; what it makes goes when it has ended."""
    fund(organization, promo_nanos=100 * CENT)
    make_a_picture(api_key)
    row = Generation.objects.get()
    closing.begin(organization)
    late = Generation.objects.create(
        organization=organization,
        endpoint="images/generations",
        model="m",
        status="processing",
        asked={"prompt": "x"},
        lease_expires_at=row.created_at,
    )
    closing.finish(organization.pk)
    assert Closing.objects.get().emptied_at is None
    Generation.objects.filter(pk=late.pk).update(status="rejected", lease_expires_at=None, finished_at=row.created_at)
    tasks.finish_closings(0)
    assert Closing.objects.get().emptied_at is not None
    assert Generation.objects.get(pk=late.pk).asked == {}


def test_mail_that_was_not_taken_is_sent_later(organization: Organization, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(*_: Any, **__: Any) -> Any:
        raise OSError("no mail server")

    with monkeypatch.context() as patch:
        patch.setattr(closing, "get_connection", down)
        done = close(organization)
    assert done.settled_at is not None
    assert (mail.outbox, len(done.mail_to)) == ([], 1)
    tasks.finish_closings(0)
    assert len(mail.outbox) == 1


def test_a_debt_is_paid_or_written_off(organization: Organization) -> None:
    ledger.post(
        "dispute", organization_id=organization.pk, amount_nanos=40, reference_type="dispute", reference=ids.new()
    )
    with pytest.raises(errors.PaymentRequired, match="There is a debt"):
        closing.begin(organization)
    assert Organization.objects.get(pk=organization.pk).closed_at is None
    done = close(organization, write_off=True)
    assert (done.written_off_nanos, done.owed_nanos) == (40, 0)
    assert ledger.balance(organization.pk).wallet_nanos == 0


def test_the_platforms_own_is_not_closed(db: None) -> None:
    with pytest.raises(errors.InvalidRequest):
        closing.begin(organizations.platform())


def test_a_closed_one_stays_suspended(organization: Organization) -> None:
    close(organization)
    row = Organization.objects.get(pk=organization.pk)
    assert row.suspended_at is not None
    assert Limit.objects.get(organization=organization).cap == 0


# --- who may, and how -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", [role for role in Role.values if role != Role.OWNER])
def test_only_an_owner_closes(organization: Organization, role: str) -> None:
    person = users.create_verified(f"{role}@roles.example")
    organizations.add_member(organization, user=person, role=role)
    browser = sign_in(person)
    assert browser.get("/app/billing/close").status_code == 403
    assert browser.post("/app/billing/close", {"confirm": organization.slug}).status_code == 403
    assert not Closing.objects.exists()


@pytest.mark.parametrize("typed", ["", "alice", "ALICE-CO", "charlie-ltd"])
def test_an_owner_types_the_name_first(organization: Organization, alice: User, typed: str) -> None:
    browser = sign_in(alice)
    answer = browser.post("/app/billing/close", {"confirm": typed}, follow=True)
    assert "Nothing was changed" in answer.content.decode()
    assert not Closing.objects.exists()


def test_an_owner_closes_and_the_worker_does_the_rest(organization: Organization, alice: User) -> None:
    fund(organization, wallet_nanos=100 * CENT, promo_nanos=7 * CENT)
    pays_back()
    browser = sign_in(alice)
    assert "$1.00" in browser.get("/app/billing/close").content.decode()
    page = browser.post("/app/billing/close", {"confirm": organization.slug})
    assert page.status_code == 200
    assert "is closed" in page.content.decode()
    assert Closing.objects.get().asked_by == alice.email
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT (args ->> 'organization_id')::bigint FROM procrastinate_jobs WHERE task_name = %s",
            [closing.FINISH_TASK],
        )
        ((organization_id,),) = cursor.fetchall()
    tasks.finish_closing(organization_id)
    assert Closing.objects.get().refunded_nanos == 100 * CENT
    assert "no organization" in browser.get("/app").content.decode().lower()


def test_an_operator_closes_and_reads_the_statement_later(organization: Organization) -> None:
    fund(organization, wallet_nanos=100 * CENT)
    with pytest.raises(CommandError, match="cannot be undone"):
        call_command("close_organization", organization.slug)
    for arguments in ([organization.slug, "--confirm", organization.slug], [organization.slug]):
        output = StringIO()
        call_command("close_organization", *arguments, stdout=output)
        assert "wallet: top_up x 1: 1.00 USD" in output.getvalue()
        assert "owed, to be paid out by you: $1.00" in output.getvalue()
        assert output.getvalue().endswith("erased\n")
    with pytest.raises(CommandError, match="was closed on"):
        call_command("grant_credit", organization.slug, "1", "--reason", "x")


def test_a_command_needs_an_organization(db: None) -> None:
    with pytest.raises(CommandError, match="There is no organization"):
        call_command("close_organization", "nobody", "--confirm", "nobody")
