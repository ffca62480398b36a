"""What is measured: the upstream itself, nginx as a bare proxy, Pixelpar, and (in peers.py) the other gateways."""

from __future__ import annotations

import abc
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks import processes
from benchmarks.processes import HOST

ROOT = Path(__file__).resolve().parents[1]
MODEL = "gpt-image-1"
SMALL_BYTES = 2_048
LARGE_BYTES = 1_500_000
_PYTHON = Path(sys.executable)


class Missing(Exception):
    """A target cannot run here; the message says why and what would help."""


class Target(abc.ABC):
    """One server under test. `prepare` may take minutes once; `start` gives a fresh process tree."""

    name = ""
    version = ""
    path = "/v1/images/generations"
    start_timeout_s = 60.0

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = 0
        self.headers: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    @property
    def ready_url(self) -> str:
        return f"http://{HOST}:{self.port}/"

    def prepare(self) -> None:  # noqa: B027 - most need nothing
        """Install or check what it needs; raises Missing."""

    @abc.abstractmethod
    def command(self) -> list[str | Path]:
        """The program and its arguments."""

    def environment(self) -> dict[str, str]:
        return dict(os.environ)

    def start(self) -> None:
        self.port = processes.free_port()
        self._process = processes.start(self.command(), log=self.log, env=self.environment(), cwd=self.working_folder())
        processes.wait_until_answers(self.ready_url, self._process, log=self.log, timeout_s=self.start_timeout_s)

    def working_folder(self) -> Path:
        return self.folder

    def stop(self) -> None:
        if self._process is not None:
            processes.stop(self._process)
            self._process = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def roots(self) -> list[int]:
        """The processes whose trees are the target."""
        return [self._process.pid] if self._process is not None else []

    def request(self, size_bytes: int, delay_ms: int = 0) -> str:
        """The whole HTTP request as text; the prompt steers the fake upstream."""
        body = json.dumps(
            {
                "model": MODEL,
                "prompt": f"bench-bytes={size_bytes} bench-delay-ms={delay_ms}",
                "n": 1,
                "size": "1024x1024",
                "quality": "low",
            }
        )
        headers = {
            "Host": f"{HOST}:{self.port}",
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            **self.headers,
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"POST {self.path} HTTP/1.1\r\n{lines}\r\n{body}"

    def plan(self, size_bytes: int, delay_ms: int = 0) -> dict[str, object]:
        """This target in a load plan; nine tenths of the upstream's body must come back."""
        return {
            "host": HOST,
            "port": self.port,
            "request": self.request(size_bytes, delay_ms),
            "min_bytes": size_bytes * 9 // 10,
        }


class Upstream(Target):
    """The fake provider, measured directly: what a gateway adds is added to this."""

    name = "upstream"
    version = "own"

    def command(self) -> list[str | Path]:
        return [_PYTHON, "-m", "benchmarks.upstream", "--port", str(self.port)]

    def working_folder(self) -> Path:
        return ROOT


_NGINX = """\
daemon off;
pid {folder}/nginx.pid;
error_log stderr warn;
worker_processes {processes};
worker_rlimit_nofile 20000;
events {{ worker_connections 16384; }}
http {{
  access_log off;
  client_body_temp_path {folder}/client;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_requests 1000000;
  keepalive_timeout 300s;
  upstream provider {{ server {host}:{upstream_port}; keepalive 4096; keepalive_requests 1000000; }}
  server {{
    listen {host}:{port} backlog=4096;
    client_max_body_size 64m;
    client_body_buffer_size 128k;
    location / {{
      proxy_pass http://provider;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_read_timeout 300s;
      proxy_buffers 64 32k;
      proxy_max_temp_file_size 0;
    }}
  }}
}}
"""


class Nginx(Target):
    """A bare proxy with kept-alive connections and no disk: the limit of what any gateway could reach."""

    name = "nginx"

    def __init__(self, folder: Path, upstream: Target) -> None:
        super().__init__(folder)
        self._upstream = upstream
        self._binary = ""

    def prepare(self) -> None:
        self._binary = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin") or ""
        if not self._binary:
            raise Missing("nginx is not installed; on Debian: apt-get install nginx-light, or nginx")
        said = subprocess.run([self._binary, "-v"], capture_output=True, text=True, check=True)  # noqa: S603
        self.version = said.stderr.strip().rpartition("/")[2]

    def command(self) -> list[str | Path]:
        # The workers may run under another account: the folder must let them through.
        self.folder.chmod(0o755)
        path = self.folder / "nginx.conf"
        path.write_text(
            _NGINX.format(
                folder=self.folder,
                host=HOST,
                port=self.port,
                upstream_port=self._upstream.port,
                processes=os.cpu_count() or 1,
            )
        )
        return [self._binary, "-p", self.folder, "-c", path]


class Pixelpar(Target):
    """This project as an operator runs it: web processes, worker and its own PostgreSQL in an empty data folder."""

    name = "pixelpar"
    path = "/openai/v1/images/generations"
    start_timeout_s = 120.0
    credit_dollars = 100_000

    def __init__(self, folder: Path, upstream: Target, *, settings: dict[str, str] | None = None) -> None:
        super().__init__(folder)
        self._upstream = upstream
        self.settings = settings or {}
        self.data = folder / "data"

    def prepare(self) -> None:
        if not (ROOT / "manage.py").exists():
            raise Missing("there is no manage.py yet")
        found = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
        self.version = found[1] if found else ""

    def command(self) -> list[str | Path]:
        return [_PYTHON, ROOT / "manage.py", "serve"]

    def working_folder(self) -> Path:
        return ROOT

    def environment(self) -> dict[str, str]:
        hidden = ("DATABASE_URL", "DATABASE_OWNER_URL", "FAL_KEY", "STORE_DIR", "BASE_URL")
        return {
            **{name: value for name, value in os.environ.items() if name not in hidden},
            "HOST": HOST,
            "PORT": str(self.port),
            "DATA_DIR": str(self.data),
            "OPENAI_API_KEY": "sk-benchmark",
            "OPENAI_BASE_URL": f"http://{HOST}:{self._upstream.port}/v1",
            **self.settings,
        }

    def start(self) -> None:
        super().start()
        if not self.headers:
            organization = self.manage("create_organization", "Benchmark", "--owner", "benchmark@example.com")
            slug = organization.split()[-1]
            self.manage("grant_credit", slug, str(self.credit_dollars), "--reason", "benchmark")
            key = self.manage("create_key", slug, "--name", "benchmark").split()[-1]
            self.headers = {"Authorization": f"Bearer {key}"}

    def manage(self, *arguments: str) -> str:
        """Run a management command against this data folder and return what it printed."""
        done = self.try_manage(*arguments)
        if done.returncode:
            raise processes.NotReady(f"manage.py {' '.join(arguments)}: {(done.stderr or done.stdout)[-1_500:]}")
        return done.stdout.strip()

    def try_manage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # noqa: S603 - our own commands
            [_PYTHON, ROOT / "manage.py", *arguments],
            env=self.environment(),
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=180,
        )

    def roots(self) -> list[int]:
        """The server and its database, which is a daemon of its own."""
        found = super().roots()
        for path in self._postmaster_files():
            pid = path.read_text().split("\n", 1)[0]
            if pid.isdigit() and processes.is_database(int(pid)):
                found.append(int(pid))
        return found

    def _postmaster_files(self) -> list[Path]:
        return list(self.data.glob("**/postmaster.pid")) if self.data.exists() else []

    def web_processes(self) -> list[int]:
        """Gunicorn's workers: children of a gunicorn process that have no children of their own."""
        pids = [pid for pid in processes.tree(self.roots()[0]) if "gunicorn" in processes.command_line(pid)]
        parents = {processes.parent(pid) for pid in pids}
        return [pid for pid in pids if pid not in parents and processes.parent(pid) in pids]

    def verify(self) -> tuple[bool, int, str]:
        """What `ledger verify` says: is it exact, how many holds are open, in which words."""
        done = self.try_manage("ledger", "verify")
        said = (done.stdout + done.stderr).strip()
        found = re.search(r"(\d+) of them open", said)
        return done.returncode == 0, int(found[1]) if found else -1, said[-2_000:]
