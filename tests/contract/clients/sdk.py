"""Speaks to the API through the openai package that is installed: a JSON command a line in, its outcome a line out.

{"do": a verb, "base_url": ..., "api_key": ..., "mode": "sync" | "async", "how": what the client is made with,
"with": what the verb's method is called with}. A file is described: {"form": ..., "path": ...}.
"""

import asyncio
import contextlib
import importlib.metadata
import io
import json
import os
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import openai

CALLS: dict[str, Callable[[Any, dict[str, Any]], Any]] = {
    "generate": lambda client, asked: client.images.generate(**asked),
    "edit": lambda client, asked: client.images.edit(**asked),
    "vary": lambda client, asked: client.images.create_variation(**asked),
    "models": lambda client, asked: client.models.list(),
    "model": lambda client, asked: client.models.retrieve(asked["id"]),
}


def given(value: Any) -> Any:
    """A described file in the form that is asked for; everything else as it is."""
    if isinstance(value, list):
        return [given(entry) for entry in value]
    if not isinstance(value, dict) or "form" not in value:
        return value
    path = pathlib.Path(value["path"])
    forms: dict[str, Callable[[], Any]] = {
        "opened": lambda: path.open("rb"),
        "bytes": path.read_bytes,
        "memory": lambda: io.BytesIO(path.read_bytes()),
        "named": lambda: (value["name"], path.read_bytes(), value["type"]),
    }
    return forms[value["form"]]()


def plain(found: Any) -> Any:
    if isinstance(found, list):
        return [plain(entry) for entry in found]
    told = found.model_dump()
    return {**told, "_request_id": found._request_id} if hasattr(found, "_request_id") else told


def told(error: openai.APIError) -> dict[str, Any]:
    facts = {name: getattr(error, name, None) for name in ("code", "type", "param", "request_id")}
    return {"class": type(error).__name__, "status": getattr(error, "status_code", None), "text": str(error), **facts}


def asked_of(command: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    how = {"base_url": command["base_url"], "api_key": command["api_key"], **command.get("how", {})}
    return how, {name: given(value) for name, value in command.get("with", {}).items()}


def speak(command: dict[str, Any], seen: list[Any]) -> Any:
    how, asked = asked_of(command)
    with openai.OpenAI(**how) as client:
        found = CALLS[command["do"]](client, asked)
        if not asked.get("stream") and command["do"] != "models":
            return found
        seen.extend(found)  # as far as it comes
        return seen


async def speak_async(command: dict[str, Any], seen: list[Any]) -> Any:
    how, asked = asked_of(command)
    async with openai.AsyncOpenAI(**how) as client:
        found = CALLS[command["do"]](client, asked)
        if command["do"] != "models":
            found = await found
        if not asked.get("stream") and command["do"] != "models":
            return found
        async for entry in found:
            seen.append(entry)  # noqa: PERF401 - as far as it comes
        return seen


def outcome(command: dict[str, Any]) -> dict[str, Any]:
    seen: list[Any] = []
    try:
        if command.get("mode") == "async":
            return {"answer": plain(asyncio.run(speak_async(command, seen)))}
        return {"answer": plain(speak(command, seen))}
    except openai.APIError as error:
        return {"error": told(error), "seen": plain(seen)}


def paste(script: str, folder: str) -> dict[str, Any]:
    """Run an example in this folder, as if it stood alone; what it prints."""
    os.chdir(folder)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(pathlib.Path(script).read_text(), script, "exec"), {"__name__": "__main__"})
    return {"answer": printed.getvalue().strip()}


def versions() -> dict[str, str]:
    installed = ("openai", "litellm", "langchain-community")
    return {one.name: one.version for name in installed for one in importlib.metadata.distributions(name=name)}


def done(command: dict[str, Any]) -> dict[str, Any]:
    if command["do"] == "paste":
        return paste(**command["with"])
    if "through" in command:
        import wrappers

        return wrappers.outcome(command)
    return outcome(command)


if __name__ == "__main__":
    print(json.dumps(versions()), flush=True)
    for line in sys.stdin:
        print(json.dumps(done(json.loads(line))), flush=True)
