"""Which Python `make` takes: the one that is asked for by name, unless the system's is known to be faster."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.sources import ROOT

# What stands for an interpreter answers the two questions that are put to it, by its exit code.
_STAND_IN = """#!/bin/sh
case "$2" in *venv*) exit {misfit} ;; *optimizations*) exit {slow} ;; esac
exit 70
"""


@pytest.mark.parametrize(
    ("plain", "system", "taken"),
    [
        ("fast", "fast", "python3"),
        ("fast", "absent", "python3"),
        ("slow", "slow", "system"),  # a distribution's says nothing about how it was built
        ("slow", "misfit", "python3"),
        ("slow", "absent", "python3"),
        ("misfit", "fast", "system"),
        ("absent", "slow", "system"),
        ("absent", "absent", "python3"),  # which then says what is missing
    ],
)
def test_it_takes_the_python_that_was_built_to_be_fast(tmp_path: Path, plain: str, system: str, taken: str) -> None:
    for name, kind in (("python3", plain), ("system", system)):
        if kind != "absent":
            path = tmp_path / name
            path.write_text(_STAND_IN.format(misfit=int(kind == "misfit"), slow=int(kind == "slow")))
            path.chmod(0o755)
    done = subprocess.run(
        ["/bin/sh", ROOT / ".ci" / "python"],
        env={**os.environ, "PATH": str(tmp_path), "SYSTEM_PYTHON": str(tmp_path / "system")},
        capture_output=True,
        text=True,
        timeout=10,
        check=True,
    )
    assert done.stdout.strip().rpartition("/")[2] == taken
    assert done.stderr == ""
