"""What a difference between bill and ledger leads to: attempts closed, costs carried, credits given, each once."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from django.utils import timezone

from billing import ledger
from core import money
from imagesapi.bills import cells
from imagesapi.bills.cells import Cell
from imagesapi.models import Attempt, BillAdjustment

# A movement's reference is made from what it is for, so that it has the same one whoever books it.
NAMESPACE = uuid.UUID("6f0c5a3e-3f0f-5a53-9a0c-6b0f4a0d7b1e")


@dataclass(slots=True)
class Done:
    """What was booked for one cell, and what is left."""

    booked: int = 0
    closed: int = 0
    unexplained_nanos: int = 0
    # What the bill has more (or less) than the price list gives for the same calls.
    disagrees_nanos: int = 0


def settle(cell: Cell, wanting_nanos: int) -> Done:
    """Bring the ledger to the bill, as far as the bill can be explained; what cannot stays unbooked."""
    done = Done()
    if not cell.model:
        done.unexplained_nanos = wanting_nanos
    elif abs(wanting_nanos) <= cell.rounding_nanos:
        _close(cell, 0, done)
        _carry(cell, wanting_nanos, "rounding", done)
    elif wanting_nanos > 0:
        _billed_more(cell, wanting_nanos, done)
    else:
        _close(cell, 0, done)
        _billed_less(cell, -wanting_nanos, done)
    return done


def _billed_more(cell: Cell, over_nanos: int, done: Done) -> None:
    """First by attempts whose ending nobody knew; then by prices, as far as these calls can have cost so much."""
    over_nanos -= _close(cell, over_nanos, done)
    if over_nanos <= cell.rounding_nanos:
        _carry(cell, over_nanos, "rounding", done)
    elif cell.billed_nanos <= cell.ceiling_nanos:
        done.disagrees_nanos = over_nanos
        _carry(cell, over_nanos, "undercharge", done)
    else:
        done.unexplained_nanos = over_nanos


def _close(cell: Cell, over_nanos: int, done: Done) -> int:
    """Close the cell's unknown attempts: absorbed as far as the bill has something for them, the others not billed.
    What was absorbed, which is never above what those attempts can have cost."""
    absorbed_nanos = 0
    for row, worst_nanos, _ in cells.unknown(cell) if cell.unknown else ():
        is_billed = over_nanos - absorbed_nanos > cell.rounding_nanos
        if is_billed:
            absorbed_nanos = min(over_nanos, absorbed_nanos + worst_nanos)
        status = "absorbed" if is_billed else "not_billed"
        if Attempt.objects.filter(pk=row, status="unknown").update(status=status) != 1:
            raise RuntimeError(f"attempt {row} was closed by somebody else")
        done.closed += 1
    _carry(cell, absorbed_nanos, "unknown", done)
    return absorbed_nanos


def _carry(cell: Cell, amount_nanos: int, reason: str, done: Done) -> None:
    """What the platform bears, or gets back where it is negative."""
    if amount_nanos:
        kind = "bill_absorbed" if amount_nanos > 0 else "bill_credited"
        _book(cell, kind, abs(amount_nanos), reason, done)


def _billed_less(cell: Cell, under_nanos: int, done: Done) -> None:
    """What earlier bills made the platform carry comes back first; the rest goes to those who were charged, in
    proportion, the platform among them for what it carried by itself."""
    carried = cell.adjusted["bill_absorbed"] - cell.adjusted["bill_credited"]
    back_nanos = min(under_nanos, max(carried, 0))
    _carry(cell, -back_nanos, "overcharge", done)
    rest_nanos = under_nanos - back_nanos
    if not rest_nanos:
        return
    done.disagrees_nanos = -rest_nanos
    paid: list[tuple[int | None, str, int]] = list(cells.charged(cell))
    own_nanos = cell.absorbed_nanos + min(carried, 0)
    if own_nanos > 0:
        paid.append((None, "bill_credited", own_nanos))
    total_nanos = sum(amount_nanos for *_, amount_nanos in paid)
    due_nanos = min(rest_nanos, total_nanos)
    done.unexplained_nanos = due_nanos - rest_nanos
    if not due_nanos:
        return
    for (organization_id, kind, _), part_nanos in zip(
        paid, money.share(due_nanos, [amount_nanos for *_, amount_nanos in paid]), strict=True
    ):
        if part_nanos:
            _book(cell, kind, part_nanos, "overcharge", done, organization_id)


def _book(
    cell: Cell, kind: str, amount_nanos: int, reason: str, done: Done, organization_id: int | None = None
) -> None:
    number = cell.times.get((kind, organization_id), 0)
    cell.times[kind, organization_id] = number + 1
    words = (cell.provider, cell.model, cell.day.isoformat(), kind, str(organization_id or ""), str(number))
    reference = uuid.uuid5(NAMESPACE, "|".join(words))
    booked = ledger.post(
        kind,
        amount_nanos=amount_nanos,
        reference_type="bill",
        reference=reference,
        organization_id=organization_id,
        provider=cell.provider,
        note=f"{cell.provider} billed {cell.model} of {cell.day} otherwise ({reason})",
    )
    if not booked:
        raise RuntimeError(f"{kind} {reference} is in the journal and not among the adjustments")
    BillAdjustment.objects.create(
        pk=reference,
        provider=cell.provider,
        model=cell.model,
        day=cell.day,
        kind=kind,
        organization_id=organization_id,
        amount_nanos=amount_nanos,
        reason=reason,
        created_at=timezone.now(),
    )
    done.booked += 1
