"""docs/compatibility.md claims what these tests show, nothing less and nothing more."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

from django.conf import settings

from tests.contract import installed, matrix

HERE = Path(__file__).parent
TEXT = (settings.ROOT / "docs" / "compatibility.md").read_text()
# An empty cell holds the letters of its reason.
_REASON = re.compile(r"^\| ([a-z]) \| (.{20,}) \|$", re.MULTILINE)


def shown() -> set[tuple[str, str]]:
    """Every cell that a test stands for."""
    for path in HERE.glob("test_*.py"):
        importlib.import_module(f"tests.contract.{path.stem}")
    return matrix.SHOWN


def rows(head: str) -> list[list[str]]:
    """The rows of the tables whose first column is called so, their heads among them."""
    found, inside = [], False
    for line in TEXT.splitlines():
        inside = line.startswith(f"| {head} |") or (inside and line.startswith("|"))
        if inside and not line.startswith("|---"):
            found.append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def cells() -> dict[tuple[str, str], str]:
    found: dict[tuple[str, str], str] = {}
    clients: list[str] = []
    for first, *others in rows("What"):
        if first == "What":
            clients = others
            continue
        for client, cell in zip(clients, others, strict=True):
            assert (first, client) not in found, f"twice: {first}, {client}"
            found[first, client] = cell
    return found


def test_every_client_and_every_capability_has_its_cell() -> None:
    assert set(cells()) == {(what, client) for what in matrix.CAPABILITIES for client in matrix.CLIENTS}


def test_a_cell_says_yes_exactly_where_a_test_shows_it() -> None:
    claimed = {place for place, cell in cells().items() if cell == "yes"}
    assert claimed - shown() == set(), "claimed, and no test shows it"
    assert shown() - claimed == set(), "shown, and the table does not say so"


def test_the_suite_leaves_out_no_client_and_of_the_oldest_and_newest_nothing() -> None:
    everything = shown()
    assert {client for _, client in matrix.SHOWN_BY_THE_SUITE} == set(matrix.CLIENTS)
    assert {cell for cell in everything if cell[1] not in matrix.BETWEEN} <= matrix.SHOWN_BY_THE_SUITE
    assert everything - matrix.SHOWN_BY_THE_SUITE  # or `make prove` has nothing to add


def test_every_other_cell_has_its_reason() -> None:
    reasons = dict(_REASON.findall(TEXT))
    given = {cell for cell in cells().values() if cell != "yes"}
    assert given == set(reasons)


def test_it_names_the_versions_of_the_locks() -> None:
    locked = installed.locked()
    named = {client: version.strip("`") for client, _, version in rows("Client")[1:]}
    assert named == {name: locked[client.version] for name, client in matrix.CLIENTS.items()}
