"""The six founding examples, as people paste them: answered, shown, charged and explained, by either provider."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest
import requests

from core import ids
from tests.contract import installed
from tests.contract.conftest import Customer, Pictures, Process, Sdk
from tests.contract.matrix import NODE, PYTHON, shows
from tests.fakes import misbehaviour
from tests.fakes.providers import ProviderFake

ADDRESS, KEY = "http://127.0.0.1:8000/openai/v1", "YOUR_API_KEY"


@dataclass(frozen=True)
class Told:
    """What the request's owner is told afterwards: the items of the receipt, and the cost in dollars."""

    cost: Decimal
    executed_model: str
    items: list[tuple[str, str, bool]]
    explanation: str


@dataclass(frozen=True)
class Example:
    """One of the two things that are pasted, in each of three languages."""

    name: str
    prompt: str
    by_openai: Told
    by_fal: Told


GENERATE = Example(
    "generate",
    "A serene mountain landscape at sunset",
    # 4 160 image tokens of a high square at $40 a million, and the prompt's 10 tokens at $5 a million.
    Told(
        Decimal("0.16645"),
        "openai/gpt-image-1",
        [("prompt tokens", "10", False), ("image tokens", "4160", False)],
        "10 prompt tokens × $0.000005 + 4160 image tokens × $0.00004 = $0.16645",
    ),
    # "auto" becomes medium, whose table says $0.042; with the prompt's 10 tokens at $2 a million that is $0.04202, and
    # each request is rounded up to the next cent.
    Told(
        Decimal("0.05"),
        "fal/fal-ai/gpt-image-1/text-to-image",
        [("prompt tokens", "10", True), ("image · 1024x1024 · medium", "1", False)],
        "10 prompt tokens × $0.000002 (estimated) + 1 image · 1024x1024 · medium × $0.042 = $0.04202, which fal rounds "
        "up to $0.05 (steps of $0.01)",
    ),
)
EDIT = Example(
    "edit",
    "Add a rainbow over the mountains",
    # The same, and the 194 tokens of the picture that was given, at $10 a million.
    Told(
        Decimal("0.16838"),
        "openai/gpt-image-1",
        [("prompt tokens", "8", False), ("input image tokens", "194", False), ("image tokens", "4160", False)],
        "8 prompt tokens × $0.000005 + 194 input image tokens × $0.00001 + 4160 image tokens × $0.00004 = $0.16838",
    ),
    # The same, and 135 tokens of the picture that was given at $5 a million: OpenAI's default, a low fidelity.
    Told(
        Decimal("0.05"),
        "fal/fal-ai/gpt-image-1/edit-image",
        [("prompt tokens", "8", True), ("input image tokens", "135", True), ("image · 1024x1024 · medium", "1", False)],
        "8 prompt tokens × $0.000002 (estimated) + 135 input image tokens × $0.000005 (estimated) + 1 image · "
        "1024x1024 · medium × $0.042 = $0.042691, which fal rounds up to $0.05 (steps of $0.01)",
    ),
)
EXAMPLES = [pytest.param(example, id=example.name) for example in (GENERATE, EDIT)]
Paste = Callable[[Path, Path], str]


