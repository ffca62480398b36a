"""The house keeps its shape: the tree, the plain `platform` folder, the wheel, the locks, and who may do what."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests import sources
from tests.sources import ROOT

PACKAGES = tuple(room.rpartition("/")[2] for room in sources.ROOMS)
IMPORT_PATH = os.pathsep.join([str(ROOT), str(ROOT / "platform")])
TREE = {
    *(".ci", ".env.example", ".gitignore", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md"),
    *("SECURITY.md", "manage.py", "pyproject.toml", "requirements", "docs", "benchmarks", "platform"),
    *("accounts", "imagesapi", "billing", "templates", "tests"),
}


def run(*command: str, folder: Path = ROOT, path: str = IMPORT_PATH) -> str:
    """What a program prints, run as an operator would; its failure is the test's."""
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


def test_it_has_the_tree_of_the_design() -> None:
    assert sources.top_level() - {".env"} == TREE


def test_it_keeps_platform_a_plain_folder() -> None:
    assert not (ROOT / "platform" / "__init__.py").exists()
    inside = {path.relative_to(ROOT).parts[1] for path in sources.files() if path.is_relative_to(ROOT / "platform")}
    assert inside == {"config", "core", "ui", "web"}


def test_it_names_no_package_like_a_standard_module() -> None:
    taken = {*PACKAGES, "templates", "tests", "benchmarks", "docs", "requirements"} & sys.stdlib_module_names
    assert taken == set()


def test_it_leaves_pythons_own_platform_alone_under_pytest() -> None:
    import platform

    assert Path(platform.__file__) == Path(os.__file__).with_name("platform.py")


def test_it_leaves_pythons_own_platform_alone_under_manage_py() -> None:
    code = "import sys; sys.argv = ['manage.py', 'version']; import manage; manage.main()"
    code += "; import platform, core; print(platform.__file__); print(core.__file__)"
    printed = run(sys.executable, "-c", code)
    standard, core = printed.splitlines()[-2:]
    assert Path(standard) == Path(os.__file__).with_name("platform.py")
    assert Path(core) == ROOT / "platform" / "core" / "__init__.py"


def test_it_leaves_pythons_own_platform_alone_under_gunicorn(tmp_path: Path) -> None:
    app = "import platform\nprint(platform.__file__)\ndef application(environ, start_response): ...\n"
    (tmp_path / "probe.py").write_text(app)
    command = (sys.executable, "-m", "gunicorn", "--check-config", "-c", "python:config.gunicorn", "probe")
    printed = run(*command, path=os.pathsep.join([IMPORT_PATH, str(tmp_path)]))
    assert Path(printed) == Path(os.__file__).with_name("platform.py")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as hatchling builds it, without any network."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder))
    (found,) = folder.glob("*.whl")
    return found


def test_it_builds_a_wheel_with_everything_in_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for path in sources.files():
        inside = path.relative_to(ROOT).as_posix()
        if inside.startswith((*(f"{room}/" for room in sources.ROOMS), "templates/")):
            assert inside.removeprefix("platform/") in names, inside
    assert not [name for name in names if name.startswith(("platform", "tests", "benchmarks", "var"))]


