"""T-18, T-16, T-17: bills against the ledger. Charged and carried is what providers were paid, to the nano."""

from __future__ import annotations

import datetime as dt
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from pytest_django.fixtures import Settings

from accounts.models import Organization
from billing import ledger
from billing.models import Account, Transfer
from core.money import NANOS_PER_USD, decimal, nanos
from imagesapi import bills
from imagesapi.bills import cells, importing, provider_days, reconciling, table
from imagesapi.models import Attempt, BillAdjustment, BillDay, BillLine, ProviderDay, Reconciliation
from tests import databases
from tests.fakes import _bills
from tests.fakes.providers import ProviderFake
from tests.imagesapi import month
from tests.imagesapi.month import Call
from tests.money import customer, fund

LAST = month.FIRST + dt.timedelta(days=month.DAYS - 1)
RANGE: dict[str, Any] = {"first": month.FIRST, "last": LAST}


@pytest.fixture
def service(fake: ProviderFake, settings: Settings) -> _bills.Service:
    settings.OPENAI_ADMIN_KEY, settings.OPENAI_ADMIN_URL = _bills.OPENAI_ADMIN_KEY, fake.openai_admin_url
    settings.FAL_ADMIN_KEY, settings.FAL_ADMIN_URL = _bills.FAL_ADMIN_KEY, fake.fal_admin_url
    return fake.bills


@pytest.fixture
def funded(organization: Organization, other_organization: Organization) -> list[Organization]:
    for one in (organization, other_organization):
        fund(one, promo_nanos=NANOS_PER_USD, wallet_nanos=100_000 * NANOS_PER_USD)
    return [organization, other_organization]


def fetch(*providers: str) -> None:
    for provider in providers or ("openai", "fal"):
        importing.keep(provider, bills.load(provider).fetch(month.FIRST, LAST))


def told(provider: str) -> int:
    """What the provider's bill comes to, by what was told last of each line."""
    rows = BillLine.objects.filter(provider=provider).order_by("source_key", "-revision").distinct("source_key")
    return sum(row.amount_nanos for row in rows)


def simulated_month(count: int, funded: list[Organization], service: _bills.Service) -> tuple[list[Call], Any]:
    """A month with everything that can happen to a bill in it."""
    made = month.calls(count, funded)
    for number in range(0, count, 200):  # their endings are unknown; the provider billed every other one
        made[number] = replace(made[number], status="unknown", request_id=f"lost-{number}")
    month.write(made)
    billed = [replace(call, status="not billed") if at % 400 == 200 else call for at, call in enumerate(made)]
    return made, month.bill(billed, service)


def check_month(made: list[Call], counts: Any) -> None:
    fetch()
    charged = {provider: month.owed(provider) for provider in ("openai", "fal")}
    report = reconciling.run(**RANGE)
    assert report.unexplained_nanos == 0
    assert {row["what"] for row in report.findings} <= {"price"}
    for provider in ("openai", "fal"):
        assert month.owed(provider) == told(provider), provider
        days = ProviderDay.objects.filter(provider=provider)
        assert sum(row.billed_nanos or 0 for row in days) == told(provider)
        carried = sum(
            row.charged_wallet_nanos + row.charged_promo_nanos + row.absorbed_nanos + row.bill_absorbed_nanos
            - row.bill_credited_nanos - row.true_up_nanos - row.true_up_promo_nanos
            for row in days
        )  # fmt: skip
        assert carried == told(provider), provider
    assert counts["cached"] > len(made) // 15 and counts["corrected"] > len(made) // 200
    credited = Transfer.objects.filter(kind__in=["true_up", "true_up_promo"])
    assert credited.exists() and charged["openai"] > told("openai")
    kinds = set(Account.objects.values_list("kind", flat=True))
    assert kinds <= {"wallet", "promo", "provider_payable", "absorbed", "promo_expense", "stripe_clearing"}
    assert not Attempt.objects.filter(status="unknown").exists()
    assert Attempt.objects.filter(status="absorbed").exists() and Attempt.objects.filter(status="not_billed").exists()
    before = (Transfer.objects.count(), BillAdjustment.objects.count())
    again = reconciling.run(**RANGE)
    assert (again.booked, again.closed, again.unexplained_nanos) == (0, 0, 0)
    fetch()
    assert reconciling.run(**RANGE).booked == 0
    assert (Transfer.objects.count(), BillAdjustment.objects.count()) == before


