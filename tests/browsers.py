"""A headless Chromium for tests, driven over its debugging pipe: no further package is needed."""

from __future__ import annotations

import base64
import contextlib
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import orjson
import pytest

TIMEOUT_S = 30
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-extensions", "--disable-dev-shm-usage"),
    *("--remote-debugging-pipe", "--window-size=1200,900", "--no-proxy-server"),
)


class Browser:
    """One page at a time. Messages are JSON, ended by a NUL, on the file descriptors 3 and 4 of the browser."""

    def __enter__(self) -> Self:
        self._profile = tempfile.mkdtemp(prefix="pixelpar-chromium-")
        theirs_in, self._to = os.pipe()
        self._from, theirs_out = os.pipe()
        program = shutil.which("chromium")
        assert program is not None
        command = [program, *_FLAGS, f"--user-data-dir={self._profile}", "about:blank"]
        # The shell puts the pipes where the browser looks for them, whatever their numbers are here.
        script = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
        self._process = subprocess.Popen(
            ["bash", "-c", script, "browser", *command],
            pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._number, self._rest, self._session = 0, b"", ""
        return self

    def __exit__(self, *error: object) -> None:
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        self._process.kill()
        self._process.wait()
        os.close(self._to)
        os.close(self._from)
        shutil.rmtree(self._profile, ignore_errors=True)

    @contextlib.contextmanager
    def person(self) -> Iterator[Self]:
        """A page of somebody's own: no cookie, nothing stored, nothing of who was here before."""
        context = self._ask("Target.createBrowserContext")["browserContextId"]
        target = self._ask("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        self._session = self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._ask("Page.enable")
        try:
            yield self
        finally:
            self._session = ""
            self._ask("Target.disposeBrowserContext", browserContextId=context)

    def _ask(self, method: str, **parameters: Any) -> Any:
        self._number += 1
        asked = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            asked["sessionId"] = self._session
        os.write(self._to, orjson.dumps(asked) + b"\0")
        deadline_s = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline_s:
            for message in self._messages():
                if message.get("id") == self._number:
                    if _is_between_pages(message):
                        return {}
                    assert "error" not in message, message
                    return message["result"]
        raise AssertionError(f"the browser did not answer {method}")

    def _messages(self) -> Iterator[Any]:
        if select.select([self._from], [], [], 0.1)[0]:
            self._rest += os.read(self._from, 1 << 20)
        *whole, self._rest = self._rest.split(b"\0")
        yield from map(orjson.loads, whole)

    # What a person does

    def open(self, url: str) -> None:
        self._ask("Page.navigate", url=url)
        self.wait("document.readyState === 'complete'")

    def cookie(self, name: str, value: str, *, url: str) -> None:
        self._ask("Network.setCookie", name=name, value=value, url=url)

    def resize(self, width_px: int, height_px: int) -> None:
        shape = {"width": width_px, "height": height_px, "deviceScaleFactor": 1, "mobile": width_px < 500}
        self._ask("Emulation.setDeviceMetricsOverride", **shape)

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        answer = self._ask("Runtime.evaluate", expression=script, returnByValue=True)
        return answer.get("result", {}).get("value")

    def wait(self, script: str) -> None:
        """Until an expression is true; between two pages it may not be answered at all."""
        deadline_s = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline_s:
            if self.run(script):
                return
            time.sleep(0.05)
        raise AssertionError(f"never came true: {script}; the page is {self.address}: {self.text[:800]}")

    def wait_for_text(self, text: str) -> None:
        self.wait(f"!!document.body && document.body.innerText.includes({orjson.dumps(text).decode()})")

    def fill(self, selector: str, text: str) -> None:
        """Replace what a field holds, as by typing."""
        self.run(f"(() => {{ const it = {_find(selector)}; it.focus(); it.select(); }})()")
        self._ask("Input.insertText", text=text)

    def click(self, selector: str) -> None:
        self.wait(f"!!{_find(selector)}")
        self.run(f"{_find(selector)}.click()")

    @property
    def text(self) -> str:
        return str(self.run("document.body ? document.body.innerText : ''"))

    @property
    def address(self) -> str:
        return str(self.run("location.href"))

    def picture(self, path: Path) -> None:
        shot = self._ask("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))


def _is_between_pages(message: Any) -> bool:
    """The page it was asked of is gone, and the next one will be asked again."""
    return "navigated or closed" in message.get("error", {}).get("message", "")


def _find(selector: str) -> str:
    return f"document.querySelector({orjson.dumps(selector).decode()})"


@pytest.fixture(scope="session")
def shared_browser() -> Iterator[Browser]:
    with Browser() as found:
        yield found


@pytest.fixture
def browser(shared_browser: Browser) -> Iterator[Browser]:
    with shared_browser.person() as found:
        yield found