def test_it_imports_from_the_wheel(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = f"import platform, {', '.join(PACKAGES)}; print(platform.__file__); print(core.__file__)"
    standard, core = run(sys.executable, "-c", code, folder=tmp_path, path=str(tmp_path)).splitlines()
    assert Path(standard) == Path(os.__file__).with_name("platform.py")
    assert Path(core) == tmp_path / "core" / "__init__.py"


def test_it_locks_every_requirement_and_names_no_index() -> None:
    pinned = re.compile(
        r"[A-Za-z0-9][A-Za-z0-9._-]*(\[[a-z,-]+\])?==\S+( ; [^\\]+)? \\\n( +--hash=sha256:[0-9a-f]{64}( \\)?\n)+"
    )
    for path in (ROOT / "requirements").glob("*.txt"):
        text = path.read_text()
        for forbidden in ("://", "--index", "--find-links", "--extra-index", "--trusted-host"):
            assert forbidden not in text, f"{path.name} says {forbidden}"
        bare = "".join(line for line in text.splitlines(keepends=True) if line.strip() and line.lstrip()[0] != "#")
        assert pinned.sub("", bare) == "", f"{path.name} holds a line without its hash"
        assert len(pinned.findall(bare)) > 5


def test_it_is_under_the_apache_license() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    assert len(text) > 10_000


def test_it_opens_connections_only_under_core_http() -> None:
    """The database has its own, and three files ask the machine about its own name and port."""
    clients = (
        *("requests", "urllib3", "httpx", "aiohttp", "socket", "ssl", "http.client", "urllib.request", "ftplib"),
        *("smtplib", "stripe", "boto3"),
    )
    allowed = {
        "platform/core/_lines.py": {"requests", "socket", "ssl"},  # of requests the certificates that it trusts
        "platform/core/_replies.py": {"socket", "ssl"},  # reads from those
        "platform/core/_deadlines.py": {"socket"},  # shuts them down
        "platform/core/_pinned.py": {"requests", "urllib3", "socket"},
        "platform/core/_targets.py": {"requests", "urllib3"},  # reads URLs
        "platform/core/outside.py": {"socket"},  # getaddrinfo
        "billing/stripe_gateway.py": {"stripe"},  # Stripe's own package, which brings its own transport
        "platform/config/settings.py": {"socket"},  # gethostname
        "platform/config/gunicorn.py": {"socket"},  # a type
        "platform/config/supervisor.py": {"socket"},  # asks whether the port is free
    }
    for module in sources.product():
        for line, name in sources.imports(module):
            used = [client for client in clients if name == client or name.startswith(f"{client}.")]
            assert set(used) <= allowed.get(module.path, set()), f"{module.path}:{line} imports {name}"
            if module.path != "platform/core/http.py" and not module.path.startswith("platform/core/_"):
                assert not name.startswith("core._"), f"{module.path}:{line} goes around core.http with {name}"


def test_it_runs_other_programs_only_where_that_is_the_job() -> None:
    allowed = {"platform/core/database.py", "platform/config/supervisor.py", "imagesapi/workshop.py"}
    dangerous = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "os.execv", "os.fork"}
    for module in sources.product():
        names = {name.partition(".")[0] for _, name in sources.imports(module)}
        assert not names & {"pickle", "marshal", "shelve", "dill", "pty"}, module.path
        assert module.path in allowed or not names & {"subprocess", "multiprocessing"}, module.path
        for call, name in sources.calls(module):
            assert name not in dangerous, f"{module.path}:{call.lineno} calls {name}"


def test_it_writes_money_only_in_the_ledger() -> None:
    """The tables by SQL in the migrations alone, their functions by billing.ledger alone, and never through the ORM."""
    writes = re.compile(r"\b(INSERT INTO|UPDATE|DELETE FROM|TRUNCATE|MERGE INTO|COPY)\s+billing_", re.IGNORECASE)
    moves = re.compile(r"\bledger_(hold|settle|void|grant|grant_until|post|expire|fund|freeze)\s*\(")
    tables = {"Account", "Hold", "HoldLimit", "LimitUse", "Transfer"}
    for module in sources.product():
        assert not writes.search(module.text), f"{module.path} writes a table of billing"
        if not module.path.startswith("billing/"):
            assert not moves.search(module.text), f"{module.path} moves money past billing.ledger"
        if module.path not in ("billing/ledger.py", "billing/models.py"):
            used = [name for _, name in sources.imports(module) if name == "billing.models"]
            used += [name for _, name in sources.imports(module) if name in {f"billing.models.{it}" for it in tables}]
            assert used == [], f"{module.path} reaches into billing's tables: {used}"


def test_it_shows_raw_keys_only_to_accounts_keys() -> None:
    for module in sources.product():
        if module.path in ("accounts/keys.py", "accounts/models.py"):
            continue
        assert "secret_hash" not in module.text, module.path
        assert '"api-key"' not in module.text, f"{module.path} derives the key that API keys are hashed with"


def test_it_keeps_files_and_functions_short() -> None:
    for module in sources.product():
        lines = module.text.count("\n")
        assert lines <= 500, f"{module.path} has {lines} lines: it is two things"
        for function in sources.functions(module):
            length = (function.end_lineno or 0) - function.lineno + 1
            assert length <= 60, f"{module.path}:{function.lineno} {function.name} has {length} lines"


def test_it_brings_no_file_that_runs_at_every_start_of_python() -> None:
    """A .pth file with code in it was how a compromised release of another gateway stole keys."""
    site = Path(importlib.util.find_spec("django").origin or "").parents[1]  # type: ignore[union-attr]
    known = {"distutils-precedence.pth", "_virtualenv.pth", "_pixelpar.pth"}
    running = {path.name for path in site.glob("*.pth") if re.search(r"^import\s", path.read_text(), re.MULTILINE)}
    assert running <= known
