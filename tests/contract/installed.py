"""The clients our contract is tested with: hash-locked, installed once beside the data, apart from our environment."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from django.conf import settings

HERE = Path(__file__).parent
CLIENTS = HERE / "clients"
_INSTALL_TIMEOUT_S = 300


def python_newest() -> list[str]:
    """openai-python of our own test environment."""
    return [sys.executable, "-W", "ignore"]


def python_1() -> list[str]:
    """openai-python 1.x, which cannot share an environment with the newest."""
    locked = settings.ROOT / "requirements" / "contract.txt"

    def install(folder: Path) -> None:
        _run([sys.executable, "-m", "venv", str(folder)])
        pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet"]
        _run([*pip, "install", "--require-hashes", "-r", str(locked)])

    folder = _once("python-1", install, locked.read_bytes() + sys.version.encode())
    return [str(folder / "bin" / "python"), "-W", "ignore"]


def node_folder() -> Path:
    """A folder in which scripts find openai-node."""
    files = [HERE / "package.json", HERE / "package-lock.json", *sorted(CLIENTS.glob("*.mjs"))]

    def install(folder: Path) -> None:
        folder.mkdir()
        for file in files:
            shutil.copy(file, folder)
        _run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"], folder)

    return _once("node", install, b"".join(file.read_bytes() for file in files))


def _run(command: list[str], folder: Path | None = None) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_INSTALL_TIMEOUT_S, check=False)
    assert done.returncode == 0, f"{command[:4]} failed:\n{done.stdout}{done.stderr}"


def _once(name: str, install: Callable[[Path], None], content: bytes) -> Path:
    """The folder, made anew when what it is made from has changed; several test processes may ask at once."""
    home = settings.DATA_DIR / "contract"
    home.mkdir(parents=True, exist_ok=True)
    folder, stamp = home / name, home / f"{name}.stamp"
    digest = hashlib.sha256(content).hexdigest()
    with _locked(home / f"{name}.lock"):
        if not stamp.is_file() or stamp.read_text() != digest:
            stamp.unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)
            install(folder)
            stamp.write_text(digest)
    return folder


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with open(path, "a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