def customers(count: int) -> list[Organization]:
    wallet_nanos = 10_000 * NANOS_PER_USD
    return [customer(promo_nanos=NANOS_PER_USD, wallet_nanos=wallet_nanos)[0] for _ in range(count)]


def test_a_month_comes_out_even(committed: None, service: _bills.Service) -> None:
    check_month(*simulated_month(3_000, customers(4), service))


@pytest.mark.prove
def test_a_month_of_100_000_calls_comes_out_even(committed: None, service: _bills.Service) -> None:
    made, counts = simulated_month(100_000, customers(20), service)
    check_month(made, counts)
    absorbed = sum(row.bill_absorbed_nanos - row.bill_credited_nanos for row in ProviderDay.objects.all())
    credited = sum(row.true_up_nanos + row.true_up_promo_nanos for row in ProviderDay.objects.all())
    print(
        f"100 000 calls, {dict(counts)}: paid ${decimal(told('openai') + told('fal'))}, credited back "
        f"${decimal(credited)}, carried by the platform ${decimal(absorbed)}, unexplained $0"
    )


def test_rounding_alone_is_below_half_a_nano_a_call(funded: list[Organization], service: _bills.Service) -> None:
    made = month.calls(1_000, funded)
    month.write(made)
    month.bill(made, service, quirks=False)
    fetch()
    found = cells.read("openai", month.FIRST, LAST)
    assert any(cell.wanting_nanos for cell in found.values())
    assert all(abs(cell.wanting_nanos) <= cell.rounding_nanos for cell in found.values())
    assert all(cell.rounding_nanos == (cell.calls + 2) // 2 for cell in found.values())
    report = reconciling.run(**RANGE)
    assert (report.unexplained_nanos, report.findings) == (0, [])
    assert set(BillAdjustment.objects.values_list("reason", flat=True)) == {"rounding"}
    assert not Transfer.objects.filter(kind__startswith="true_up").exists()
    assert month.owed("openai") == told("openai")


# --- one day ----------------------------------------------------------------------------------------------------------

NOON = dt.datetime(2026, 9, 3, 12, tzinfo=dt.UTC)
COST = 10_000_000


def call(organization: Organization, **changes: Any) -> Call:
    """One call of a cent at openai, which could have cost two."""
    offer = month.stored("openai/gpt-image-1")
    about: dict[str, Any] = {"sent_at": NOON, "charged_nanos": COST, "hold_nanos": 2 * COST, "exact_attos": 0}
    about |= {"id": month.past.id_at(changes.get("sent_at", NOON)), "organization": organization, "offer": offer}
    return Call(**(about | changes))


def tell(amount_nanos: int, *, day: dt.date | None = None, model: str = "gpt-image-1", line: str = "1") -> None:
    """A line of a bill by hand."""
    text = f"line,day,item,model,request,amount\n{line},{day or NOON.date()},,{model},,{decimal(amount_nanos)}\n"
    importing.keep("openai", table.read(text))


def adjustments() -> list[tuple[str, str, int, str]]:
    rows = BillAdjustment.objects.select_related("organization").order_by("kind", "organization__name", "created_at")
    return [(row.kind, row.organization.name if row.organization else "", row.amount_nanos, row.reason) for row in rows]


def run() -> reconciling.Report:
    return reconciling.run(provider="openai", **RANGE)


def test_an_overcharge_flows_back_to_those_who_paid_it(funded: list[Organization]) -> None:
    """In proportion, in whole nanos that add up, promo to promo and wallet to wallet."""
    alice, charlie = funded
    month.write([call(alice), call(alice), call(charlie, charged_nanos=COST - 1)])
    tell(3 * COST - 1 - 1001)
    report = run()
    assert adjustments() == [("true_up_promo", "Alice & Co", 667, "overcharge")] + [
        ("true_up_promo", "Charlie Ltd", 334, "overcharge")
    ]
    assert [row["what"] for row in report.findings] == ["price"]
    assert ledger.balance(alice.pk).promo_nanos == NANOS_PER_USD - 2 * COST + 667
    assert month.owed("openai") == 3 * COST - 1002
    assert run().booked == 0


def test_more_on_the_bill_than_was_charged_is_never_the_customers(funded: list[Organization], caplog: Any) -> None:
    month.write([call(funded[0])])
    tell(COST + 500)
    report = run()
    assert adjustments() == [("bill_absorbed", "", 500, "undercharge")]
    assert ledger.balance(funded[0].pk).promo_nanos == NANOS_PER_USD - COST
    assert report.unexplained_nanos == 0
    assert report.findings == [
        {
            "what": "price", "provider": "openai", "model": "gpt-image-1", "day": "2026-09-03", "amount": "0.0000005",
            "billed": "0.0100005", "charged": "0.01", "calls": 1,
        }
    ]  # fmt: skip
    assert "a bill disagrees with the price list" in caplog.text


def test_it_does_not_explain_what_no_call_can_have_cost(funded: list[Organization]) -> None:
    """Somebody else's use of the account is not ours to pay."""
    month.write([call(funded[0])])
    tell(2 * COST + 1)
    tell(7, model="gpt-9", line="other")
    report = run()
    assert report.unexplained_nanos == COST + 1 + 7
    assert adjustments() == []
    with pytest.raises(SystemExit) as ended:
        reconcile("--provider", "openai", "--from", "2026-09-01", "--to", "2026-09-30")
    assert ended.value.code == 1


def reconcile(*arguments: str) -> str:
    out = io.StringIO()
    call_command("reconcile", *arguments, stdout=out)
    return out.getvalue()


def test_it_says_what_it_found_to_the_nano(funded: list[Organization]) -> None:
    month.write([call(funded[0])])
    tell(COST - 10)
    said = reconcile("--provider", "openai", "--from", "2026-09-01", "--to", "2026-09-30")
    assert "1 days on bills, 1 movements booked" in said
    assert "bill and price list disagree by -$0.00000001 (billed $0.00999999, charged $0.01 for 1 calls)" in said
    assert said.endswith("unexplained: $0.00\n")
    assert "bill and price list disagree" in reconcile("--last")
    assert Reconciliation.objects.count() == 1


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--provider", "nobody"), "no provider"),
        (("--from", "x"), "--from"),
        (("--from", "0001-01-01"), "--from"),
        (("--from", "2026-09-01", "--to", "9999-12-31"), "--to"),
        (("--from", "2099-01-01"), "later than --to"),
    ],
)
def test_it_refuses_what_it_does_not_know(db: None, arguments: tuple[str, ...], word: str) -> None:
    with pytest.raises(CommandError, match=word):
        reconcile(*arguments)


