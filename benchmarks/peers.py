"""The gateways we compare with, each in an environment of its own under the benchmark's data folder, never ours."""

from __future__ import annotations

import abc
import json
import os
import secrets
import shutil
import subprocess
import venv
from pathlib import Path

from benchmarks.processes import HOST
from benchmarks.targets import MODEL, Missing, Target

_INSTALL_TIMEOUT_S = 1_200

# Runs inside the peer's environment: its own requirements and those of its proxy, without the pin of certifi, which
# not every index serves.
_LIST_REQUIREMENTS = """
import importlib.metadata
from pip._vendor.packaging.requirements import Requirement
for text in importlib.metadata.requires("litellm"):
    found = Requirement(text)
    if found.marker is None or any(found.marker.evaluate({"extra": extra}) for extra in ("", "proxy")):
        found.marker = None
        print("certifi" if found.name == "certifi" else found)
"""


class Peer(Target):
    """A foreign gateway that forwards to the fake upstream."""

    package = ""
    pinned = ""

    def __init__(self, folder: Path, upstream: Target, *, environments: Path) -> None:
        super().__init__(folder)
        self._upstream = upstream
        self.home = environments / f"{self.name}-{self.pinned}"
        self.version = self.pinned

    def prepare(self) -> None:
        complete = self.home / "complete"
        if complete.exists():
            return
        shutil.rmtree(self.home, ignore_errors=True)
        self.home.mkdir(parents=True)
        try:
            self.install()
        except FileNotFoundError as error:
            raise Missing(f"{error.filename} is not installed") from error
        except subprocess.TimeoutExpired as error:
            raise Missing(f"installing took longer than {_INSTALL_TIMEOUT_S} s") from error
        complete.touch()

    @abc.abstractmethod
    def install(self) -> None:
        """Put it into an environment of its own."""

    def _run(self, *command: str | Path) -> str:
        done = subprocess.run(  # noqa: S603 - commands of this file
            [str(part) for part in command],
            cwd=self.home,
            capture_output=True,
            text=True,
            check=False,
            timeout=_INSTALL_TIMEOUT_S,
        )
        if done.returncode:
            raise Missing(
                f"{Path(command[0]).name} could not install {self.package} {self.pinned}: {done.stderr[-600:]}"
            )
        return done.stdout


class LiteLLM(Peer):
    """LiteLLM's proxy without a database; it insists on a master key, so callers send that one."""

    name = "litellm"
    package = "litellm"
    pinned = "1.106.10"
    start_timeout_s = 180.0

    def __init__(self, folder: Path, upstream: Target, *, environments: Path) -> None:
        super().__init__(folder, upstream, environments=environments)
        self._key = f"sk-{secrets.token_hex(32)}"
        self.headers = {"Authorization": f"Bearer {self._key}"}

    def install(self) -> None:
        venv.create(self.home / "venv", with_pip=True)
        python = self.home / "venv/bin/python"
        pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        self._run(*pip, "--no-deps", f"{self.package}=={self.pinned}")
        wanted = self.home / "requirements.txt"
        wanted.write_text(self._run(python, "-c", _LIST_REQUIREMENTS))
        self._run(*pip, "-r", wanted)

    @property
    def ready_url(self) -> str:
        return f"http://{HOST}:{self.port}/health/liveliness"

    def command(self) -> list[str | Path]:
        config = self.folder / "litellm.json"  # JSON is YAML
        provider = {
            "model": f"openai/{MODEL}",
            "api_base": f"http://{HOST}:{self._upstream.port}/v1",
            "api_key": "sk-benchmark",
        }
        settings = {"model_list": [{"model_name": MODEL, "litellm_params": provider}]}
        config.write_text(json.dumps(settings))
        program = self.home / "venv/bin/litellm"
        workers = str(os.cpu_count() or 1)
        return [program, "--config", config, "--host", HOST, "--port", str(self.port), "--num_workers", workers]

    def environment(self) -> dict[str, str]:
        hidden = ("DATABASE_URL", "OPENAI_API_KEY", "OPENAI_BASE_URL", "HOST", "PORT")
        return {
            **{name: value for name, value in os.environ.items() if name not in hidden},
            "LITELLM_MASTER_KEY": self._key,
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_TELEMETRY": "False",
            "LITELLM_MODE": "PRODUCTION",
            "LITELLM_LOG": "ERROR",
        }


class Portkey(Peer):
    """Portkey's gateway as published: one node process, no authentication, no database."""

    name = "portkey"
    package = "@portkey-ai/gateway"
    pinned = "1.15.2"

    def __init__(self, folder: Path, upstream: Target, *, environments: Path) -> None:
        super().__init__(folder, upstream, environments=environments)
        self.headers = {"Authorization": "Bearer sk-benchmark", "x-portkey-provider": "openai"}

    def install(self) -> None:
        if shutil.which("node") is None or shutil.which("npm") is None:
            raise Missing("node and npm are not installed")
        wanted = f"{self.package}@{self.pinned}"
        self._run("npm", "install", "--prefix", self.home, "--no-fund", "--no-audit", "--ignore-scripts", wanted)

    def start(self) -> None:
        self.headers["x-portkey-custom-host"] = f"http://{HOST}:{self._upstream.port}/v1"
        super().start()

    def command(self) -> list[str | Path]:
        script = self.home / "node_modules" / self.package / "build/start-server.js"
        return ["node", script, f"--port={self.port}", "--headless"]

    def environment(self) -> dict[str, str]:
        return {**os.environ, "NODE_ENV": "production"}


def all_of(folder: Path, upstream: Target, *, environments: Path) -> list[Target]:
    return [kind(folder, upstream, environments=environments) for kind in (LiteLLM, Portkey)]
