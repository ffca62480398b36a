"""Python clients that are not OpenAI's own: LiteLLM as a library, and LangChain's tool."""

import asyncio
from typing import Any

import sdk


def through_litellm(command: dict[str, Any]) -> Any:
    import litellm

    litellm.suppress_debug_info = True
    asked = {name: sdk.given(value) for name, value in command["with"].items()}
    asked |= {"api_base": command["base_url"], "api_key": command["api_key"], **command.get("how", {})}
    if command.get("mode") == "async":
        calls = {"generate": litellm.aimage_generation, "edit": litellm.aimage_edit}
        return asyncio.run(calls[command["do"]](**asked)).model_dump()
    calls = {"generate": litellm.image_generation, "edit": litellm.image_edit, "vary": litellm.image_variation}
    return calls[command["do"]](**asked).model_dump()


def through_langchain(command: dict[str, Any]) -> Any:
    from langchain_community.utilities.dalle_image_generator import DallEAPIWrapper

    asked = dict(command["with"])
    prompt = asked.pop("prompt")
    how = {"base_url": command["base_url"], "api_key": command["api_key"], **command.get("how", {})}
    return DallEAPIWrapper(**how, **asked).run(prompt)


def outcome(command: dict[str, Any]) -> dict[str, Any]:
    calls = {"litellm": through_litellm, "langchain": through_langchain}
    try:
        return {"answer": calls[command["through"]](command)}
    except sdk.openai.APIError as error:
        return {"error": sdk.told(error)}