def run(command: list[str], folder: Path) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env=installed.for_clients(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def paste_curl(script: Path, folder: Path) -> str:
    url = orjson.loads(run(["sh", str(script)], folder))["data"][0]["url"]
    assert isinstance(url, str)
    return url


def paste_python(script: Path, folder: Path) -> str:
    return run([*installed.python("3"), str(script)], folder)


def paste_node(script: Path, folder: Path) -> str:
    return run(["node", str(script)], folder)


PASTES = [
    pytest.param("sh", paste_curl, id="curl", marks=pytest.mark.needs("curl")),
    pytest.param("py", paste_python, id="python"),
    pytest.param("mjs", paste_node, id="node", marks=pytest.mark.needs("node", "npm")),
]


class Pad:
    """Where an example is pasted: beside the picture it reads, with only the address and the key changed."""

    def __init__(self, customer: Customer, folder: Path, pictures: Pictures) -> None:
        self.customer, self.folder = customer, folder
        shutil.copy(pictures.source, folder / "source.png")
        self._written: list[Path] = []

    def write(self, name: str, *, beside: Path | None = None) -> Path:
        """The script; `beside` is where JavaScript looks for its packages from."""
        text = (installed.HERE / "examples" / name).read_text()
        assert text.count(ADDRESS) == text.count(KEY) == 1
        script = (beside or self.folder) / f"{ids.new().hex}.{name.rpartition('.')[2]}"
        script.write_text(text.replace(ADDRESS, self.customer.base_url).replace(KEY, self.customer.key))
        self._written.append(script)
        return script

    def clear(self) -> None:
        for script in self._written:
            script.unlink()


@pytest.fixture
def pad(customer: Customer, tmp_path: Path, pictures: Pictures) -> Any:
    pad = Pad(customer, tmp_path, pictures)
    yield pad
    pad.clear()


Pasted = Callable[..., str]


@pytest.fixture
def pasted(pad: Pad, process: Callable[[str], Process]) -> Pasted:
    """What an example prints, of a program that starts; `running` takes one that is there where starting takes long."""

    def pasted(example: Example, kind: str, paste: Paste, *, running: bool) -> str:
        if running and kind != "sh":
            paste = process("python 3" if kind == "py" else "node").paste
        beside = installed.node_folder() if kind == "mjs" else None
        return paste(pad.write(f"{example.name}.{kind}", beside=beside), pad.folder)

    return pasted


def assert_shows_a_picture(url: str) -> None:
    """`data[0].url` is there for whoever has it, with a stray Authorization header too."""
    for headers in ({}, {"Authorization": "Bearer sk-something-stray"}):
        reply = requests.get(url, headers=headers, timeout=10)
        assert (reply.status_code, reply.headers["Content-Type"]) == (200, "image/png")
        assert reply.content.startswith(b"\x89PNG")


def the_request(customer: Customer, example: Example) -> dict[str, Any]:
    """The one request there is, whole, as its owner looks it up."""
    listed = requests.get(f"{customer.server.url}/v1/requests", headers=customer.headers, timeout=10).json()["data"]
    assert len(listed) == 1
    address = f"{customer.server.url}/v1/requests/{listed[0]['id']}"
    found: dict[str, Any] = requests.get(address, headers=customer.headers, timeout=10).json()
    assert (found["status"], found["asked"]["prompt"], found["simulated"]) == ("completed", example.prompt, False)
    return found


def assert_told(customer: Customer, found: dict[str, Any], told: Told) -> None:
    """The receipt explains exactly what left the balance."""
    receipt = found["receipt"]
    assert receipt["executed_model"] == told.executed_model
    assert [(item["label"], item["quantity"], item["estimated"]) for item in receipt["items"]] == told.items
    assert receipt["explanation"] == told.explanation
    assert Decimal(receipt["charged"]) == Decimal(receipt["total"]) == told.cost == Decimal(str(found["cost"]))
    balance = requests.get(f"{customer.server.url}/v1/balance", headers=customer.headers, timeout=10).json()
    assert Decimal(str(balance["available"]["amount"])) == Decimal(5) - told.cost


@pytest.mark.parametrize("example", EXAMPLES)
@pytest.mark.parametrize(("kind", "paste"), PASTES)
def test_openai_answers_at_the_cost_of_its_tokens(
    customer: Customer, fake: ProviderFake, pasted: Pasted, example: Example, kind: str, paste: Paste
) -> None:
    # One example of each language is run as whoever pastes it does.
    assert_shows_a_picture(pasted(example, kind, paste, running=example is EDIT))
    found = the_request(customer, example)
    assert [(one["provider"], one["status"]) for one in found["attempts"]] == [("openai", "succeeded")]
    assert found["adjustments"] == []
    assert found["receipt"]["evidence"]["usage"]["output_tokens"] == 4160
    assert_told(customer, found, example.by_openai)


@pytest.mark.parametrize("example", EXAMPLES)
@pytest.mark.parametrize(("kind", "paste"), PASTES)
def test_fal_answers_when_openai_fails_at_its_rounded_up_cent(
    customer: Customer, fake: ProviderFake, pasted: Pasted, example: Example, kind: str, paste: Paste
) -> None:
    for route in ("openai", "edits"):
        fake.behave(misbehaviour.status(500), on=route)
    assert_shows_a_picture(pasted(example, kind, paste, running=True))  # who answers is our affair
    found = the_request(customer, example)
    assert [(one["provider"], one["status"]) for one in found["attempts"]] == [
        ("openai", "failed"),
        ("fal", "succeeded"),
    ]
    assert [(one["parameter"], one["used"]) for one in found["adjustments"]] == [("quality", "medium")]
    assert_told(customer, found, example.by_fal)
    assert found["receipt"]["rounding"][0]["rule"] == "each request up to the next $0.01"


@shows("founding example, generate", "founding example, edit", clients=PYTHON + NODE)
def test_every_version_runs_the_examples(customer: Customer, fake: ProviderFake, pad: Pad, sdk: Sdk) -> None:
    for name in ("generate", "edit"):
        beside = None if sdk.client.is_python else installed.node_folder(sdk.client.package)
        script = pad.write(f"{name}.{'py' if sdk.client.is_python else 'mjs'}", beside=beside)
        assert_shows_a_picture(sdk.paste(script, pad.folder))
    assert [seen.route for seen in fake.requests] == ["openai", "edits"]