@pytest.mark.parametrize(
    ("billed_nanos", "statuses", "carried"),
    [
        (COST, ["not_billed", "not_billed"], 0),
        (COST + 1, ["not_billed", "not_billed"], 1),
        (2 * COST, ["absorbed", "not_billed"], COST),
        (4 * COST, ["absorbed", "absorbed"], 3 * COST),
    ],
)
def test_an_attempt_that_nobody_knew_of_is_closed_by_the_bill(
    funded: list[Organization], billed_nanos: int, statuses: list[str], carried: int
) -> None:
    """T-16, T-17: the customer paid for the delivered picture alone; what the lost attempts cost is the platform's."""
    lost = [call(funded[0], status="unknown", sent_at=NOON + dt.timedelta(minutes=at)) for at in (1, 2)]
    month.write([call(funded[0]), *lost])
    tell(billed_nanos)
    report = run()
    found = Attempt.objects.exclude(status="succeeded").order_by("sent_at").values_list("status", flat=True)
    assert (list(found), report.closed, report.unexplained_nanos) == (statuses, 2, 0)
    assert sum(amount for kind, _, amount, _ in adjustments() if kind == "bill_absorbed") == carried
    assert ledger.balance(funded[0].pk).promo_nanos == NANOS_PER_USD - COST
    assert run().booked == 0


def test_a_bill_that_names_the_request_tells_which_attempt_it_was(
    funded: list[Organization], service: _bills.Service
) -> None:
    offer = month.stored("fal/gpt-image-1")
    lost = [
        call(funded[0], status="unknown", offer=offer, request_id=name, sent_at=NOON + dt.timedelta(minutes=at))
        for at, name in enumerate(("first", "second"))
    ]
    month.write(lost)
    service.events.append(_bills.event("second", offer.wire_id, NOON, COST))
    fetch("fal")
    assert reconciling.run(provider="fal", **RANGE).unexplained_nanos == 0
    found = Attempt.objects.order_by("sent_at").values_list("provider_request_id", "status")
    assert list(found) == [("first", "not_billed"), ("second", "absorbed")]


