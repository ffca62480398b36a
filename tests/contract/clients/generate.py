"""Speaks to the API through the openai package that is installed: a JSON command a line in, its outcome a line out.

{"do": "generate" | "models" | "model", "base_url": ..., "api_key": ..., "with": {...}}
"""

import json
import sys
from typing import Any

import openai


def answer(command: dict[str, Any]) -> object:
    client = openai.OpenAI(base_url=command["base_url"], api_key=command["api_key"])
    asked = command.get("with", {})
    if command["do"] == "generate":
        response = client.images.generate(**asked)
        return {**response.model_dump(), "_request_id": response._request_id}
    if command["do"] == "models":
        return [model.model_dump() for model in client.models.list()]
    return client.models.retrieve(asked["id"]).model_dump()


def outcome(command: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"answer": answer(command)}
    except openai.APIStatusError as error:
        facts = {name: getattr(error, name) for name in ("code", "type", "param")}
        return {"error": {"class": type(error).__name__, "status": error.status_code, "text": str(error), **facts}}


print(json.dumps({"version": openai.__version__}), flush=True)
for line in sys.stdin:
    print(json.dumps(outcome(json.loads(line))), flush=True)
