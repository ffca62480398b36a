"""The clients our contract is tested with: hash-locked, installed once beside the data, apart from our environment."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import certifi
import orjson
from django.conf import settings

HERE = Path(__file__).parent
CLIENTS = HERE / "clients"
# What is loaded once after the installation, so that it is compiled by the time a test waits for it.
_LOADED = {
    "1": "import openai.resources, openai.types",
    "2": "import litellm, openai.resources, langchain_community.utilities.dalle_image_generator as tool;"
    "litellm.image_generation; tool.DallEAPIWrapper(api_key='none')",
}
# What JavaScript of each major finds when it imports "openai", by the name of our alias.
NODE_MAJORS = ("openai4", "openai5", "openai6", "openai")
_INSTALL_TIMEOUT_S = 300


def python(major: str) -> list[str]:
    """openai-python of this major line. The third is that of our own environment; the others cannot share it."""
    program = sys.executable if major == "3" else str(_environment(major) / "bin" / "python")
    return [program, "-W", "ignore"]


def node_folder(package: str = "openai") -> Path:
    """A folder in which scripts find this package when they import "openai"."""
    folder = _node()
    return folder if package == "openai" else folder / f"with-{package}"


def prepare() -> None:
    """Install what is missing, side by side: a new machine waits for the longest and not for the sum."""
    installs: list[Callable[[], object]] = [lambda: _environment("2"), lambda: _environment("1")]
    if shutil.which("npm"):
        installs.append(_node)
    with ThreadPoolExecutor(len(installs)) as pool:
        for installed in [pool.submit(install) for install in installs]:
            installed.result()


def for_clients() -> dict[str, str]:
    """What clients are started with. They speak to loopback without TLS, and yet each of OpenAI's Python clients reads
    all authorities there are, which takes longer than what we ask of it: here there is one."""
    return {**environment(), "SSL_CERT_FILE": str(_one_authority())}


def environment() -> dict[str, str]:
    """Nothing of the tester's that would point clients elsewhere, and nothing that calls home."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "LANG", "LITELLM_"))}
    return {**kept, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}


@functools.cache
def locked() -> dict[str, str]:
    """The version of every client by the name of its package and lock: "openai 1", "litellm", "openai5", "ai"."""
    found = {}
    for major, name in (("1", "contract-1"), ("2", "contract-2"), ("3", "dev")):
        text = (settings.ROOT / "requirements" / f"{name}.txt").read_text()
        for package, version in re.findall(r"^(openai|litellm|langchain-community)==(\S+)", text, re.MULTILINE):
            found[f"openai {major}" if package == "openai" else package] = version
    packages = orjson.loads((HERE / "package-lock.json").read_bytes())["packages"]
    return found | {
        path.removeprefix("node_modules/"): facts["version"] for path, facts in packages.items() if "version" in facts
    }


def _environment(major: str) -> Path:
    lock = settings.ROOT / "requirements" / f"contract-{major}.txt"

    def install(folder: Path) -> None:
        _run([sys.executable, "-m", "venv", "--without-pip", str(folder)])
        program = str(folder / "bin" / "python")
        pip = [sys.executable, "-m", "pip", "--python", program, "--disable-pip-version-check", "--no-input", "--quiet"]
        # Without dependencies: the lock leaves out what the image calls never load.
        _run([*pip, "install", "--no-deps", "--no-compile", "--require-hashes", "-r", str(lock)])
        _run([program, "-W", "ignore", "-c", _LOADED[major]])

    return _once(f"python-{major}", install, lock.read_bytes() + sys.version.encode() + _LOADED[major].encode())


def _node() -> Path:
    files = [HERE / "package.json", HERE / "package-lock.json", *sorted(CLIENTS.glob("*.mjs"))]

    def install(folder: Path) -> None:
        folder.mkdir()
        for file in files:
            shutil.copy(file, folder)
        _run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"], folder)
        for package in NODE_MAJORS[:-1]:
            modules = folder / f"with-{package}" / "node_modules"
            modules.mkdir(parents=True)
            (modules / "openai").symlink_to(folder / "node_modules" / package)

    return _once("node", install, b"".join(file.read_bytes() for file in files))


def _one_authority() -> Path:
    def install(path: Path) -> None:
        last = "-----END CERTIFICATE-----\n"
        path.write_text(Path(certifi.where()).read_text().partition(last)[0] + last)

    return _once("authority.pem", install, b"one")


def _run(command: list[str], folder: Path | None = None) -> None:
    variables = {name: value for name, value in environment().items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        command, cwd=folder, env=variables, capture_output=True, text=True, timeout=_INSTALL_TIMEOUT_S, check=False
    )
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
            if folder.is_dir():
                shutil.rmtree(folder)
            install(folder)
            stamp.write_text(digest)
    return folder


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with open(path, "a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":  # make clients: beside the linters, which leave a core free, so that no test waits for it
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    prepare()