def test_simulated_and_own_key_attempts_are_on_nobodys_bill(funded: list[Organization]) -> None:
    made = [call(funded[0], status="unknown"), call(funded[0], status="unknown")]
    month.write(made)
    generation = Attempt.objects.get(generation=made[0].id).generation
    type(generation).objects.filter(pk=generation.pk).update(simulated=True)
    Attempt.objects.filter(generation=made[1].id).update(own_key=True)
    tell(0)
    report = run()
    assert Attempt.objects.get(generation=made[0].id).status == "not_billed"
    assert Attempt.objects.get(generation=made[1].id).status == "unknown"
    assert (report.closed, report.overdue, report.unexplained_nanos) == (1, 0, 0)


def test_a_day_that_no_bill_covers_is_left_alone(funded: list[Organization]) -> None:
    """What is not on a bill yet is no overcharge."""
    month.write([call(funded[0]), call(funded[0], status="unknown")])
    report = run()
    assert (report.days, report.booked, report.closed, report.overdue) == (0, 0, 0, 1)
    tell(0, day=NOON.date() + dt.timedelta(days=1))
    assert (run().days, adjustments()) == (1, [])


def test_a_bill_read_too_early_is_left_alone(funded: list[Organization]) -> None:
    month.write([call(funded[0])])
    tell(0)
    early = dt.datetime(2026, 9, 4, 11, 59, tzinfo=dt.UTC)
    BillDay.objects.update(imported_at=early)
    assert run().days == 0
    BillDay.objects.update(imported_at=early + dt.timedelta(minutes=1))
    assert (run().days, adjustments()) == (1, [("true_up_promo", "Alice & Co", COST, "overcharge")])


def test_a_bill_that_changes_its_mind_is_followed_both_ways(
    funded: list[Organization], service: _bills.Service
) -> None:
    month.write([call(funded[0])])
    item = (NOON.date(), "proj_1", "gpt-image-1, image output")
    for value, owed in ((0.015, 15), (0.011, 11), (0.004, 4), (0.012, 12)):
        service.costs[item] = value
        fetch("openai")
        assert run().unexplained_nanos == 0
        assert month.owed("openai") == owed * 10**6
    assert BillLine.objects.count() == 4
    service.costs.clear()
    fetch("openai")
    assert (run().unexplained_nanos, month.owed("openai"), told("openai")) == (0, 0, 0)
    row = ProviderDay.objects.get(provider="openai", model="gpt-image-1")
    assert (row.true_up_promo_nanos, row.billed_nanos) == (COST, 0)
    assert ledger.balance(funded[0].pk).promo_nanos == NANOS_PER_USD


def test_calls_over_midnight_are_on_the_day_their_provider_counts(funded: list[Organization]) -> None:
    """Billed by the day they ended: nobody is credited on the one day, nothing is carried on the next."""
    late = NOON.replace(hour=23, minute=59, second=55)
    month.write([call(funded[0], sent_at=late, finished_at=late + dt.timedelta(seconds=9)), call(funded[0])])
    tell(COST)
    assert (run().booked, run().findings) == (0, [])  # the next day's bill may still bring it
    tell(COST, day=NOON.date() + dt.timedelta(days=1), line="2")
    report = run()
    assert (report.days, report.booked, report.unexplained_nanos, report.findings) == (2, 0, 0, [])


def test_each_line_is_stored_once(service: _bills.Service, db: None) -> None:
    service.costs[NOON.date(), "proj_1", "gpt-image-1, image output"] = 1.25e-05
    service.costs[NOON.date(), "proj_2", "text-embedding"] = 0.1 + 0.2
    fetch("openai")
    fetch("openai")
    rows = BillLine.objects.order_by("model").values_list("model", "amount_nanos", "revision", "told")
    assert list(rows) == [("", 300_000_000, 1, "0.30000000000000004"), ("gpt-image-1", 12_500, 1, "1.25e-05")]
    assert BillDay.objects.filter(provider="openai").count() == month.DAYS


