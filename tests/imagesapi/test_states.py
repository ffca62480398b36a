"""What the database refuses of requests and attempts, and how it finds them: by index, however young its statistics."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction

from accounts.models import Organization
from imagesapi import admission
from imagesapi.models import Attempt, AttemptStatus, Generation, GenerationStatus, Offer
from tests.imagesapi import attempts

_OPEN = ("pending", "processing")


@pytest.fixture
def sent(organization: Organization) -> Attempt:
    """An attempt under way, of a request that is ended already."""
    attempts.add(Offer.objects.earliest("pk"), 1, status="sent", finished_at=None)
    return Attempt.objects.get()


def _write(sent: Attempt, status: str, *, has_end: bool, has_lease: bool, cost_nanos: int | None) -> None:
    row = sent.generation
    connection.cursor().execute(
        "INSERT INTO imagesapi_generation (id, organization_id, endpoint, model, status, asked, finished_at,"
        " lease_expires_at, cost_nanos) SELECT gen_random_uuid(), organization_id, endpoint, model, %s, asked,"
        " CASE WHEN %s THEN now() END, CASE WHEN %s THEN now() END, %s FROM imagesapi_generation WHERE id = %s",
        [status, has_end, has_lease, cost_nanos, row.pk],
    )


@pytest.mark.parametrize("status", GenerationStatus.values)
@pytest.mark.parametrize("has_end", [True, False])
@pytest.mark.parametrize("has_lease", [True, False])
@pytest.mark.parametrize("cost_nanos", [None, -1, 0, 5])
def test_a_request_ends_whole(
    sent: Attempt, status: str, has_end: bool, has_lease: bool, cost_nanos: int | None
) -> None:
    """Open under a lease, ended without; a cost exactly where it was completed."""
    is_whole = has_lease is (status in _OPEN) and has_end is not has_lease
    is_whole = is_whole and (cost_nanos in (0, 5) if status == "completed" else cost_nanos is None)
    if is_whole:
        _write(sent, status, has_end=has_end, has_lease=has_lease, cost_nanos=cost_nanos)
        return
    with pytest.raises(IntegrityError), transaction.atomic():
        _write(sent, status, has_end=has_end, has_lease=has_lease, cost_nanos=cost_nanos)


def test_no_other_states_are_known(sent: Attempt) -> None:
    row = sent
    for table, key in (("imagesapi_generation", row.generation_id), ("imagesapi_attempt", row.pk)):
        with pytest.raises(IntegrityError), transaction.atomic():
            connection.cursor().execute(f"UPDATE {table} SET status = 'done' WHERE id = %s", [key])


@pytest.mark.parametrize("status", AttemptStatus.values)
@pytest.mark.parametrize("has_end", [True, False])
def test_an_attempt_ends_unless_it_is_under_way(sent: Attempt, status: str, has_end: bool) -> None:
    row = sent
    change = f"finished_at = {'now()' if has_end else 'NULL'}, status = %s"
    statement = f"UPDATE imagesapi_attempt SET {change} WHERE id = %s"
    if has_end is (status != "sent"):
        connection.cursor().execute(statement, [status, row.pk])
        return
    with pytest.raises(IntegrityError), transaction.atomic():
        connection.cursor().execute(statement, [status, row.pk])


@pytest.mark.parametrize("before", [status for status in AttemptStatus.values if status != "sent"])
@pytest.mark.parametrize("after", AttemptStatus.values)
def test_an_ended_attempt_stays_as_it_ended(sent: Attempt, before: str, after: str) -> None:
    """Only of one that nobody knew it may be found out what became of it."""
    row = sent
    connection.cursor().execute(
        "UPDATE imagesapi_attempt SET finished_at = now(), status = %s WHERE id = %s", [before, row.pk]
    )
    change = Attempt.objects.filter(pk=row.pk).update
    if before == "unknown" and after in ("not_billed", "absorbed"):
        change(status=after)
        return
    with pytest.raises(DatabaseError, match="is refused in state"), transaction.atomic():
        change(status=after)


def test_an_ended_request_stays_as_it_ended(sent: Attempt) -> None:
    with pytest.raises(DatabaseError, match="is refused in state"), transaction.atomic():
        Generation.objects.filter(pk=sent.generation_id).update(status="rejected")


def _nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for part in plan.get("Plans", ()) for node in _nodes(part))]


@pytest.mark.parametrize("statement", ["_SETTLE", "_NEXT_ATTEMPT", "_FAIL"])
def test_an_attempt_is_found_by_the_requests_number(db: None, statement: str) -> None:
    """Not by a join, for which the server, while it knows nothing of the table, reads all of it, and goes on so."""
    numbers: dict[str, str] = {}
    text = re.sub(
        r"%\((\w+)\)s",
        lambda match: numbers.setdefault(match[1], f"${len(numbers) + 1}"),
        getattr(admission, statement),
    )
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (GENERIC_PLAN, FORMAT JSON) {text}")
        found = cursor.fetchone()[0]
    found = json.loads(found) if isinstance(found, str) else found
    scans = [
        node
        for node in _nodes(found[0]["Plan"])
        if node.get("Relation Name") == "imagesapi_attempt" and "Scan" in node["Node Type"]
    ]
    assert scans, found
    for node in scans:
        looked_for = node.get("Index Cond") or node.get("Filter", "")
        assert re.search(rf"generation_id = \{numbers['id']}\b", looked_for), node
