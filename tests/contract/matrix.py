"""Which client is shown to do what: declared by the tests themselves, and held to docs/compatibility.md."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest


@dataclass(frozen=True)
class Client:
    """One client as a column of the table: which process speaks it, and what its version is called in the locks."""

    name: str
    process: str
    version: str
    package: str = "openai"  # of JavaScript: the name it is imported by
    through: str | None = None  # a client that is not OpenAI's own
    is_async: bool = False

    @property
    def is_python(self) -> bool:
        return self.process != "node"


_PYTHON = [Client(f"python {major}", f"python {major}", f"openai {major}") for major in "123"]
_ASYNC = [
    Client(f"python {major} async", f"python {major}", f"openai {major}", is_async=True) for major in "123"
]  # fmt: skip
_NODE = [
    Client("node 4", "node", "openai4", "openai4"),
    Client("node 5", "node", "openai5", "openai5"),
    Client("node 6", "node", "openai6", "openai6"),
    Client("node 7", "node", "openai"),
]
_OTHERS = [
    Client("AI SDK openai", "node", "@ai-sdk/openai", through="ai openai"),
    Client("AI SDK compatible", "node", "@ai-sdk/openai-compatible", through="ai compatible"),
    Client("LangChain JS", "node", "@langchain/openai", through="langchain"),
    Client("LangChain Python", "python 2", "langchain-community", through="langchain"),
    Client("LiteLLM", "python 2", "litellm", through="litellm"),
]
CLIENTS = {client.name: client for client in [*_PYTHON, *_ASYNC, *_NODE, *_OTHERS]}
PYTHON, NODE = [client.name for client in _PYTHON], [client.name for client in _NODE]
AI_SDK = [client.name for client in _OTHERS if client.name.startswith("AI SDK")]
LANGCHAIN = [client.name for client in _OTHERS if client.name.startswith("LangChain")]
LITELLM = ["LiteLLM"]
SDKS = [client.name for client in [*_PYTHON, *_ASYNC, *_NODE]]
STREAMING = [name for name in SDKS if name != "node 4"]
OTHERS = [client.name for client in _OTHERS]
# Between the oldest and the newest of each language: each test of the suite takes one of them, in turn; `make prove`
# takes them all.
BETWEEN = ("python 2", "node 6", "python 1 async", "node 5", "python 2 async", "node 4")
_turns = itertools.count()

# The rows of the table.
CAPABILITIES = (
    "generate, `url`",
    "generate, `b64_json`",
    "generate, neither asked for",
    "list models",
    "one model, with a slash",
    "edit, open file",
    "edit, bytes",
    "edit, file in memory",
    "edit, named and typed",
    "edit, several images",
    "edit, mask",
    "variation",
    "stream a generation",
    "stream an edit",
    "error in a stream",
    "errors 400, 401, 402, 404",
    "error 429",
    "lost reply costs once",
    "lost reply of an edit",
    "`Idempotency-Key`",
    "founding example, generate",
    "founding example, edit",
)
# (capability, client): every cell that some test shows, filled when the modules of the tests are imported.
SHOWN: set[tuple[str, str]] = set()
# Those of them that `make test` shows.
SHOWN_BY_THE_SUITE: set[tuple[str, str]] = set()

_Test = Callable[..., None]


def shows(*capabilities: str, clients: Sequence[str]) -> Callable[[_Test], _Test]:
    """Run a test with each of these clients; it is what the table's cells stand on."""
    assert set(capabilities) <= set(CAPABILITIES), capabilities
    between = [name for name in BETWEEN if name in clients]
    left_out = {*between} - {between[next(_turns) % len(between)]} if between else set()
    parameters: list[Any] = []
    for name in clients:
        cells = {(capability, name) for capability in capabilities}
        SHOWN.update(cells)
        marks = [] if CLIENTS[name].is_python else [pytest.mark.needs("node", "npm")]
        if name in left_out:
            marks.append(pytest.mark.prove)
        else:
            SHOWN_BY_THE_SUITE.update(cells)
        parameters.append(pytest.param(name, marks=marks))
    return pytest.mark.parametrize("sdk", parameters, indirect=True)