def test_a_day_has_one_source(service: _bills.Service, db: None) -> None:
    tell(5)
    with pytest.raises(bills.BillError, match="counted twice"):
        fetch("openai")
    assert BillLine.objects.count() == 1


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("day,amount\n", "lacks the columns line"),
        ("line,day,amount\n1,2026-13-01,5\n", "Row 2"),
        ("line,day,amount\n1,2026-09-01,five\n", "Row 2.*amount"),
        ("line,day,amount\n,2026-09-01,5\n", "Row 2.*name"),
        ("line,day,amount\n1,2026-09-01\n", "Row 2"),
        ("line,day,amount\n1,2026-09-01,5\n1,2026-09-02,5\n", "Row 3.*own name"),
        ("line,day,amount\n1,0206-09-01,5\n", "Row 2.*century"),
        ("line,day,amount\n1,2026-09-01,5\n2,2062-09-01,5\n", "2026-09-01 to 2062-09-01, above 400 days"),
        ("line,day,amount\n\0,2026-09-01,5\n", "Row 2.*NUL"),
        ("line,day,item,amount\n1,2026-09-01,\0,5\n", "Row 2.*NUL"),
    ],
)
def test_a_table_says_which_row_is_wrong(text: str, word: str) -> None:
    with pytest.raises(bills.BillError, match=word):
        table.read(text)


def test_the_commands_read_a_table_and_a_bill(service: _bills.Service, db: None, tmp_path: Path) -> None:
    file = tmp_path / "bill.csv"
    file.write_text("line,day,item,model,request,amount\na,2026-09-01,,flux.1-schnell,,0.006\nb,2026-09-03,,x,,-1\n")
    out = io.StringIO()
    call_command("import_bill", "fal", file=file, stdout=out)
    assert "3 days covered; 2 new lines" in out.getvalue()
    assert "1 lines name nothing that is offered here" in out.getvalue()
    call_command("import_bill", "openai", "--from", "2026-09-01", "--to", "2026-09-02", stdout=out)
    assert "openai: 2 days covered; 0 new lines" in out.getvalue()


@pytest.mark.parametrize(
    ("provider", "word"),
    [("openai", "refused the key"), ("fal", "refused the key"), ("xai", "cannot be|no bill that can be fetched")],
)
def test_a_refused_key_is_said_and_never_shown(
    service: _bills.Service, db: None, settings: Settings, provider: str, word: str
) -> None:
    settings.OPENAI_ADMIN_KEY = settings.FAL_ADMIN_KEY = "wrong-key-0123456789"
    with pytest.raises(CommandError, match=word) as raised:
        call_command("import_bill", provider)
    assert "wrong-key" not in str(raised.value)


def test_the_day_is_added_up_without_a_bill_too(funded: list[Organization]) -> None:
    month.write([call(funded[0]), call(funded[1], status="unknown")])
    provider_days.write("openai", NOON.date(), NOON.date())
    row = ProviderDay.objects.get()
    assert (row.calls, row.charged_promo_nanos, row.billed_nanos, row.unknown_attempts) == (1, COST, None, 1)


def test_the_proof_misses_an_adjustment_that_was_not_booked(funded: list[Organization]) -> None:
    month.write([call(funded[0])])
    tell(COST - 10)
    run()
    assert ledger.verify().differences == ()
    BillAdjustment.objects.create(
        provider="openai", model="x", day=NOON.date(), kind="bill_absorbed", amount_nanos=3, reason="rounding"
    )
    assert any("adjustment" in line for line in ledger.verify().differences)
    with databases.history_may_be_written():
        BillAdjustment.objects.filter(model="x").delete()


def test_amounts_of_others_are_read_exactly() -> None:
    from core import money

    for text, amount_nanos in (("0.06", 6 * 10**7), ("1e-9", 1), ("2.5e-9", 2), ("3.5e-9", 4), ("-1.5E1", -15 * 10**9)):
        assert money.nearest_nanos(text) == amount_nanos
    for text in ("", "nan", "1,5", "0x1", "1e999", "٣", "1" * 25):
        with pytest.raises(ValueError, match=r"amount|large"):
            money.nearest_nanos(text)
    assert nanos("0.06") == money.nearest_nanos("0.06")
