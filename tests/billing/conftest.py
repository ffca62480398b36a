"""What tests of billing share: a closing with nobody who pays back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from billing import closing


@pytest.fixture
def no_refunder() -> Iterator[None]:
    """Nobody pays anything back, but for whom the test registers."""
    kept = closing._refunders[:]
    closing._refunders.clear()
    yield
    closing._refunders[:] = kept
